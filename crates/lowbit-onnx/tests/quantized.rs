//! Models that are quantized already: what lowbit exports comes back, and what ONNX Runtime's tools write gives ONNX Runtime's
//! logits (`bench/onnx/quantized.py --golden` wrote both).

mod logits;
mod networks;

use logits::{Golden, assert_near, run};
use lowbit::exec::IntegerModel;
use lowbit::quant::{ActivationQuant, QuantizedModel};
use lowbit::{Isa, Quantizer, WeightBits};
use lowbit_onnx::{Imported, Input, Options, Preprocessing, decode, export_quantized};

/// Logits differ by a step or two where sums of f32 are added up in another order.
const STEPS: f32 = 0.02;

fn golden() -> Golden {
    Golden::read(include_str!("golden/quantized.json"))
}

fn integers(imported: &Imported) -> &QuantizedModel {
    imported.quantized.as_ref().expect("a quantized model")
}

#[test]
fn files_of_onnx_runtimes_tools_give_its_bits() {
    let golden = golden();
    for (name, case) in golden.cases(false) {
        let imported = decode(case.file.clone(), &Options::default());
        let imported = imported.unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = &case.logits;
        let has_floats = name.ends_with("exclude");
        assert_eq!(
            integers(&imported).float.layers.len(),
            usize::from(has_floats),
            "{name}"
        );
        for isa in Isa::available() {
            let model = IntegerModel::compile(integers(&imported), isa).unwrap();
            let found = run(&model, &golden.images);
            if has_floats {
                assert_near(&found, expected, STEPS, &format!("{name} on {isa}"));
                continue;
            }
            let equal = found.iter().zip(expected).filter(|(a, b)| a == b).count();
            let of = expected.len();
            assert_eq!(&found, expected, "{name} on {isa}: {equal} of {of} equal");
        }
    }
    assert_eq!(golden.cases(false).count(), 16);
}

#[test]
fn weights_have_the_bits_that_they_have_in_the_file() {
    let golden = golden();
    let file = golden.models["plain.qdq_u8s4_tensor"].file.clone();
    let imported = decode(file, &Options::default()).unwrap();
    let layers = integers(&imported).layers.iter().flatten();
    let bits: Vec<WeightBits> = layers.map(|layer| layer.bits).collect();
    assert_eq!(bits, [WeightBits::B4; 3]);
}

#[test]
fn models_of_other_widths_come_back_as_they_were() {
    for graph in networks::all() {
        let weights = networks::weights(&graph);
        let images = networks::images(graph.input(), 12);
        let others = [WeightBits::Ternary, WeightBits::Odd4];
        for bits in WeightBits::ALL.into_iter().chain(others) {
            let quantizer = || Quantizer::new(&graph, &weights).weight_bits(bits);
            for model in [
                quantizer().weight_only().unwrap(),
                quantizer().calibrate(&images).unwrap(),
            ] {
                let expected = run(&IntegerModel::new(&model).unwrap(), &images);
                let exported = export_quantized(&model, Input::Normalized).unwrap();
                let imported = decode(exported.bytes, &Options::default()).unwrap();
                let found = integers(&imported);
                let what = format!("{} of {bits:?}, {}", graph.name(), model.method);
                assert_eq!(found.method, model.method, "{what}");
                // ONNX has no type of one bit, and between u8 no engine takes one of two.
                let is_static = model.method == ActivationQuant::Static;
                let narrowest = if is_static {
                    WeightBits::B4
                } else {
                    WeightBits::Ternary
                };
                let [found_layers, layers] =
                    [found, &model].map(|model| model.layers.iter().flatten().collect::<Vec<_>>());
                assert_eq!(found_layers.len(), layers.len(), "{what}");
                for (layer, before) in found_layers.into_iter().zip(layers) {
                    // Odd numbers are some of those of twice the bits.
                    let bits = match before.bits {
                        WeightBits::B2 => WeightBits::B4,
                        WeightBits::Odd4 => WeightBits::B8,
                        bits => bits.max(narrowest),
                    };
                    assert_eq!(layer.bits, bits, "{what}");
                    assert_eq!(layer.weights, before.weights, "{what}");
                    assert_eq!(layer.scale, before.scale, "{what}");
                }
                let logits = run(&IntegerModel::new(found).unwrap(), &images);
                assert_near(&logits, &expected, STEPS, &what);
            }
        }
    }
}

#[test]
fn what_is_not_computed_as_onnx_defines_it_is_refused() {
    let golden = golden();
    for (form, expected) in [
        ("qdq_u8u8", "quantize them as s8"),
        ("dynamic", "quantized dynamically"),
    ] {
        let case = &golden.models[&format!("refused.{form}")];
        let file = case.file.clone();
        let error = decode(file, &Options::default()).unwrap_err().to_string();
        assert!(
            error.starts_with("node ") && error.contains(expected),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn layers_that_stay_f32_go_out_and_come_back() {
    for graph in networks::all() {
        let weights = networks::weights(&graph);
        let images = networks::images(graph.input(), 12);
        let program = graph.program().unwrap();
        let steps = program.steps().iter().filter(|step| step.has_weights());
        let names: Vec<String> = steps.map(|step| step.name.clone()).collect();
        // The first one, which reads the image, two behind each other, and the last one.
        for excluded in [&names[..1], &names[1..3], &names[names.len() - 1..]] {
            let quantizer = Quantizer::new(&graph, &weights).exclude(excluded);
            let model = quantizer.calibrate(&images).unwrap();
            assert_eq!(model.float.layers.len(), excluded.len());
            let expected = run(&IntegerModel::new(&model).unwrap(), &images);
            let exported = export_quantized(&model, Input::Normalized).unwrap();
            let imported = decode(exported.bytes, &Options::default()).unwrap();
            let found = integers(&imported);
            assert_eq!(found.float.layers.len(), excluded.len());
            let logits = run(&IntegerModel::new(found).unwrap(), &images);
            let what = format!("{} without {excluded:?}", graph.name());
            assert_near(&logits, &expected, STEPS, &what);
        }
    }
}

#[test]
fn exported_models_come_back_as_the_same_integers() {
    for graph in networks::all() {
        let weights = networks::weights(&graph);
        let images = networks::images(graph.input(), 12);
        let model = Quantizer::new(&graph, &weights).calibrate(&images).unwrap();
        let expected = run(&IntegerModel::new(&model).unwrap(), &images);
        for input in [Input::Normalized, Input::Pixels] {
            let options = Options {
                normalization: (input == Input::Normalized).then(|| graph.normalization().clone()),
                ..Options::default()
            };
            let exported = export_quantized(&model, input).unwrap();
            let imported = decode(exported.bytes.clone(), &options).unwrap();
            let by = match input {
                Input::Pixels => Preprocessing::Model,
                Input::Normalized => Preprocessing::Given,
            };
            assert_eq!(imported.preprocessing, by);
            let found = integers(&imported);
            let logits = run(&IntegerModel::new(found).unwrap(), &images);
            assert_eq!(logits, expected, "{} of {input:?}", graph.name());
            let layers = |model: &QuantizedModel| -> Vec<_> {
                let layers = model.layers.iter().flatten();
                layers
                    .map(|layer| (layer.weights.clone(), layer.scale.clone()))
                    .collect()
            };
            assert_eq!(layers(found), layers(&model), "{}", graph.name());
            // Once there, a model stays what it is. (What makes pixels of other numbers is rounded again each time.)
            if input == Input::Pixels {
                continue;
            }
            let again = export_quantized(found, input).unwrap();
            let options = Options {
                normalization: Some(found.graph.normalization().clone()),
                ..options
            };
            let back = decode(again.bytes.clone(), &options).unwrap();
            let third = export_quantized(integers(&back), input).unwrap();
            assert!(third.bytes == again.bytes, "{} of {input:?}", graph.name());
        }
    }
}

#[test]
fn attention_between_integers_goes_out_and_comes_back() {
    for graph in networks::tokens() {
        let weights = networks::weights(&graph);
        let images = networks::images(graph.input(), 12);
        let model = Quantizer::new(&graph, &weights).calibrate(&images).unwrap();
        let expected = run(&IntegerModel::new(&model).unwrap(), &images);
        let exported = export_quantized(&model, Input::Normalized).unwrap();
        let imported = decode(exported.bytes, &Options::default()).unwrap();
        let found = integers(&imported);
        let logits = run(&IntegerModel::new(found).unwrap(), &images);
        assert_eq!(logits, expected, "{}", graph.name());
    }
}
