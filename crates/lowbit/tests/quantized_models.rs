//! Float and integer models of the zoo's graphs, in memory and on disk.

use lowbit::exec::{FloatModel, IntegerModel, Model, RuntimeError};
use lowbit::format::{self, FormatError, StoredModel};
use lowbit::graph::zoo;
use lowbit::quant::{ActivationParams, ActivationQuant, Arithmetic, Observer, QuantizedModel};
use lowbit::quantize::{PtqConfig, QuantError, quantize};
use lowbit::{ActivationBits, Graph, Shape, WeightBits, Weights};
use lowbit_kernels::{Isa, random};

const MODELS: [&str; 3] = ["eurosat-cnn", "resnet8", "mlp"];

fn graph(name: &str) -> Graph {
    let classes: Vec<String> = (0..10).map(|class| format!("class{class}")).collect();
    zoo::build(name, Shape::new(32, 32, 3), &classes).unwrap()
}

/// Random parameters, batch-norm statistics included, so that nothing is hidden by a 0 or a 1.
fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::init(graph, 5);
    for (index, parameter) in graph.parameters().iter().enumerate() {
        let mut rng = random::stream(5, "test", index as u64);
        let tensor = weights.get_mut(&parameter.name).unwrap();
        if parameter.name.contains("bn") {
            let positive = parameter.name.ends_with("running_var");
            for x in tensor.data_mut() {
                let u = random::uniform(&mut rng);
                *x = if positive {
                    0.05 + 0.1 * u
                } else {
                    1.5 * u - 0.5
                };
            }
        }
    }
    weights
}

fn images(count: usize) -> Vec<u8> {
    let mut rng = random::stream(6, "test", 0);
    (0..count * 32 * 32 * 3)
        .map(|i| (random::below(&mut rng, 128) as usize + i / 32 % 128) as u8)
        .collect()
}

fn logits(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.count(images) * model.graph().classes()];
    model.run(images, &mut logits).unwrap();
    logits
}

/// Root mean square of the difference, relative to that of the first.
fn relative_error(expected: &[f32], found: &[f32]) -> f32 {
    let square = |x: f32| x * x;
    let error: f32 = expected.iter().zip(found).map(|(a, b)| square(a - b)).sum();
    let size: f32 = expected.iter().map(|&a| square(a)).sum();
    (error / size).sqrt()
}

#[test]
fn weights_alone_cost_less_than_weights_and_activations_and_survive_the_file() {
    for name in MODELS {
        let graph = graph(name);
        let (weights, images) = (weights(&graph), images(4));
        let isa = Isa::best();
        let float = logits(
            &FloatModel::compile(&graph, &weights, isa).unwrap(),
            &images,
        );
        let error = |bits: WeightBits, method: ActivationQuant, activation_bits: ActivationBits| {
            let config = PtqConfig {
                method,
                weight_bits: bits,
                edge_bits: bits,
                activation_bits,
                ..PtqConfig::default()
            };
            let model = quantize(&graph, &weights, &config, &images, isa).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.safetensors");
            format::save_quantized(&path, &model, None).unwrap();
            let StoredModel::Quantized(stored) = format::load(&path).unwrap() else {
                panic!("{name}: not a quantized model");
            };
            assert_eq!(stored, model);
            let found = logits(&IntegerModel::compile(&stored, isa).unwrap(), &images);
            relative_error(&float, &found)
        };
        assert!(
            error(
                WeightBits::B16,
                ActivationQuant::WeightOnly,
                ActivationBits::Float
            ) < 2e-4,
            "{name}"
        );
        let (alone, both) = (
            error(
                WeightBits::B8,
                ActivationQuant::WeightOnly,
                ActivationBits::Float,
            ),
            error(WeightBits::B8, ActivationQuant::Static, ActivationBits::B8),
        );
        assert!(
            alone < both && alone > 0.0,
            "{name}: {alone} against {both}"
        );
    }
    let config = PtqConfig {
        activation_bits: ActivationBits::Float,
        ..PtqConfig::default()
    };
    let graph = graph("mlp");
    let refused = quantize(&graph, &weights(&graph), &config, &images(1), Isa::best());
    assert!(matches!(refused, Err(QuantError::FloatActivations { .. })));
}

#[test]
fn eight_bits_stay_close_to_float_with_every_method_and_observer() {
    let images = images(6);
    for name in MODELS {
        let (graph, isa) = (graph(name), Isa::best());
        let weights = weights(&graph);
        let float = logits(
            &FloatModel::compile(&graph, &weights, isa).unwrap(),
            &images,
        );
        for (method, observer) in [
            (ActivationQuant::Static, Observer::MinMax),
            (ActivationQuant::Static, Observer::Percentile(99.99)),
            (ActivationQuant::Static, Observer::Mse),
            (ActivationQuant::Dynamic, Observer::MinMax),
        ] {
            let config = PtqConfig {
                method,
                observer,
                ..PtqConfig::default()
            };
            let model = quantize(&graph, &weights, &config, &images, isa).unwrap();
            let integer = logits(&IntegerModel::compile(&model, isa).unwrap(), &images);
            let error = relative_error(&float, &integer);
            assert!(
                error < 0.05,
                "{name} {method} {observer}: relative error {error}"
            );
            assert!(
                error > 0.0,
                "{name}: an integer model cannot equal the float model"
            );
        }
    }
}

#[test]
fn logits_are_the_same_bits_on_every_isa_and_at_any_number_of_threads() {
    let images = images(5);
    for name in MODELS {
        let graph = graph(name);
        let weights = weights(&graph);
        let config = PtqConfig::default();
        let quantized = quantize(&graph, &weights, &config, &images, Isa::best()).unwrap();
        let compile = |isa| -> [Box<dyn Model>; 2] {
            [
                Box::new(FloatModel::compile(&graph, &weights, isa).unwrap()),
                Box::new(IntegerModel::compile(&quantized, isa).unwrap()),
            ]
        };
        let references = compile(Isa::PORTABLE).map(|model| logits(&*model, &images));
        for isa in Isa::available() {
            for (model, reference) in compile(isa).iter().zip(&references) {
                for threads in [1, 2, 3] {
                    let pool = rayon::ThreadPoolBuilder::new()
                        .num_threads(threads)
                        .build()
                        .unwrap();
                    let batch = pool.install(|| logits(&**model, &images));
                    assert_eq!(
                        batch, *reference,
                        "{name} {isa} {threads} threads, batch of 5"
                    );
                    let single: Vec<f32> = images
                        .chunks(32 * 32 * 3)
                        .flat_map(|image| pool.install(|| logits(&**model, image)))
                        .collect();
                    assert_eq!(
                        single, *reference,
                        "{name} {isa} {threads} threads, one by one"
                    );
                }
            }
        }
    }
}

#[test]
fn models_of_every_width_survive_their_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in MODELS {
        let graph = graph(name);
        let weights = weights(&graph);
        let path = folder.path().join("float.safetensors");
        let bytes = format::save_float(&path, &graph, &weights, None).unwrap();
        assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
        let loaded = format::load(&path).unwrap();
        assert_eq!(
            loaded,
            StoredModel::Float {
                graph: graph.clone(),
                weights: weights.clone()
            }
        );
        let mut sizes = Vec::new();
        for bits in WeightBits::ALL {
            let config = PtqConfig {
                weight_bits: bits,
                edge_bits: bits,
                ..PtqConfig::default()
            };
            let model = quantize(&graph, &weights, &config, &images(2), Isa::best()).unwrap();
            let path = folder.path().join(format!("{bits}.safetensors"));
            sizes.push(format::save_quantized(&path, &model, None).unwrap());
            assert_eq!(format::load(&path).unwrap(), StoredModel::Quantized(model));
        }
        assert!(
            sizes.is_sorted_by(|wide, narrow| wide > narrow),
            "{name}: {sizes:?}"
        );
    }
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let graph = graph("mlp");
    let weights = weights(&graph);
    let run = |config: &PtqConfig, images: &[u8]| {
        quantize(&graph, &weights, config, images, Isa::best()).unwrap_err()
    };
    let config = PtqConfig::default();
    assert_eq!(run(&config, &[]), QuantError::NoImages);
    assert!(matches!(
        run(&config, &[0; 100]),
        QuantError::Images { found: 100, .. }
    ));
}

#[test]
fn parts_that_do_not_make_a_model_are_refused_with_the_layer_and_nothing_is_written() {
    let graph = graph("eurosat-cnn");
    let config = PtqConfig::default();
    let whole = quantize(&graph, &weights(&graph), &config, &images(1), Isa::best()).unwrap();
    whole.validate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let refused = |change: &dyn Fn(&mut QuantizedModel), expected: &str| {
        let mut model = whole.clone();
        change(&mut model);
        let error = model.validate().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        // What takes a model apart refuses one that is none; what names one of its layers finds none.
        assert_eq!(model.saturating_layers().unwrap_err(), error);
        assert_eq!(model.clone().with_reduced_range().unwrap_err(), error);
        assert_eq!(model.clone().with_integer_biases().unwrap_err(), error);
        for layer in 0..9 {
            let _ = (model.bias_steps(layer), model.moved_bias(layer));
        }
        let _ = model.image_params();
        assert!(IntegerModel::compile(&model, Isa::best()).is_err());
        let error = format::save_quantized(&path, &model, None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!path.exists());
    };
    fn first(model: &mut QuantizedModel) -> &mut lowbit::quant::QuantizedLayer {
        model.layers[0].as_mut().unwrap()
    }
    refused(
        &|model| drop(model.layers.pop()),
        "5 layers and 7 activations",
    );
    refused(
        &|model| model.activations.clear(),
        "6 layers and 0 activations",
    );
    refused(&|model| model.layers[1] = None, "conv2: no weights");
    refused(
        &|model| first(model).weights.truncate(2399),
        "conv1: 2399 weights, expected 2400",
    );
    refused(
        &|model| first(model).scale.truncate(31),
        "conv1: 31 scales, expected 32",
    );
    refused(&|model| first(model).scale[3] = 0.0, "scale 0 of channel 3");
    refused(
        &|model| first(model).bias[4] = f32::NAN,
        "bias NaN of channel 4",
    );
    refused(
        &|model| first(model).bits = WeightBits::B2,
        "which 2 bits cannot hold",
    );
    refused(
        &|model| model.activations[2] = None,
        "conv2: no activation scale",
    );
    refused(
        &|model| model.activation_bits = ActivationBits::Float,
        "f32 activations",
    );
    let sixteen = |model: &mut QuantizedModel| {
        model.activation_bits = ActivationBits::B4;
        model.activations[2].as_mut().unwrap().zero_point = 16;
    };
    refused(&sixteen, "zero point 16, expected at most 15");
    // A scale where none is read today would cut a result tomorrow.
    let scale = |zero_point| {
        let scale = 1.0;
        Some(ActivationParams { scale, zero_point })
    };
    let of_logits = |model: &mut QuantizedModel| {
        model.activation_bits = ActivationBits::B4;
        model.activations[6] = scale(200);
    };
    refused(&of_logits, "fc3: zero point 200, expected at most 15");
    let dynamic = |model: &mut QuantizedModel| {
        model.method = ActivationQuant::Dynamic;
        model.arithmetic = Arithmetic::RealBias;
        model.activations.fill(None);
        model.activations[2] = scale(0);
    };
    refused(&dynamic, "conv2: an activation scale in a dynamic model");
}

#[test]
fn images_that_are_not_whole_are_no_calibration() {
    let graph = graph("mlp");
    let model = FloatModel::compile(&graph, &weights(&graph), Isa::best()).unwrap();
    let len = graph.input().len();
    for bytes in [0, 1, len - 1, len + len / 2] {
        let error = lowbit::quantize::calibrate(&model, Observer::MinMax, &vec![7; bytes]);
        assert!(
            matches!(error, Err(RuntimeError::Lengths { .. })),
            "{bytes}"
        );
    }
    let seen = lowbit::quantize::calibrate(&model, Observer::MinMax, &vec![7; len]).unwrap();
    assert!(seen.extremes(1).is_some());
}

#[test]
fn dynamic_ranges_have_eight_bits_or_are_refused() {
    let graph = graph("mlp");
    let config = PtqConfig {
        method: ActivationQuant::Dynamic,
        activation_bits: ActivationBits::B4,
        ..PtqConfig::default()
    };
    let error = quantize(&graph, &weights(&graph), &config, &[], Isa::best()).unwrap_err();
    let bits = ActivationBits::B4;
    assert_eq!(error, QuantError::DynamicBits { bits });
}

#[test]
fn unusable_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let graph = graph("mlp");
    let weights = weights(&graph);
    format::save_float(&path, &graph, &weights, None).unwrap();
    let whole = std::fs::read(&path).unwrap();

    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = format::load(&path).unwrap_err();
        assert!(error.to_string().contains("model.safetensors"), "{error}");
        error
    };
    assert!(matches!(
        refused(&whole[..whole.len() - 1]),
        FormatError::Damaged { .. }
    ));
    assert!(matches!(refused(b""), FormatError::Damaged { .. }));
    let newer = replace(&whole, b"format_version\\\":1", b"format_version\\\":8");
    assert!(matches!(
        refused(&newer),
        FormatError::Version { found: 8, .. }
    ));
    let mut poisoned = whole.clone();
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(refused(&poisoned), FormatError::Weights { .. }));
    let (resnet, path_of) = (
        with_a_negative_variance(),
        folder.path().join("resnet.safetensors"),
    );
    format::save_float(&path_of, &resnet.0, &resnet.1, None).unwrap();
    let error = format::load(&path_of).unwrap_err().to_string();
    assert!(error.contains("variance cannot be negative"), "{error}");
    let foreign = replace(&whole, b"\"lowbit\"", b"\"nowbit\"");
    assert!(matches!(refused(&foreign), FormatError::Foreign { .. }));
}

/// A model whose second batch-norm has a negative variance.
fn with_a_negative_variance() -> (Graph, Weights) {
    let graph = graph("resnet8");
    let mut weights = weights(&graph);
    weights
        .get_mut("block1.bn1.running_var")
        .unwrap()
        .data_mut()[5] = -0.01;
    (graph, weights)
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("it is there");
    let mut out = bytes.to_vec();
    out[at..at + to.len()].copy_from_slice(to);
    out
}

#[test]
fn activation_bits_that_do_not_exist_are_refused_when_a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let graph = graph("mlp");
    let config = PtqConfig::default();
    let model = quantize(&graph, &weights(&graph), &config, &images(1), Isa::best()).unwrap();
    format::save_quantized(&path, &model, None).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for (from, to) in [
        (&b"activation_bits\\\":8"[..], &b"activation_bits\\\":3"[..]),
        (b"activation_bits\\\":8", b"activation_bits\\\":0"),
        (b"\\\"fc1\\\":8", b"\\\"fc1\\\":7"),
    ] {
        std::fs::write(&path, replace(&whole, from, to)).unwrap();
        let error = format::load(&path).unwrap_err().to_string();
        assert!(error.contains("-bit"), "{error}");
    }
}

#[test]
fn mutated_files_give_an_error_or_a_model_but_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let graph = graph("resnet8");
    let weights = weights(&graph);
    let model = quantize(
        &graph,
        &weights,
        &PtqConfig::default(),
        &images(1),
        Isa::best(),
    )
    .unwrap();
    format::save_quantized(&path, &model, None).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut refused = 0;
    for round in 0..600 {
        let mut rng = random::stream(9, "mutate", round);
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 3 {
            let at = random::below(&mut rng, header as u32) as usize;
            bytes[at] = random::below(&mut rng, 256) as u8;
        }
        if round % 5 == 0 {
            bytes.truncate(random::below(&mut rng, whole.len() as u32) as usize);
        }
        std::fs::write(&path, &bytes).unwrap();
        match format::load(&path) {
            Err(_) => refused += 1,
            Ok(StoredModel::Quantized(model)) => {
                let _ = IntegerModel::compile(&model, Isa::best());
            }
            Ok(StoredModel::Float { .. }) => {}
        }
    }
    assert!(refused > 300, "{refused} of 600 refused");
}
