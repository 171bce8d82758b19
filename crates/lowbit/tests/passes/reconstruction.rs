//! Blocks that learn to give what they give in f32.

use crate::networks::{classes, error, images, logits, made, mobile, networks, several, weights};
use lowbit::exec::{FloatModel, IntegerModel};
use lowbit::graph::{Conv, GraphBuilder, Op};
use lowbit::quant::{ActivationQuant, Granularity};
use lowbit::quantize::{LayerBits, Passes, PtqConfig, quantize};
use lowbit::{Shape, WeightBits};
use lowbit_kernels::Isa;

#[test]
fn reconstructed_blocks_bring_logits_nearer_to_those_of_fp32() {
    for graph in networks() {
        let weights = weights(&graph);
        // The first ones are learned from, the last ones tell.
        let images = several(&graph, 128);
        let (seen, unseen) = images.split_at(96 * graph.input().len());
        let expected = logits(
            &FloatModel::compile(&graph, &weights, Isa::best()).unwrap(),
            unseen,
        );
        for (bits, before) in [
            (WeightBits::B4, "mse-weights,bias-correction"),
            (WeightBits::B2, "mse-weights,bias-correction"),
            (WeightBits::B2, "mse-weights,adaround:100,bias-correction"),
        ] {
            let off = |passes: &str| {
                let config = PtqConfig {
                    weight_bits: bits,
                    passes: passes.parse::<Passes>().unwrap(),
                    ..PtqConfig::default()
                };
                let model = quantize(&graph, &weights, &config, seen, Isa::best()).unwrap();
                let said = model.provenance.get("reconstruction").cloned();
                let model = IntegerModel::compile(&model, Isa::best()).unwrap();
                (error(&expected, &logits(&model, unseen)), said)
            };
            let with = format!("{before},reconstruct:100");
            let ((before, nothing), (found, said)) = (off(before), off(&with));
            assert_eq!(nothing, None);
            let said = said.unwrap();
            assert!(graph.name() != "mobile" || said == "kept", "{said}");
            assert!(said == "kept" || found == before, "{said}");
            let case = format!("{} at {bits}, {with}", graph.name());
            // Means of thousands are all that counts in that network: what does not help is not kept.
            let share = match graph.name() {
                "mobile" => 0.6,
                _ => 1.001,
            };
            assert!(found < share * before, "{case}: {found} of {before}");
        }
    }
}

#[test]
fn reconstruction_does_not_depend_on_threads_and_refuses_what_it_does_not_know() {
    let graph = mobile();
    let learn = || {
        let method = ActivationQuant::Static;
        made(&graph, WeightBits::B2, "reconstruct:20", method)
    };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(learn)
    };
    assert_eq!(on(1), on(3));
    let plain = PtqConfig {
        passes: "reconstruct:1".parse().unwrap(),
        ..PtqConfig::default()
    };
    for (config, part) in [
        (
            PtqConfig {
                exclude: vec!["stem".into()],
                ..plain.clone()
            },
            "excluded",
        ),
        (
            PtqConfig {
                layer_bits: "stem=4".parse::<LayerBits>().unwrap(),
                ..plain.clone()
            },
            "bits of a layer's own",
        ),
        (
            PtqConfig {
                granularity: Granularity::PerTensor,
                ..plain
            },
            "scales per tensor",
        ),
    ] {
        let found = quantize(
            &graph,
            &weights(&graph),
            &config,
            &images(&graph),
            Isa::best(),
        );
        let error = found.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_layer_that_cannot_be_trained_is_named_before_other_passes_take_their_time() {
    let wide = Op::Conv(Conv {
        groups: 3,
        ..Conv::same(3, 17)
    });
    let mut graph = GraphBuilder::new("wide", Shape::new(17, 17, 3), &classes());
    let x = graph.add("deep", wide, &[0]);
    let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(5), &[x]);
    let graph = graph.finish().unwrap();
    let config = PtqConfig {
        // Minutes, if it began.
        passes: "adaround:100000,reconstruct".parse().unwrap(),
        ..PtqConfig::default()
    };
    let images = images(&graph);
    let found = quantize(&graph, &weights(&graph), &config, &images, Isa::best());
    let error = found.unwrap_err().to_string();
    assert!(error.contains("deep: its kernel is too large"), "{error}");
}
