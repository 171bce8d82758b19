//! One-bit products against bytes, buffers shared by many layers, and operators without an integer form.

use super::*;
use crate::graph::{Conv, GraphBuilder, LayerNorm, Op, zoo};
use crate::quantize::{PtqConfig, quantize};
use crate::{ActivationBits, Shape, WeightBits, Weights};
use lowbit_kernels::random;

fn classes(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

fn images(graph: &Graph, count: usize) -> Vec<u8> {
    let mut rng = random::stream(1, "test", 0);
    (0..count * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect()
}

#[test]
fn one_bit_products_give_the_bits_that_bytes_give() {
    for (name, size) in [("eurosat-cnn", 32), ("resnet8", 17), ("mlp", 9)] {
        let graph = zoo::build(name, Shape::new(size, size, 3), &classes(7)).unwrap();
        let weights = Weights::init(&graph, 3);
        let images = images(&graph, 5);
        let config = PtqConfig {
            weight_bits: WeightBits::B1,
            activation_bits: ActivationBits::B1,
            edge_bits: WeightBits::B1,
            ..PtqConfig::default()
        };
        for isa in Isa::available() {
            let model = quantize(&graph, &weights, &config, &images, isa).unwrap();
            let logits = |signs: bool, threads: usize| {
                let engine = engine(&model, Mode::Static, isa, signs).unwrap();
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut logits = vec![0.0; 5 * 7];
                pool.install(|| engine.run(&images, 5, &mut logits));
                // One image over several threads as well.
                let mut one = vec![0.0; 7];
                let image = &images[..graph.input().len()];
                pool.install(|| engine.run(image, 1, &mut one));
                assert_eq!(one, logits[..7], "{name} on {isa}");
                logits
            };
            let expected = logits(false, 1);
            assert!(expected.iter().any(|&x| x != expected[0]));
            for threads in [1, 3] {
                assert_eq!(logits(true, threads), expected, "{name} on {isa}");
            }
        }
    }
}

#[test]
fn groups_of_which_one_is_summed_in_parts_run() {
    let mut graph = GraphBuilder::new("groups", Shape::new(4, 4, 3), &classes(3));
    let x = graph.conv("wide", 0, 512, 1, (1, 0), true);
    let groups = Conv {
        groups: 2,
        ..Conv::same(4, 3)
    };
    let x = graph.add("groups", Op::Conv(groups), &[x]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    let graph = graph.finish().unwrap();
    let weights = Weights::init(&graph, 1);
    let images = images(&graph, 5);
    let config = PtqConfig {
        weight_bits: WeightBits::B16,
        ..PtqConfig::default()
    };
    let isa = Isa::best();
    let mut model = quantize(&graph, &weights, &config, &images, isa).unwrap();
    // The sums of the second group's 2304 weights do not fit 32 bits, those of the first do.
    let layer = model.layers.iter_mut().flatten();
    let layer = layer.filter(|layer| layer.weights.len() == 4 * 2304).last();
    let (first, second) = layer.unwrap().weights.split_at_mut(2 * 2304);
    first.fill(0);
    second.fill(5000);
    for isa in Isa::available() {
        let integer = IntegerModel::compile(&model, isa).unwrap();
        let logits = |images: &[u8]| {
            let mut logits = vec![0.0; 3 * integer.count(images)];
            // Several threads would take an image each.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
            let run = || integer.run(images, &mut logits);
            pool.build().unwrap().install(run).unwrap();
            logits
        };
        let one_by_one = images.chunks(48).flat_map(logits);
        assert_eq!(logits(&images), one_by_one.collect::<Vec<_>>(), "{isa}");
    }
}

#[test]
fn a_chain_of_fifty_layers_needs_the_buffers_of_two() {
    let mut graph = GraphBuilder::new("chain", Shape::new(32, 32, 16), &classes(3));
    let mut x = 0;
    for layer in 0..50 {
        x = graph.conv(&format!("conv{layer}"), x, 16, 3, (1, 1), true);
        x = graph.add(&format!("relu{layer}"), Op::Relu, &[x]);
    }
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    let graph = graph.finish().unwrap();
    let weights = Weights::init(&graph, 1);
    let images = images(&graph, 2);
    let isa = Isa::best();
    let float = FloatModel::compile(&graph, &weights, isa).unwrap();
    let model = quantize(&graph, &weights, &PtqConfig::default(), &images, isa).unwrap();
    let integer = IntegerModel::compile(&model, isa).unwrap();
    // Each layer's value had a buffer of its own before: 51 of them.
    let one = 34 * 34 * 16;
    assert!(
        float.value_bytes(1) < 4 * 3 * one,
        "{}",
        float.value_bytes(1)
    );
    assert!(
        integer.value_bytes(1) < 4 * one,
        "{}",
        integer.value_bytes(1)
    );
}

#[test]
fn an_operator_without_an_integer_form_runs_in_f32_and_the_profile_names_it() {
    let mut graph = GraphBuilder::new("test", Shape::new(9, 8, 3), &classes(4));
    let x = graph.conv("conv1", 0, 6, 3, (1, 1), true);
    let norm = Op::LayerNorm(LayerNorm { eps: 1e-5 });
    let x = graph.add("norm", norm, &[x]);
    let x = graph.conv("conv2", x, 4, 3, (1, 1), true);
    graph.add("mean", Op::GlobalAvgPool, &[x]);
    let graph = graph.finish().unwrap();
    let weights = Weights::init(&graph, 1);
    let images = images(&graph, 5);
    let model = quantize(
        &graph,
        &weights,
        &PtqConfig::default(),
        &images,
        Isa::best(),
    )
    .unwrap();
    let mut float = vec![0.0; 20];
    let compiled = FloatModel::compile(&graph, &weights, Isa::best()).unwrap();
    compiled.run(&images, &mut float).unwrap();
    let mut expected: Option<Vec<f32>> = None;
    for isa in Isa::available() {
        let integer = IntegerModel::compile(&model, isa).unwrap();
        let profile = integer.profile(&images).unwrap();
        let numbers: Vec<_> = profile
            .iter()
            .map(|layer| (&layer.name[..], layer.numbers))
            .collect();
        let (f, u) = (Numbers::F32, Numbers::U8);
        // The head has no weights: its logits are computed in f32 as well.
        assert_eq!(
            numbers,
            [("conv1", u), ("norm", f), ("conv2", u), ("mean", f)]
        );
        let mut logits = vec![0.0; 20];
        integer.run(&images, &mut logits).unwrap();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 0.02;
        assert!(logits.iter().zip(&float).all(close), "{logits:?} {float:?}");
        assert_eq!(
            *expected.get_or_insert_with(|| logits.clone()),
            logits,
            "{isa}"
        );
    }
}
