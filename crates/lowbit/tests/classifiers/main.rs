//! The blocks of classifiers that people export: f32 against plain loops in f64, integers against their definition written
//! out, every instruction set, threads, files.

mod integers;
mod naive;
mod networks;
mod tokens;

use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::{self, StoredModel};
use lowbit::quant::{ActivationQuant, Arithmetic, Granularity, Observer, QuantizedModel};
use lowbit::{Graph, Quantizer, Weights};
use lowbit_kernels::{Isa, random};

const COUNT: usize = 5;

fn images(graph: &Graph) -> Vec<u8> {
    let mut rng = random::stream(16, "test", 0);
    (0..COUNT * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect()
}

/// Fresh weights whose batch-norm statistics are not those of a fresh network.
fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::init(graph, 7);
    let mut rng = random::stream(17, "test", 0);
    for parameter in graph.parameters() {
        let (low, high) = match parameter.name.rsplit('.').next() {
            Some("running_var") => (0.5, 1.5),
            Some("running_mean") => (-0.2, 0.2),
            _ => continue,
        };
        let tensor = weights.get_mut(&parameter.name).unwrap();
        for x in tensor.data_mut() {
            *x = low + (high - low) * random::uniform(&mut rng);
        }
    }
    weights
}

fn run(model: &dyn Model, images: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; COUNT * model.graph().classes()];
    model.run(images, &mut logits).unwrap();
    logits
}

/// Runs a model on every instruction set with one and two threads, and asserts that bits are the same.
fn on_every_isa(name: &str, images: &[u8], compile: impl Fn(Isa) -> Box<dyn Model>) -> Vec<f32> {
    let mut expected: Option<Vec<f32>> = None;
    for isa in Isa::available() {
        let model = compile(isa);
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            let found = pool.install(|| run(model.as_ref(), images));
            let one = images.len() / COUNT;
            let alone = pool.install(|| run_one(model.as_ref(), &images[..one]));
            assert_eq!(
                found[..alone.len()],
                alone,
                "{name}, {isa}, {threads} threads, one image alone"
            );
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(*expected, found, "{name}, {isa}, {threads} threads");
        }
    }
    expected.unwrap()
}

fn run_one(model: &dyn Model, image: &[u8]) -> Vec<f32> {
    let mut logits = vec![0.0; model.graph().classes()];
    model.run(image, &mut logits).unwrap();
    logits
}

#[test]
fn f32_logits_are_those_of_plain_loops_in_f64() {
    for graph in networks::all().into_iter().chain(tokens::transformers()) {
        let (weights, images) = (weights(&graph), images(&graph));
        let compile = |isa| -> Box<dyn Model> {
            Box::new(FloatModel::compile(&graph, &weights, isa).unwrap())
        };
        let found = on_every_isa(graph.name(), &images, compile);
        let expected = naive::run(&graph, &weights, &images);
        let largest = expected.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        for (&a, &b) in found.iter().zip(&expected) {
            let error = (f64::from(a) - b).abs() / largest;
            assert!(error < 1e-5, "{}: {a} for {b}", graph.name());
        }
    }
}

fn quantized(graph: &Graph, observer: Observer) -> QuantizedModel {
    let weights = weights(graph);
    Quantizer::new(graph, &weights)
        .observer(observer)
        .calibrate(&images(graph))
        .unwrap()
}

#[test]
fn integer_logits_are_those_of_the_definition_to_the_bit() {
    for graph in networks::all() {
        let images = images(&graph);
        for (observer, arithmetic) in [
            (Observer::MinMax, Arithmetic::IntegerBias),
            (Observer::Percentile(99.9), Arithmetic::IntegerBias),
            (Observer::Percentile(99.9), Arithmetic::RealBias),
        ] {
            let mut model = quantized(&graph, observer);
            assert_eq!(model.arithmetic, Arithmetic::IntegerBias);
            model.arithmetic = arithmetic;
            let compile =
                |isa| -> Box<dyn Model> { Box::new(IntegerModel::compile(&model, isa).unwrap()) };
            let found = on_every_isa(graph.name(), &images, compile);
            let expected = integers::run(&model, &images);
            assert_eq!(found, expected, "{}, {observer}", graph.name());
        }
    }
}

#[test]
fn integers_come_close_to_f32_and_every_layer_has_an_integer_form() {
    for graph in networks::all() {
        let (weights, images) = (weights(&graph), images(&graph));
        let float = run(&FloatModel::new(&graph, &weights).unwrap(), &images);
        let model = quantized(&graph, Observer::MinMax);
        let integer = IntegerModel::new(&model).unwrap();
        let found = run(&integer, &images);
        let largest = float.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (a, b) in found.iter().zip(&float) {
            assert!((a - b).abs() < 0.08 * largest, "{}: {a}, {b}", graph.name());
        }
        for layer in integer.profile(&images).unwrap() {
            assert_eq!(layer.numbers, lowbit::Numbers::U8, "{}", layer.name);
        }
        for step in graph.program().unwrap().steps() {
            assert!(step.epilogue.ceiling.is_none() || step.epilogue.relu);
        }
    }
}

#[test]
fn attention_runs_in_f32_between_integers_with_the_same_bits_everywhere() {
    for graph in tokens::transformers() {
        let (weights, images) = (weights(&graph), images(&graph));
        let float = run(&FloatModel::new(&graph, &weights).unwrap(), &images);
        let model = quantized(&graph, Observer::MinMax);
        let compile =
            |isa| -> Box<dyn Model> { Box::new(IntegerModel::compile(&model, isa).unwrap()) };
        let found = on_every_isa(graph.name(), &images, compile);
        let largest = float.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (a, b) in found.iter().zip(&float) {
            assert!((a - b).abs() < 0.08 * largest, "{}: {a}, {b}", graph.name());
        }
        let profile = IntegerModel::new(&model).unwrap().profile(&images);
        for layer in profile.unwrap() {
            let is_float = ["attention", "norm"]
                .iter()
                .any(|end| layer.name.ends_with(end));
            let expected = match is_float {
                true => lowbit::Numbers::F32,
                false => lowbit::Numbers::U8,
            };
            assert_eq!(layer.numbers, expected, "{}", layer.name);
        }
    }
}

#[test]
fn other_methods_run_as_well() {
    for graph in networks::all().into_iter().chain(tokens::transformers()) {
        let (weights, images) = (weights(&graph), images(&graph));
        let float = run(&FloatModel::new(&graph, &weights).unwrap(), &images);
        let largest = float.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for model in [
            Quantizer::new(&graph, &weights).dynamic().unwrap(),
            Quantizer::new(&graph, &weights).weight_only().unwrap(),
        ] {
            let compile =
                |isa| -> Box<dyn Model> { Box::new(IntegerModel::compile(&model, isa).unwrap()) };
            let found = match model.method {
                // Ranges are those of the batch: an image alone has others.
                ActivationQuant::Dynamic => run(compile(Isa::best()).as_ref(), &images),
                _ => on_every_isa(graph.name(), &images, compile),
            };
            for (a, b) in found.iter().zip(&float) {
                assert!(
                    (a - b).abs() < 0.08 * largest,
                    "{}, {}: {a}, {b}",
                    graph.name(),
                    model.method
                );
            }
        }
    }
}

#[test]
fn files_hold_all_of_it_and_say_which_version_can() {
    let folder = tempfile::tempdir().unwrap();
    for graph in networks::all().into_iter().chain(tokens::transformers()) {
        let path = folder.path().join("model.safetensors");
        let weights = weights(&graph);
        format::save_float(&path, &graph, &weights, None).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let is_new = matches!(graph.name(), "mixer" | "vit" | "mobilevit" | "cross");
        let version = format!("format_version\\\":{}", if is_new { 6 } else { 3 });
        let mut windows = bytes.windows(version.len());
        assert!(windows.any(|window| window == version.as_bytes()));
        match format::load(&path).unwrap() {
            StoredModel::Float {
                graph: read,
                weights: tensors,
            } => {
                assert_eq!(read, graph);
                assert_eq!(tensors, weights);
            }
            _ => panic!("not a float model"),
        }
        let model = quantized(&graph, Observer::MinMax);
        format::save_quantized(&path, &model, None).unwrap();
        match format::load(&path).unwrap() {
            StoredModel::Quantized(read) => assert_eq!(read, model),
            _ => panic!("not a quantized model"),
        }
    }
}

#[test]
fn depthwise_filters_have_scales_of_their_own_and_moved_values_share_a_range() {
    let graph = networks::mobilenet_v2();
    let model = quantized(&graph, Observer::MinMax);
    let program = graph.program().unwrap();
    for (step, layer) in program.steps().iter().zip(&model.layers) {
        if let Some(layer) = layer {
            let mut scales = layer.scale.clone();
            scales.sort_by(f32::total_cmp);
            scales.dedup();
            assert!(scales.len() * 2 > layer.scale.len(), "{}", step.name);
        }
    }
    // A factor per channel is exact even where there is one scale per tensor.
    let graph = networks::densenet();
    let exact = weights(&graph);
    let quantizer = Quantizer::new(&graph, &exact).granularity(Granularity::PerTensor);
    let model = quantizer.calibrate(&images(&graph)).unwrap();
    let program = graph.program().unwrap();
    let affine = program.steps().iter().position(|step| step.name == "norm1");
    let layer = model.layers[affine.unwrap()].as_ref().unwrap();
    let exact = exact.slice("norm1.weight");
    for (found, &w) in layer.dequantized().iter().zip(exact) {
        assert!((found - w).abs() <= 1e-6 * w.abs(), "{found} for {w}");
    }
    let graph = networks::shufflenet();
    let model = quantized(&graph, Observer::MinMax);
    let program = graph.program().unwrap();
    let params = |name: &str| {
        let step = program.steps().iter().position(|step| step.name == name);
        model.activations[step.unwrap() + 1].unwrap()
    };
    assert_eq!(params("concat1"), params("shuffle1"));
    assert_eq!(params("shuffle1"), params("left2"));
    assert_eq!(params("left2"), params("concat2"));
    assert_ne!(params("stem"), params("concat1"));
}
