//! What is exported, and what ONNX Runtime makes of it: `bench/onnx/exported.py --golden` wrote its logits for the files that
//! these networks become.

mod networks;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::quant::{ActivationQuant, Arithmetic};
use lowbit::{ActivationBits, Graph, Isa, Quantizer, WeightBits};
use lowbit_onnx::{
    ExportError, Input, Options, Preprocessing, decode, export_float, export_quantized,
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    /// CRC-32 of the file.
    file: u32,
    /// f32, little-endian, in base64.
    logits: String,
}

fn golden() -> BTreeMap<String, Golden> {
    serde_json::from_str(include_str!("golden/exported.json")).unwrap()
}

fn floats(golden: &Golden) -> Vec<f32> {
    let bytes = STANDARD.decode(&golden.logits).unwrap();
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

fn run(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.run(images, &mut logits).unwrap();
    logits
}

fn images(graph: &Graph) -> Vec<u8> {
    networks::images(graph.input(), 12)
}

#[test]
fn eight_bit_files_give_lowbits_bits_in_onnx_runtime() {
    let golden = golden();
    let mut compared = 0;
    for graph in networks::all() {
        let Some(golden) = golden.get(&format!("{}.int8", graph.name())) else {
            continue;
        };
        let images = images(&graph);
        let weights = networks::weights(&graph);
        let model = Quantizer::new(&graph, &weights).calibrate(&images).unwrap();
        for isa in Isa::available() {
            let found = run(&IntegerModel::compile(&model, isa).unwrap(), &images);
            assert_eq!(found, floats(golden), "{} on {isa}", graph.name());
        }
        let exported = export_quantized(&model, Input::Normalized).unwrap();
        let changed = "the file changed: run bench/onnx/exported.py --golden again";
        assert_eq!(
            crc32(&exported.bytes),
            golden.file,
            "{}: {changed}",
            graph.name()
        );
        // (HardSwish is younger.)
        let opset = if graph.name() == "mixture" { 14 } else { 13 };
        assert_eq!((exported.opset, exported.notes.len()), (opset, 0));
        compared += 1;
    }
    assert_eq!(compared, 5);
}

#[test]
fn float_files_come_back_as_the_same_function() {
    for graph in networks::all().into_iter().chain(networks::tokens()) {
        let (weights, images) = (networks::weights(&graph), images(&graph));
        let expected = run(&FloatModel::new(&graph, &weights).unwrap(), &images);
        let exported = export_float(&graph, &weights, Input::Normalized).unwrap();
        // Mean and std stand in the metadata.
        let read = decode(exported.bytes, &Options::default()).unwrap();
        assert_eq!(read.preprocessing, Preprocessing::Metadata);
        assert_eq!(read.graph.normalization(), graph.normalization());
        assert_eq!(read.graph.class_names(), graph.class_names());
        let found = run(
            &FloatModel::new(&read.graph, &read.weights).unwrap(),
            &images,
        );
        let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5 * largest, "{}: {a}, {b}", graph.name());
        }
    }
}

#[test]
fn what_has_no_form_in_onnx_is_refused_and_what_changes_is_said() {
    let graph = &networks::all()[0];
    let (weights, images) = (networks::weights(graph), images(graph));
    let quantizer = || Quantizer::new(graph, &weights);
    let dynamic = quantizer().dynamic().unwrap();
    assert_eq!(dynamic.method, ActivationQuant::Dynamic);
    let error = export_quantized(&dynamic, Input::Normalized).unwrap_err();
    assert!(matches!(error, ExportError::Model(_)), "{error}");
    assert!(error.to_string().contains("--method static"), "{error}");
    let mut old = quantizer().calibrate(&images).unwrap();
    old.arithmetic = Arithmetic::RealBias;
    let exported = export_quantized(&old, Input::Pixels).unwrap();
    assert!(exported.notes[0].contains("biases"), "{:?}", exported.notes);
    let narrow = quantizer().weight_bits(WeightBits::B2);
    let narrow = narrow.activation_bits(ActivationBits::B4);
    let exported = export_quantized(&narrow.calibrate(&images).unwrap(), Input::Normalized);
    let exported = exported.unwrap();
    assert_eq!(exported.opset, 21);
    assert!(
        exported.notes[0].contains("take twice"),
        "{:?}",
        exported.notes
    );
    assert!(exported.notes[1].contains("take 4"), "{:?}", exported.notes);
    for (bits, expected) in [
        (WeightBits::Ternary, (25, 0)),
        (WeightBits::B2, (21, 1)),
        (WeightBits::B4, (21, 0)),
        (WeightBits::Odd4, (13, 1)),
    ] {
        let alone = quantizer().weight_bits(bits).weight_only().unwrap();
        let exported = export_quantized(&alone, Input::Normalized).unwrap();
        assert_eq!((exported.opset, exported.notes.len()), expected, "{bits:?}");
    }
}
