//! Layers that stay f32 in a quantized model.

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::{StoredModel, decode, encode_quantized};
use lowbit::graph::zoo;
use lowbit::quant::QuantizedModel;
use lowbit::quantize::{PtqConfig, QuantError, quantize};
use lowbit::{Graph, Quantizer, Shape, WeightBits, Weights};
use lowbit_kernels::Isa;

fn graph() -> Graph {
    let classes: Vec<String> = (0..5).map(|class| format!("class {class}")).collect();
    zoo::build("resnet8", Shape::new(16, 16, 3), &classes).unwrap()
}

fn images(graph: &Graph) -> Vec<u8> {
    let len = 8 * graph.input().len();
    (0..len).map(|i| (i * 7919 % 251) as u8).collect()
}

fn run(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.run(images, &mut logits).unwrap();
    logits
}

fn layers(graph: &Graph) -> Vec<String> {
    let program = graph.program().unwrap();
    let steps = program.steps().iter().filter(|step| step.has_weights());
    steps.map(|step| step.name.clone()).collect()
}

/// The mean distance of a model's logits from those of f32.
fn distance(model: &QuantizedModel, graph: &Graph, weights: &Weights) -> f32 {
    let images = images(graph);
    let exact = run(&FloatModel::new(graph, weights).unwrap(), &images);
    let found = run(&IntegerModel::new(model).unwrap(), &images);
    let sum: f32 = found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).sum();
    sum / exact.len() as f32
}

#[test]
fn fewer_rounded_layers_are_nearer_to_f32_and_survive_a_file() {
    let graph = graph();
    let weights = Weights::init(&graph, 3);
    let images = images(&graph);
    let names = layers(&graph);
    let quantizer = || Quantizer::new(&graph, &weights).weight_bits(WeightBits::B8);
    let all = quantizer().calibrate(&images).unwrap();
    // All but one in the middle.
    let kept = names.len() / 2;
    let others: Vec<String> = [&names[..kept], &names[kept + 1..]].concat();
    let one = quantizer().exclude(&others).calibrate(&images).unwrap();
    assert_eq!(one.layers.iter().flatten().count(), 1);
    let [far, near] = [&all, &one].map(|model| distance(model, &graph, &weights));
    assert!(near < far, "{near} of {far}");
    // What layers of f32 alone read is not rounded.
    assert!(!one.float.values.is_empty());
    assert!(!one.rounds_image(&graph.program().unwrap()));
    let bytes = encode_quantized(&one, None).unwrap();
    let (stored, _) = decode("m.safetensors".as_ref(), &bytes).unwrap();
    assert_eq!(stored, StoredModel::Quantized(one.clone()));
    let last = quantizer()
        .exclude(&names[names.len() - 1..])
        .calibrate(&images)
        .unwrap();
    assert_eq!(last.provenance["exclude"], names[names.len() - 1]);
}

#[test]
fn parts_that_the_graph_lacks_are_refused() {
    let graph = graph();
    let weights = Weights::init(&graph, 3);
    let names = layers(&graph);
    let quantizer = Quantizer::new(&graph, &weights).exclude(&names[1..3]);
    let model = quantizer.calibrate(&images(&graph)).unwrap();
    // The image is no value that a step gives.
    let mut of_image = model.clone();
    of_image.float.values.insert(0);
    let error = encode_quantized(&of_image, None).unwrap_err().to_string();
    assert!(error.contains("does not have"), "{error}");
    let bytes = encode_quantized(&model, None).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + len]).unwrap();
    let (_, after) = header.split_once("float_layers").unwrap();
    assert!(after.contains("float_values"), "{header}");
    for key in ["float_layers", "float_values"] {
        // The first name in the list, its first letter another.
        let list = 8 + header.find(key).unwrap() + key.len();
        let name = list + header[list - 8..].find('[').unwrap() + 3;
        let mut changed = bytes.clone();
        changed[name] = b'#';
        let error = decode("m.safetensors".as_ref(), &changed).unwrap_err();
        let line = error.to_string();
        assert!(
            line.contains(key) && line.contains("which its graph lacks"),
            "{line}"
        );
    }
}

#[test]
fn every_method_leaves_layers_f32() {
    let graph = graph();
    let weights = Weights::init(&graph, 3);
    let first = &layers(&graph)[..1];
    let quantizer = || Quantizer::new(&graph, &weights).exclude(first);
    let passes = "bias-correction".parse().unwrap();
    for model in [
        quantizer().dynamic().unwrap(),
        quantizer().weight_only().unwrap(),
        quantizer()
            .passes(passes)
            .calibrate(&images(&graph))
            .unwrap(),
    ] {
        assert_eq!(model.float.layers.len(), 1, "{}", model.method);
        let distance = distance(&model, &graph, &weights);
        assert!(distance < 0.2, "{}: {distance}", model.method);
    }
}

#[test]
fn a_name_that_is_no_layers_is_refused_with_those_near_it() {
    let graph = graph();
    let weights = Weights::init(&graph, 3);
    let exclude = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let error = Quantizer::new(&graph, &weights).exclude(&names).dynamic();
        error.unwrap_err()
    };
    let first = &layers(&graph)[0];
    let error = exclude(&[&format!("{first}x")]);
    assert!(matches!(error, QuantError::UnknownLayer { .. }), "{error}");
    assert!(error.to_string().contains(first), "{error}");
    assert!(matches!(
        exclude(&["no*such"]),
        QuantError::UnknownLayer { .. }
    ));
    assert!(matches!(exclude(&["*"]), QuantError::NothingLeft));
}

#[test]
fn a_layer_cannot_stay_f32_and_have_bits_of_its_own() {
    let graph = graph();
    let weights = Weights::init(&graph, 3);
    let name = layers(&graph)[0].clone();
    let config = PtqConfig {
        exclude: vec![name.clone()],
        layer_bits: format!("{name}=4").parse().unwrap(),
        ..PtqConfig::default()
    };
    let made = quantize(&graph, &weights, &config, &images(&graph), Isa::best());
    assert_eq!(made.unwrap_err(), QuantError::ExcludedWithBits { name });
}

#[test]
fn parts_that_do_not_fit_the_graph_are_refused() {
    let graph = graph();
    let weights = Weights::init(&graph, 3);
    let first = &layers(&graph)[..1];
    let model = Quantizer::new(&graph, &weights).exclude(first);
    let model = model.calibrate(&images(&graph)).unwrap();
    let refused = |change: &dyn Fn(&mut QuantizedModel), expected: &str| {
        let mut model = model.clone();
        change(&mut model);
        let error = model.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&|model| model.float.layers.clear(), "no weights");
    refused(
        &|model| {
            let layer = model.float.layers.values_mut().next().unwrap();
            layer.bias.pop();
        },
        "biases, expected",
    );
    refused(&|model| model.float.values.extend([99]), "does not have");
    refused(&|model| model.float.values.extend([1]), "f32 value");
}
