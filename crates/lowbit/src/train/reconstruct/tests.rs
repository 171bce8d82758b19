use super::*;
use crate::graph::zoo;
use crate::quant::ActivationQuant;
use crate::quantize::{PtqConfig, quantize};
use crate::{ActivationBits, Graph, Shape};

fn graph(name: &str) -> Graph {
    let classes = ["a", "b", "c"].map(String::from);
    zoo::build(name, Shape::new(32, 32, 3), &classes).unwrap()
}

/// Fresh weights, some channels turned over by their batch-norm, with statistics that are not those of none.
fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::init(graph, 5);
    for parameter in graph.parameters() {
        let tensor = weights.get_mut(&parameter.name).unwrap();
        let is_vector = tensor.shape().len() == 1;
        for (index, x) in tensor.data_mut().iter_mut().enumerate() {
            match parameter.name.rsplit('.').next() {
                Some("running_var") => *x = 0.5 + 0.1 * (index % 7) as f32,
                Some("running_mean" | "bias") => *x = 0.05 * (index % 5) as f32 - 0.1,
                Some("weight") if is_vector && index % 3 == 0 => *x = -*x,
                _ => {}
            }
        }
    }
    weights
}

fn images(graph: &Graph, count: usize) -> Vec<u8> {
    let mut rng = random::stream(6, "test", 0);
    let bytes = 0..count * graph.input().len();
    bytes.map(|_| random::below(&mut rng, 256) as u8).collect()
}

#[test]
fn blocks_lie_between_values_that_alone_cross() {
    for (name, expected) in [("mlp", 3), ("eurosat-cnn", 6), ("resnet8", 5)] {
        let program = graph(name).program().unwrap();
        let blocks = blocks(&program);
        assert_eq!(blocks.len(), expected, "{name}: {blocks:?}");
        let mut start = 0;
        for block in &blocks {
            assert_eq!(block.start, start, "{name}: {blocks:?}");
            let steps = &program.steps()[block.clone()];
            assert!(steps.iter().any(|step| step.has_weights()));
            // What later steps read is what the block gives, or made later.
            let later = &program.steps()[block.end..];
            let read = later.iter().flat_map(|step| &step.inputs);
            assert!(
                read.into_iter().all(|&value| value >= block.end),
                "{name}: {blocks:?}"
            );
            start = block.end;
        }
        assert_eq!(start, program.steps().len());
    }
}

#[test]
fn it_begins_with_the_model_as_it_stands() {
    let graph = graph("resnet8");
    let (weights, images) = (weights(&graph), images(&graph, 9));
    for (bits, activations) in [
        (WeightBits::B16, ActivationBits::B8),
        (WeightBits::B8, ActivationBits::B8),
        (WeightBits::B4, ActivationBits::B4),
        (WeightBits::B2, ActivationBits::B8),
        (WeightBits::Ternary, ActivationBits::B2),
        (WeightBits::B1, ActivationBits::B8),
        (WeightBits::B4, ActivationBits::Float),
    ] {
        let config = PtqConfig {
            weight_bits: bits,
            activation_bits: activations,
            method: match activations {
                ActivationBits::Float => ActivationQuant::WeightOnly,
                _ => ActivationQuant::Static,
            },
            // Integers that are not the nearest ones.
            passes: match bits {
                WeightBits::B4 | WeightBits::B2 => "adaround:5".parse().unwrap(),
                _ => "none".parse().unwrap(),
            },
            ..PtqConfig::default()
        };
        let before = quantize(&graph, &weights, &config, &images, Isa::best()).unwrap();
        let qat = QatConfig {
            activation_bits: activations,
            ..QatConfig::of(bits)
        };
        let mut begun = begin(&weights, &before, qat, Isa::best()).unwrap();
        begun.forward(&images, 9);
        let after = begun.quantized_model().unwrap();
        let case = format!("{bits}, {activations}");
        let near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * a.abs().max(1e-2);
        for (a, b) in before
            .layers
            .iter()
            .flatten()
            .zip(after.layers.iter().flatten())
        {
            assert_eq!(a.bits, b.bits, "{case}");
            assert_eq!(a.weights, b.weights, "{case}");
            let scales = a.scale.iter().zip(&b.scale);
            let biases = a.bias.iter().zip(&b.bias);
            for (&a, &b) in scales.chain(biases) {
                assert!(near(a, b), "{case}: {a} and {b}");
            }
        }
        assert_eq!(before.activations.len(), after.activations.len());
        for (a, b) in before.activations.iter().zip(&after.activations) {
            let [a, b] = [a, b].map(|params| params.map(|p| (p.scale, p.zero_point)));
            let is_same = match (a, b) {
                (Some(a), Some(b)) => near(a.0, b.0) && a.1 == b.1,
                (a, b) => a == b,
            };
            assert!(is_same, "{case}: {a:?} and {b:?}");
        }
    }
}

#[test]
fn what_is_no_better_is_not_kept() {
    let graph = graph("mlp");
    let (weights, images) = (weights(&graph), images(&graph, 8));
    let config = PtqConfig::default();
    let model = quantize(&graph, &weights, &config, &images, Isa::best()).unwrap();
    let mut network = begin(&weights, &model, QatConfig::of(WeightBits::B8), Isa::best()).unwrap();
    let block = blocks(&graph.program().unwrap())[0].clone();
    let len = network.pass.plan.layouts[block.end].image_len;
    // Nothing is near to what is no number, and what is learned from it is none either.
    let wanted = Kept {
        values: vec![f32::NAN; 8 * len],
        codes: Vec::new(),
    };
    let mut learner = Learner {
        network: &mut network,
        block,
        read: (&Kept::default(), &images),
        wanted: &wanted,
        count: 8,
    };
    let before = learner.values();
    learner.learn(0, 3);
    assert_eq!(learner.values(), before);
}
