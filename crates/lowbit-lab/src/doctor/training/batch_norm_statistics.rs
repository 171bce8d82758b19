//! Running statistics of batch-norms that are not those of the images.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::{Patient, spread};
use super::super::rule::Rule;
use crate::{LabError, plural};
use lowbit::exec::{FloatModel, Model};
use lowbit::format::StoredModel;
use lowbit::graph::{GraphBuilder, NodeId, Op};
use lowbit::{Graph, Tensor, Weights};
use lowbit_data::Split;
use lowbit_kernels::Isa;
use std::collections::BTreeMap;

pub(in super::super) const RULE: Rule = Rule {
    name: "batch-norm-statistics",
    looks_at: LooksAt::FloatImages,
    finds: "batch-norms whose running mean or variance is far from that of the images",
    source: "Ioffe & Szegedy 2015; statistics that were frozen too early, or averaged over other images, cost accuracy before and after quantization",
    look,
};

/// Images that tell it.
const IMAGES: usize = 32;

/// How many running standard deviations the mean may be off, and how many times the deviation may be another.
const OFF: f64 = 1.0;
const TIMES: f64 = 3.0;

/// Share of a norm's channels that may be off.
const SOME: f64 = 0.25;

/// What is appended to the graph.
const BOTH: &str = "doctor.both";
const SQUARE: &str = "doctor.square";
const MEAN: &str = "doctor.mean";
const OUT: &str = "doctor.out";

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Ok(StoredModel::Float { graph, weights })) =
        (patient.seen(), &patient.model)
    else {
        return Ok(vec![]);
    };
    let some = spread(&images.test, IMAGES);
    let mut found: Vec<(f64, &str)> = Vec::new();
    let mut norms = 0;
    for (at, node) in graph.nodes().iter().enumerate() {
        if !matches!(node.op, Op::BatchNorm(_)) || some.is_empty() {
            continue;
        }
        norms += 1;
        let moments = normalized_moments(graph, weights, at, &some, patient.isa)?;
        let is_off = |(mean, square): &&(f64, f64)| {
            let deviation = (square - mean * mean).max(0.0).sqrt();
            mean.abs() > OFF || !(1.0 / TIMES..=TIMES).contains(&deviation)
        };
        let share = moments.iter().filter(is_off).count() as f64 / moments.len().max(1) as f64;
        if share > SOME {
            found.push((share, &node.name));
        }
    }
    if found.is_empty() {
        return Ok(vec![]);
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = found.iter().map(|(_, name)| *name).collect();
    Ok(vec![Finding {
        level: Level::Warning,
        rule: RULE.name.into(),
        evidence: format!(
            "on {} {} of {} have statistics that do not fit, {} in {:.0} % of its channels: {}",
            plural::of(some.len(), "image"),
            names.len(),
            plural::of(norms, "batch-norm"),
            found[0].1,
            100.0 * found[0].0,
            some_of(&names)
        ),
        places: places(&names),
        cost: "activations are not where the layers behind were trained to find them, and ranges grow".into(),
        remedy: "let statistics run to the end of training (--freeze-bn-epochs, momentum), or see whether pixels are normalized as in training".into(),
    }])
}

/// Mean and mean square of each channel of a batch-norm's normalized input, over images: 0 and 1 where its statistics are right.
fn normalized_moments(
    graph: &Graph,
    weights: &Weights,
    norm: NodeId,
    images: &Split,
    isa: Isa,
) -> Result<Vec<(f64, f64)>, LabError> {
    let (probe, channels) = probe(graph, norm)?;
    let name = &graph.nodes()[norm].name;
    let mut own = Weights::new();
    for parameter in probe.parameters() {
        let count = parameter.shape.iter().product::<usize>();
        let of_norm = parameter.name.strip_prefix(name.as_str());
        let tensor = match (parameter.name.strip_prefix(OUT), of_norm) {
            // Each of the two numbers of a channel as it is.
            (Some(".weight"), _) => {
                let side = 2 * channels;
                let eye = (0..count).map(|at| f32::from(u8::from(at / side == at % side)));
                Tensor::new(parameter.shape, eye.collect())
            }
            (Some(_), _) => Tensor::full(&parameter.shape, 0.0),
            (None, Some(".weight")) => Tensor::full(&parameter.shape, 1.0),
            (None, Some(".bias")) => Tensor::full(&parameter.shape, 0.0),
            _ => match weights.get(&parameter.name) {
                Some(tensor) => tensor.clone(),
                None => continue,
            },
        };
        own.insert(parameter.name, tensor);
    }
    let model = FloatModel::compile(&probe, &own, isa)?;
    let mut means = vec![0.0f32; images.len() * 2 * channels];
    model.run(&images.images()?, &mut means)?;
    let mut sums = vec![(0.0, 0.0); channels];
    for image in means.chunks_exact(2 * channels) {
        for (channel, (mean, square)) in sums.iter_mut().enumerate() {
            *mean += f64::from(image[channel]);
            *square += f64::from(image[channels + channel]);
        }
    }
    let count = images.len().max(1) as f64;
    Ok(sums
        .into_iter()
        .map(|(mean, square)| (mean / count, square / count))
        .collect())
}

/// The part of a graph before and with a batch-norm, with the means of its result and of its square as logits; and its channels.
fn probe(graph: &Graph, norm: NodeId) -> Result<(Graph, usize), LabError> {
    let nodes = graph.nodes();
    let mut needed = vec![false; norm + 1];
    needed[norm] = true;
    for at in (0..=norm).rev().filter(|&at| at > 0) {
        if needed[at] {
            nodes[at]
                .inputs
                .iter()
                .for_each(|&input| needed[input] = true);
        }
    }
    let channels = graph.shape(norm).c();
    let names: Vec<String> = (0..2 * channels)
        .map(|channel| channel.to_string())
        .collect();
    let mut builder = GraphBuilder::new(graph.name(), graph.input(), &names)
        .normalization(graph.normalization().clone());
    let mut places = BTreeMap::from([(0, 0)]);
    for at in (1..=norm).filter(|&at| needed[at]) {
        let inputs: Vec<NodeId> = nodes[at].inputs.iter().map(|input| places[input]).collect();
        places.insert(at, builder.add(&nodes[at].name, nodes[at].op, &inputs));
    }
    let x = places[&norm];
    let square = builder.add(SQUARE, Op::Mul, &[x, x]);
    let both = builder.add(BOTH, Op::Concat, &[x, square]);
    let mean = builder.add(MEAN, Op::GlobalAvgPool, &[both]);
    builder.add(OUT, Op::linear(2 * channels), &[mean]);
    Ok((builder.finish()?, channels))
}
