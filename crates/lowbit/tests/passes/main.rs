//! Passes that repair rounding: what they promise, on networks whose weights round badly.

mod networks;
mod reconstruction;

use lowbit::graph::fold_batch_norm;
use lowbit::quant::{ActivationQuant, Arithmetic, Granularity};
use lowbit::quantize::{LayerBits, Passes, PtqConfig, QuantError, at_widths, quantize};
use lowbit::{ActivationBits, WeightBits};
use lowbit_kernels::Isa;
use networks::{error, float, images, made, means, mobile, networks, run, weights};

#[test]
fn the_mean_logits_of_a_corrected_model_are_those_of_fp32() {
    for graph in networks() {
        let expected = float(&graph);
        let spread = error(&expected, &vec![0.0; expected.len()]);
        for method in [ActivationQuant::Static, ActivationQuant::WeightOnly] {
            for bits in [
                WeightBits::B8,
                WeightBits::B4,
                WeightBits::B2,
                WeightBits::B1,
            ] {
                let found = run(&graph, &made(&graph, bits, "bias-correction", method));
                let apart = error(&means(&expected), &means(&found));
                assert!(
                    apart < 1e-4 * spread,
                    "{} at {bits}, {method}: {apart} of {spread}",
                    graph.name()
                );
            }
        }
    }
}

#[test]
fn weights_that_round_badly_are_learned_to_a_tenth_of_their_error() {
    for graph in networks() {
        let expected = float(&graph);
        let off = |passes: &str| {
            let model = made(&graph, WeightBits::B4, passes, ActivationQuant::Static);
            error(&expected, &run(&graph, &model))
        };
        let nearest = off("none");
        for passes in ["adaround:200", "adaround:200,bias-correction"] {
            let learned = off(passes);
            let name = graph.name();
            assert!(
                learned < 0.1 * nearest,
                "{name}, {passes}: {learned} of {nearest}"
            );
        }
    }
}

#[test]
fn compensated_rounding_brings_logits_nearer_to_those_of_fp32() {
    for graph in networks() {
        let expected = float(&graph);
        for (bits, share) in [(WeightBits::B4, 0.5), (WeightBits::B2, 0.8)] {
            for method in [ActivationQuant::Static, ActivationQuant::WeightOnly] {
                let off = |passes: &str| {
                    let model = made(&graph, bits, passes, method);
                    error(&expected, &run(&graph, &model))
                };
                for (passes, with) in [
                    ("none", "gptq"),
                    ("bias-correction", "gptq,bias-correction"),
                    ("bias-correction", "mse-weights,gptq,bias-correction"),
                ] {
                    let (nearest, found) = (off(passes), off(with));
                    let case = format!("{} at {bits}, {method}, {with}", graph.name());
                    assert!(found < share * nearest, "{case}: {found} of {nearest}");
                }
            }
        }
    }
}

#[test]
fn compensated_weights_depend_neither_on_threads_nor_on_the_instruction_set() {
    for graph in networks() {
        let (weights, images) = (weights(&graph), images(&graph));
        let on = |threads: usize, isa: Isa| {
            let config = PtqConfig {
                weight_bits: WeightBits::B4,
                passes: "gptq".parse().unwrap(),
                ..PtqConfig::default()
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| quantize(&graph, &weights, &config, &images, isa).unwrap())
        };
        let one = on(1, Isa::best());
        assert_eq!(one, on(3, Isa::best()));
        for isa in Isa::available() {
            assert_eq!(one, on(2, isa), "{}", isa.name());
        }
    }
}

#[test]
fn one_scale_of_a_tensor_stays_one() {
    let graph = mobile();
    let scales = |granularity| {
        let config = PtqConfig {
            weight_bits: WeightBits::B2,
            granularity,
            passes: "mse-weights,gptq".parse().unwrap(),
            ..PtqConfig::default()
        };
        let model = quantize(
            &graph,
            &weights(&graph),
            &config,
            &images(&graph),
            Isa::best(),
        );
        let layers = model.unwrap().layers;
        let layer = layers.into_iter().flatten().nth(1).unwrap();
        assert_eq!((layer.bits, layer.scale.len()), (WeightBits::B2, 24));
        layer.scale
    };
    let whole = scales(Granularity::PerTensor);
    assert!(whole.iter().all(|&scale| scale == whole[0]), "{whole:?}");
    let each = scales(Granularity::PerChannel);
    assert!(each.iter().any(|&scale| scale != each[0]), "{each:?}");
}

#[test]
fn sixteen_bits_are_left_alone_and_two_ways_to_round_are_refused() {
    let graph = mobile();
    let of = |passes| made(&graph, WeightBits::B16, passes, ActivationQuant::Static).layers;
    assert_eq!(of("none"), of("gptq"));
    let config = PtqConfig {
        passes: Passes {
            gptq: true,
            adaround: Some(1),
            ..Passes::default()
        },
        ..PtqConfig::default()
    };
    let both = quantize(
        &graph,
        &weights(&graph),
        &config,
        &images(&graph),
        Isa::best(),
    );
    let both = both.unwrap_err();
    assert!(matches!(both, QuantError::Passes(_)), "{both}");
}

#[test]
fn ranges_by_their_squared_error_are_none_the_worse_and_leave_8_bits_alone() {
    let graph = mobile();
    let program = graph.program().unwrap();
    let of = |bits, passes| made(&graph, bits, passes, ActivationQuant::WeightOnly);
    assert_eq!(
        of(WeightBits::B8, "none").layers,
        of(WeightBits::B8, "mse-weights").layers
    );
    let [largest, squared] = ["none", "mse-weights"].map(|passes| of(WeightBits::B2, passes));
    let mut better = 0;
    for (index, step) in program.steps().iter().enumerate() {
        let (Some(a), Some(b)) = (&largest.layers[index], &squared.layers[index]) else {
            continue;
        };
        let (kernel, _) = fold_batch_norm(step, &weights(&graph));
        let [a, b] = [a, b].map(|layer| error(&kernel, &layer.dequantized()));
        assert!(b <= a, "layer {index}: {b} of {a}");
        better += usize::from(b < 0.9 * a);
    }
    assert!(better > 0);
}

#[test]
fn corrected_biases_of_8_bit_layers_are_whole_steps() {
    for graph in networks() {
        let model = made(
            &graph,
            WeightBits::B8,
            "adaround:20,bias-correction",
            ActivationQuant::Static,
        );
        assert_eq!(model.arithmetic, Arithmetic::IntegerBias);
        model.validate().unwrap();
        let program = graph.program().unwrap();
        let mut seen = 0;
        for (index, step) in program.steps().iter().enumerate() {
            let Some(layer) = &model.layers[index] else {
                continue;
            };
            let steps = model.bias_steps(index).expect("8 bits");
            let Some(input) = model.activations[step.inputs[0]] else {
                continue;
            };
            for ((steps, scale), bias) in steps.iter().zip(&layer.scale).zip(&layer.bias) {
                let step = input.scale * scale;
                assert!((*steps as f32 * step - bias).abs() <= 0.501 * step);
                seen += 1;
            }
        }
        assert!(seen > 0);
    }
}

#[test]
fn learned_weights_lie_beside_the_real_ones_and_do_not_depend_on_threads() {
    let graph = mobile();
    let learn = || {
        made(
            &graph,
            WeightBits::B4,
            "adaround:50",
            ActivationQuant::Static,
        )
    };
    let nearest = made(&graph, WeightBits::B4, "none", ActivationQuant::Static);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(learn)
    };
    let (one, three) = (on(1), on(3));
    assert_eq!(one, three);
    let mut moved = 0;
    for (learned, nearest) in one
        .layers
        .iter()
        .flatten()
        .zip(nearest.layers.iter().flatten())
    {
        assert_eq!(learned.scale, nearest.scale);
        for (a, b) in learned.weights.iter().zip(&nearest.weights) {
            assert!((a - b).abs() <= 1, "{a} and {b}");
            moved += usize::from(a != b);
        }
    }
    assert!(moved > 0);
}

#[test]
fn passes_that_look_at_images_want_some_and_fixed_ranges() {
    let graph = mobile();
    let config = |method| PtqConfig {
        method,
        passes: "bias-correction".parse().unwrap(),
        activation_bits: match method {
            ActivationQuant::WeightOnly => ActivationBits::Float,
            _ => ActivationBits::B8,
        },
        ..PtqConfig::default()
    };
    let quantized = |method| quantize(&graph, &weights(&graph), &config(method), &[], Isa::best());
    let dynamic = quantized(ActivationQuant::Dynamic).unwrap_err();
    assert!(matches!(dynamic, QuantError::PassesOfDynamic { .. }));
    assert!(dynamic.to_string().contains("bias-correction"), "{dynamic}");
    let alone = quantized(ActivationQuant::WeightOnly).unwrap_err();
    assert!(matches!(alone, QuantError::NoImages));
}

#[test]
fn a_layer_at_another_width_is_the_one_that_quantizing_with_it_alone_gives() {
    let graph = mobile();
    let (weights, images) = (weights(&graph), images(&graph));
    let with = |layer_bits: LayerBits, passes: &str| {
        let config = PtqConfig {
            layer_bits,
            passes: passes.parse().unwrap(),
            ..PtqConfig::default()
        };
        quantize(&graph, &weights, &config, &images, Isa::best())
    };
    let base = with(LayerBits::default(), "bias-correction").unwrap();
    let widths = [WeightBits::B4, WeightBits::B2];
    let layers = at_widths(&weights, &base, &widths, &images, Isa::best()).unwrap();
    let program = graph.program().unwrap();
    let mut seen = 0;
    for (index, step) in program.steps().iter().enumerate() {
        assert_eq!(
            layers[index].is_empty(),
            !step.has_weights(),
            "{}",
            step.name
        );
        for (layer, bits) in layers[index].iter().zip(widths) {
            let alone = LayerBits::new(vec![(step.name.clone(), bits)]);
            let model = with(alone, "mse-weights,bias-correction").unwrap();
            assert_eq!(model.layers[index].as_ref(), Some(layer), "{}", step.name);
            assert_eq!(layer.bits, bits);
            let others = model.layers.iter().flatten();
            let narrow = others.filter(|layer| layer.bits != WeightBits::B8).count();
            assert_eq!(narrow, 1, "{}", step.name);
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
    let error = with("nothing=4".parse().unwrap(), "none").unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("nothing") && error.contains("deep"),
        "{error}"
    );
}
