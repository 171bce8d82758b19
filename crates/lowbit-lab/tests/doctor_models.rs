//! `lowbit doctor` on lowbit's own models, with models and images made here: one that shows the fault, and one that does not.

use lowbit::format::{Checkpoint, StoredModel, encode_quantized};
use lowbit::graph::{Conv, GraphBuilder, Op};
use lowbit::quant::{Granularity, QuantizedModel};
use lowbit::quantize::{PtqConfig, quantize};
use lowbit::{Graph, Quantizer, Shape, Tensor, WeightBits, Weights};
use lowbit_data::Split;
use lowbit_kernels::Isa;
use lowbit_lab::doctor::{Diagnosis, Images, Level, Patient, diagnose, reordered};
use std::path::Path;

const CLASSES: [&str; 3] = ["ant", "bee", "cow"];
const SIDE: usize = 24;

fn names() -> Vec<String> {
    CLASSES.map(String::from).to_vec()
}

/// A 1×1 convolution that lets each color through, ReLU, a depthwise one, mean, and a linear layer that tells which color is
/// brightest. Pixels are −1 to 1.
fn colors() -> (Graph, Weights) {
    let mut graph = GraphBuilder::new("colors", Shape::new(SIDE, SIDE, 3), &names());
    let x = graph.conv("conv", 0, 3, 1, (1, 0), true);
    let x = graph.add("relu", Op::Relu, &[x]);
    let Op::Conv(conv) = Op::conv(3, 1, 1, 0) else {
        unreachable!()
    };
    let depthwise = Conv {
        groups: 3,
        bias: true,
        ..conv
    };
    let x = graph.add("depthwise", Op::Conv(depthwise), &[x]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    let graph = graph.finish().unwrap();
    let mut weights = Weights::init(&graph, 1);
    let eye = |scale: [f32; 3]| -> Vec<f32> {
        (0..9)
            .map(|at| if at / 3 == at % 3 { scale[at % 3] } else { 0.0 })
            .collect()
    };
    set(&mut weights, "conv.weight", eye([1.0; 3]));
    set(&mut weights, "conv.bias", vec![1.0; 3]);
    set(&mut weights, "depthwise.weight", vec![1.0; 3]);
    set(&mut weights, "depthwise.bias", vec![0.0; 3]);
    set(&mut weights, "fc.weight", eye([4.0; 3]));
    set(&mut weights, "fc.bias", vec![0.0; 3]);
    (graph, weights)
}

fn set(weights: &mut Weights, name: &str, data: Vec<f32>) {
    let shape = weights.get(name).unwrap().shape().to_vec();
    weights.insert(name, Tensor::new(shape, data));
}

/// `count` images whose class's color is brightest; `level` is how bright.
fn images(count: usize, level: u8) -> Split {
    let mut pixels = Vec::new();
    let labels: Vec<u32> = (0..count).map(|index| (index % 3) as u32).collect();
    for (index, &label) in labels.iter().enumerate() {
        for at in 0..SIDE * SIDE * 3 {
            let noise = ((index * 31 + at * 7) % 23) as u8;
            let is_class = at % 3 == label as usize;
            pixels.push(if is_class {
                level.saturating_add(noise)
            } else {
                noise
            });
        }
    }
    Split::new(SIDE * SIDE * 3, pixels, labels).unwrap()
}

fn given(test: Split, calibration: Split) -> Images {
    Images {
        test,
        calibration,
        class_names: names(),
        preprocessing: None,
    }
}

fn float(graph: &Graph, weights: &Weights) -> StoredModel {
    StoredModel::Float {
        graph: graph.clone(),
        weights: weights.clone(),
    }
}

fn diagnosed(stored: StoredModel, images: Option<Images>) -> Diagnosis {
    let isa = Isa::current().unwrap();
    let mut patient = Patient::lowbit(Path::new("m.safetensors"), stored, isa).unwrap();
    if let Some(images) = images {
        patient = patient.with_images(images);
    }
    diagnose(&patient).unwrap()
}

fn levels(diagnosis: &Diagnosis, rule: &str) -> Vec<Level> {
    let findings = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.rule == rule);
    findings.map(|finding| finding.level).collect()
}

fn quantized(graph: &Graph, weights: &Weights, calibration: &Split) -> QuantizedModel {
    Quantizer::new(graph, weights)
        .calibrate(&calibration.images().unwrap())
        .unwrap()
}

#[test]
fn layers_that_were_left_in_f32_are_no_ballast() {
    let mut graph = GraphBuilder::new("wide", Shape::new(SIDE, SIDE, 3), &names());
    let x = graph.add("flatten", Op::Flatten, &[0]);
    let x = graph.add("wide", Op::linear(32), &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    let graph = graph.finish().unwrap();
    let weights = Weights::init(&graph, 1);
    let config = PtqConfig {
        exclude: vec!["wide".into()],
        ..PtqConfig::default()
    };
    let calibration = images(6, 200).images().unwrap().into_owned();
    let isa = Isa::current().unwrap();
    let model = quantize(&graph, &weights, &config, &calibration, isa).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let found = |more: usize| {
        let file = folder.path().join("m.safetensors");
        let mut bytes = encode_quantized(&model, None).unwrap();
        bytes.resize(bytes.len() + more, 0);
        std::fs::write(&file, bytes).unwrap();
        let stored = StoredModel::Quantized(model.clone());
        let patient = Patient::lowbit(&file, stored, isa).unwrap();
        levels(&diagnose(&patient).unwrap(), "size")
    };
    assert_eq!(found(0), []);
    assert_eq!(found(300_000), [Level::Warning]);
}

#[test]
fn a_sound_model_has_nothing_but_notes() {
    let (graph, weights) = colors();
    let all = || Some(given(images(60, 200), images(60, 200)));
    let found = diagnosed(float(&graph, &weights), all());
    assert!(
        found.findings.iter().all(|f| f.level == Level::Note),
        "{found:?}"
    );
    assert!(found.not_looked.is_empty(), "{found:?}");
    let model = quantized(&graph, &weights, &images(60, 200));
    let found = diagnosed(StoredModel::Quantized(model), all());
    assert!(
        found.findings.iter().all(|f| f.level == Level::Note),
        "{found:?}"
    );
    let waits: Vec<&str> = found
        .not_looked
        .iter()
        .map(|rule| rule.rule.as_str())
        .collect();
    assert_eq!(waits, ["slower-layers"]);
}

#[test]
fn rules_about_images_say_that_they_need_some() {
    let (graph, weights) = colors();
    let found = diagnosed(float(&graph, &weights), None);
    let why = found
        .not_looked
        .iter()
        .find(|rule| rule.rule == "at-chance")
        .unwrap();
    assert_eq!(why.why, "it needs --data");
    // Those about other files are not about this one.
    assert!(!found.looked.contains(&"float-nodes".to_owned()));
}

#[test]
fn chance_is_an_error_and_another_order_of_classes_has_its_own() {
    let (graph, mut weights) = colors();
    let all = || Some(given(images(60, 200), images(60, 200)));
    set(&mut weights, "fc.weight", vec![0.0; 9]);
    let found = diagnosed(float(&graph, &weights), all());
    assert_eq!(levels(&found, "at-chance"), [Level::Error]);
    assert!(levels(&found, "permuted-labels").is_empty());
    let (graph, mut weights) = colors();
    // Rows in turn: the model's first class is the data's second.
    set(
        &mut weights,
        "fc.weight",
        vec![0.0, 4.0, 0.0, 0.0, 0.0, 4.0, 4.0, 0.0, 0.0],
    );
    let found = diagnosed(float(&graph, &weights), all());
    assert_eq!(levels(&found, "permuted-labels"), [Level::Error]);
    assert!(levels(&found, "at-chance").is_empty());
    let finding = found
        .findings
        .iter()
        .find(|f| f.rule == "permuted-labels")
        .unwrap();
    assert!(
        finding.evidence.contains("100.0 % if"),
        "{}",
        finding.evidence
    );
    assert!(
        finding.evidence.contains("ant is its cow"),
        "{}",
        finding.evidence
    );
}

#[test]
fn ranges_of_dark_images_cut_off_bright_ones() {
    let (graph, mut weights) = colors();
    set(&mut weights, "conv.bias", vec![0.0; 3]);
    let dark = quantized(&graph, &weights, &images(60, 20));
    let bright = || Some(given(images(60, 200), images(60, 20)));
    let found = diagnosed(StoredModel::Quantized(dark), bright());
    assert_eq!(levels(&found, "clipped-activations").len(), 1, "{found:?}");
    let found = diagnosed(float(&graph, &weights), bright());
    assert_eq!(levels(&found, "unlike-test"), [Level::Warning], "{found:?}");
    let alike = Some(given(images(60, 200), images(60, 190)));
    assert!(levels(&diagnosed(float(&graph, &weights), alike), "unlike-test").is_empty());
}

#[test]
fn calibration_of_one_class_or_with_growing_ranges_is_named() {
    let (graph, weights) = colors();
    let all = images(90, 200);
    let ants: Vec<usize> = (0..90).step_by(3).collect();
    let found = diagnosed(
        float(&graph, &weights),
        Some(given(images(60, 200), all.take(&ants))),
    );
    assert_eq!(levels(&found, "one-class-calibration"), [Level::Warning]);
    // The second half is brighter.
    let mut pixels = images(30, 60).images().unwrap().to_vec();
    pixels.extend_from_slice(&images(30, 200).images().unwrap());
    let labels = [images(30, 60).labels(), images(30, 200).labels()].concat();
    let growing = Split::new(SIDE * SIDE * 3, pixels, labels).unwrap();
    let found = diagnosed(
        float(&graph, &weights),
        Some(given(images(60, 200), growing)),
    );
    assert_eq!(
        levels(&found, "growing-ranges"),
        [Level::Warning],
        "{found:?}"
    );
    assert!(levels(&found, "one-class-calibration").is_empty());
}

#[test]
fn one_bright_pixel_of_many_is_an_outlier() {
    let (graph, mut weights) = colors();
    // The ReLU opens for a white pixel alone.
    let blown_up = (0..9).map(|at| if at % 4 == 0 { 400.0 } else { 0.0 });
    set(&mut weights, "conv.weight", blown_up.collect());
    set(&mut weights, "conv.bias", vec![160.0; 3]);
    let mut pixels = images(60, 20).images().unwrap().to_vec();
    let count = pixels.len();
    pixels.iter_mut().for_each(|pixel| *pixel /= 2);
    pixels[count / 2] = 255;
    let labels = images(60, 20).labels().to_vec();
    let split = Split::new(SIDE * SIDE * 3, pixels, labels).unwrap();
    let found = diagnosed(float(&graph, &weights), Some(given(split.clone(), split)));
    assert_eq!(levels(&found, "outliers"), [Level::Warning], "{found:?}");
    let (graph, weights) = colors();
    let found = diagnosed(
        float(&graph, &weights),
        Some(given(images(60, 200), images(60, 200))),
    );
    assert!(levels(&found, "outliers").is_empty());
}

#[test]
fn a_relu_that_never_opens_is_silent_and_a_filter_of_zeros_dead() {
    let (graph, mut weights) = colors();
    set(&mut weights, "conv.bias", vec![1.0, 1.0, -50.0]);
    let all = || Some(given(images(60, 200), images(60, 200)));
    let found = diagnosed(float(&graph, &weights), all());
    assert_eq!(
        levels(&found, "silent-channels"),
        [Level::Warning],
        "{found:?}"
    );
    assert!(levels(&found, "dead-channels").is_empty());
    set(&mut weights, "depthwise.weight", vec![1.0, 0.0, 1.0]);
    let found = diagnosed(float(&graph, &weights), None);
    assert_eq!(levels(&found, "dead-channels"), [Level::Note]);
    assert_eq!(found.findings[0].places, ["depthwise"]);
}

/// The network with a 3×3 depthwise layer, of which one filter is a hundred times the others.
fn uneven() -> (Graph, Weights) {
    let mut graph = GraphBuilder::new("uneven", Shape::new(SIDE, SIDE, 3), &names());
    let Op::Conv(conv) = Op::conv(3, 3, 1, 1) else {
        unreachable!()
    };
    let x = graph.add("depthwise", Op::Conv(Conv { groups: 3, ..conv }), &[0]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    let graph = graph.finish().unwrap();
    let mut weights = Weights::init(&graph, 3);
    let data = weights.get("depthwise.weight").unwrap().data().to_vec();
    let data = data
        .into_iter()
        .enumerate()
        .map(|(at, w)| if at < 9 { 100.0 * w } else { w });
    set(&mut weights, "depthwise.weight", data.collect());
    (graph, weights)
}

#[test]
fn one_scale_for_uneven_filters_is_an_error_and_one_for_each_is_not() {
    let (graph, weights) = uneven();
    let of = |granularity| {
        let model = Quantizer::new(&graph, &weights)
            .granularity(granularity)
            .calibrate(&images(30, 200).images().unwrap())
            .unwrap();
        diagnosed(StoredModel::Quantized(model), None)
    };
    let found = of(Granularity::PerTensor);
    assert_eq!(
        levels(&found, "per-tensor-depthwise"),
        [Level::Error],
        "{found:?}"
    );
    assert_eq!(levels(&found, "unused-levels"), [Level::Warning]);
    let found = of(Granularity::PerChannel);
    assert!(levels(&found, "per-tensor-depthwise").is_empty());
    assert!(levels(&found, "unused-levels").is_empty());
}

#[test]
fn widths_of_all_kinds_have_no_error() {
    let (graph, weights) = colors();
    for bits in [
        WeightBits::B16,
        WeightBits::B8,
        WeightBits::B4,
        WeightBits::B2,
        WeightBits::B1,
    ] {
        let model = Quantizer::new(&graph, &weights)
            .weight_bits(bits)
            .calibrate(&images(60, 200).images().unwrap())
            .unwrap();
        let found = diagnosed(StoredModel::Quantized(model), None);
        assert!(!found.has_errors(), "{bits:?}: {found:?}");
    }
}

#[test]
fn statistics_of_other_images_do_not_fit() {
    let mut graph = GraphBuilder::new("norms", Shape::new(SIDE, SIDE, 3), &names());
    let a = graph.conv("same", 0, 3, 1, (1, 0), false);
    let a = graph.batch_norm("right", a);
    let b = graph.conv("conv", 0, 3, 3, (1, 1), false);
    let b = graph.batch_norm("norm", b);
    let b = graph.add("relu", Op::Relu, &[b]);
    let x = graph.add("add", Op::Add, &[a, b]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    let graph = graph.finish().unwrap();
    let mut weights = Weights::init(&graph, 5);
    let eye = (0..9).map(|at| if at % 4 == 0 { 1.0 } else { 0.0 });
    set(&mut weights, "same.weight", eye.collect());
    // A third of the images are bright in a color, the others dark: mean −0.4, variance 0.55.
    set(&mut weights, "right.running_mean", vec![-0.4; 3]);
    set(&mut weights, "right.running_var", vec![0.55; 3]);
    let of = |weights: &Weights| {
        let all = Some(given(images(60, 200), images(60, 200)));
        let mut findings = diagnosed(float(&graph, weights), all).findings.into_iter();
        let found = findings.find(|finding| finding.rule == "batch-norm-statistics");
        found.map(|finding| finding.places).unwrap_or_default()
    };
    set(&mut weights, "norm.running_mean", vec![9.0; 3]);
    assert_eq!(of(&weights), ["norm"]);
    set(&mut weights, "norm.running_mean", vec![0.0; 3]);
    set(&mut weights, "norm.running_var", vec![1e4; 3]);
    assert_eq!(of(&weights), ["norm"]);
    set(&mut weights, "right.running_mean", vec![3.0; 3]);
    assert_eq!(of(&weights).len(), 2);
}

/// A checkpoint whose optimizer has seen gradients of everything but what ends like this.
fn checkpoint(untouched: &str, quantizer: &str) -> Checkpoint {
    let (graph, weights) = colors();
    let mut optimizer = Weights::new();
    let parameters = ["conv", "depthwise", "fc"];
    let kinds = [
        ".weight",
        ".bias",
        ".weight_ln_scale",
        ".activation_ln_scale",
    ];
    for name in parameters
        .iter()
        .flat_map(|layer| kinds.map(|kind| format!("{layer}{kind}")))
    {
        let moment = if name.ends_with(untouched) { 0.0 } else { 0.5 };
        for end in ["first", "second"] {
            optimizer.insert(format!("{name}.{end}"), Tensor::full(&[3], moment));
        }
    }
    Checkpoint {
        graph,
        weights,
        optimizer,
        metadata: [("quantizer".to_owned(), quantizer.to_owned())].into(),
        record: None,
    }
}

#[test]
fn a_checkpoint_tells_weights_and_steps_that_no_gradient_reached() {
    let isa = Isa::current().unwrap();
    let of = |untouched: &str, quantizer: &str| {
        let checkpoint = checkpoint(untouched, quantizer);
        diagnose(&Patient::of_checkpoint(
            Path::new("c.safetensors"),
            checkpoint,
            isa,
        ))
        .unwrap()
    };
    let found = of(".weight", "lsq");
    assert_eq!(levels(&found, "no-gradient"), [Level::Error]);
    assert_eq!(found.findings[0].places, ["conv", "depthwise", "fc"]);
    let found = of(".weight_ln_scale", "lsq");
    assert_eq!(levels(&found, "frozen-steps"), [Level::Warning]);
    assert!(levels(&found, "no-gradient").is_empty());
    // Steps that are not learned do not move, and that is right.
    assert!(of(".weight_ln_scale", "absmax").findings.is_empty());
    assert!(of(".activation_ln_scale", "lsq").findings.is_empty());
    assert!(of("nothing", "lsq").findings.is_empty());
}

#[test]
fn the_order_of_classes_is_changed_for_a_good_reason_alone() {
    let right = vec![vec![9, 1, 0], vec![0, 10, 0], vec![1, 0, 9]];
    assert_eq!(reordered(&right), None);
    let turned = vec![vec![0, 1, 9], vec![10, 0, 0], vec![0, 10, 0]];
    let order = reordered(&turned).unwrap();
    assert_eq!(order.means, [2, 0, 1]);
    assert!(order.before < 0.05 && order.after > 0.95);
    // A model that always says the first class knows nothing in any order.
    let first = vec![vec![10, 0, 0]; 3];
    assert_eq!(reordered(&first), None);
    // Nor does one that always says a rare class, where another is frequent.
    let rare = vec![vec![0, 60, 0], vec![0, 5, 0], vec![0, 5, 0]];
    assert_eq!(reordered(&rare), None);
    assert_eq!(reordered(&[vec![3]]), None);
}
