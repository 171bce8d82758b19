//! Gradients against finite differences, and bits against threads and resume.

mod imported;
mod operators;
mod statistics;

use super::*;
use crate::graph::{GraphBuilder, Op, Shape};

fn classes(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

fn batch(graph: &Graph, count: usize, seed: u64) -> (Vec<u8>, Vec<u32>) {
    let mut rng = random::stream(seed, "test", 0);
    let images = (0..count * graph.input().len())
        .map(|_| random::below(&mut rng, 256) as u8)
        .collect();
    let labels = (0..count)
        .map(|_| random::below(&mut rng, graph.classes() as u32))
        .collect();
    (images, labels)
}

/// Compares every parameter's gradient with central differences of the loss, on a few of its elements.
///
/// The loss is computed in f32, so that a difference over 2ε has an error of about 1e-7/ε; kinks of ReLU and max-pool add
/// outliers: the tolerance is relative to the tensor's largest gradient, and nine of ten elements must keep it.
fn check_gradients(graph: &Graph) {
    let mut weights = Weights::init(graph, 3);
    for (index, parameter) in graph.parameters().iter().enumerate() {
        if parameter.name.contains("bn") && parameter.kind.is_trainable() {
            let mut rng = random::stream(4, "test", index as u64);
            let data = weights.get_mut(&parameter.name).unwrap().data_mut();
            for (channel, x) in data.iter_mut().enumerate() {
                *x += 0.6 * random::uniform(&mut rng) - 0.3;
                // A negative scale makes the smallest of a window's values win.
                if channel % 3 == 2 {
                    *x = -*x;
                }
            }
        }
    }
    let (images, labels) = batch(graph, 11, 5);
    let trainer = |weights: &Weights| Trainer::new(graph, weights, Optimizer::default()).unwrap();
    let mut reference = trainer(&weights);
    reference.gradients(&images, &Targets::of(&labels)).unwrap();
    for layer in &mut reference.network.layers {
        for parameter in layer.parameters() {
            let largest = parameter
                .grad
                .iter()
                .fold(0.0f32, |max, g| max.max(g.abs()));
            let before_norm =
                parameter.name.starts_with("conv") && parameter.name.ends_with("bias");
            if before_norm && largest == 0.0 {
                continue;
            }
            assert!(largest > 0.0, "{} has no gradient", parameter.name);
            let picks = parameter.value.len().min(12);
            let mut wrong = Vec::new();
            for pick in 0..picks {
                let at = pick * (parameter.value.len() - 1) / picks.max(2);
                let eps = 2e-3;
                let loss = |step: f32| {
                    let mut moved = weights.clone();
                    moved.get_mut(&parameter.name).unwrap().data_mut()[at] += step;
                    trainer(&moved)
                        .gradients(&images, &Targets::of(&labels))
                        .unwrap()
                        .loss
                };
                let difference = (loss(eps) - loss(-eps)) / f64::from(2.0 * eps);
                let error = (difference - f64::from(parameter.grad[at])).abs();
                if error > 0.05 * f64::from(largest) + 2e-4 {
                    wrong.push((at, difference, parameter.grad[at]));
                }
            }
            assert!(
                wrong.len() * 10 <= picks,
                "{}: {wrong:?} of {picks}",
                parameter.name
            );
        }
    }
}

#[test]
fn gradients_of_conv_norm_relu_pool_and_linear_agree_with_finite_differences() {
    let mut graph = GraphBuilder::new("test", Shape::new(11, 9, 3), &classes(4));
    let mut x = graph.conv("conv1", 0, 5, 3, (1, 0), true);
    x = graph.batch_norm("bn1", x);
    x = graph.add("relu1", Op::Relu, &[x]);
    x = graph.add("pool1", Op::max_pool(2), &[x]);
    x = graph.conv("conv2", x, 7, 2, (1, 0), true);
    x = graph.add("relu2", Op::Relu, &[x]);
    x = graph.add("flatten", Op::Flatten, &[x]);
    x = graph.add("fc1", Op::linear(9), &[x]);
    x = graph.add("relu3", Op::Relu, &[x]);
    graph.add("fc2", Op::linear(4), &[x]);
    check_gradients(&graph.finish().unwrap());
}

#[test]
fn gradients_through_strides_padding_shortcuts_and_mean_agree_with_finite_differences() {
    let mut graph = GraphBuilder::new("test", Shape::new(9, 8, 3), &classes(3));
    let mut x = graph.conv("conv1", 0, 6, 3, (1, 1), false);
    x = graph.batch_norm("bn1", x);
    x = graph.add("relu1", Op::Relu, &[x]);
    let trunk = x;
    x = graph.conv("conv2", trunk, 8, 3, (2, 1), false);
    x = graph.batch_norm("bn2", x);
    x = graph.add("relu2", Op::Relu, &[x]);
    x = graph.conv("conv3", x, 8, 3, (1, 1), false);
    x = graph.batch_norm("bn3", x);
    let y = graph.conv("conv4", trunk, 8, 1, (2, 0), false);
    let y = graph.batch_norm("bn4", y);
    x = graph.add("add", Op::Add, &[x, y]);
    x = graph.add("relu3", Op::Relu, &[x]);
    x = graph.add("pool", Op::GlobalAvgPool, &[x]);
    graph.add("fc", Op::linear(3), &[x]);
    check_gradients(&graph.finish().unwrap());
}

#[test]
fn gradients_of_lone_relu_and_pool_agree_with_finite_differences() {
    let mut graph = GraphBuilder::new("test", Shape::new(8, 8, 2), &classes(3));
    let x = graph.conv("conv1", 0, 4, 3, (1, 1), true);
    let left = graph.add("relu1", Op::Relu, &[x]);
    let left = graph.add("pool1", Op::max_pool(2), &[left]);
    let right = graph.add("pool2", Op::max_pool(2), &[x]);
    let sum = graph.add("add", Op::Add, &[left, right]);
    let flat = graph.add("flatten", Op::Flatten, &[sum]);
    graph.add("fc", Op::linear(3), &[flat]);
    check_gradients(&graph.finish().unwrap());
}

fn train(graph: &Graph, threads: usize, steps: u64, resume_at: Option<u64>) -> Weights {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let new = |weights: &Weights| Trainer::new(graph, weights, Optimizer::default()).unwrap();
        let mut trainer = new(&Weights::init(graph, 1));
        for step in 0..steps {
            if resume_at == Some(step) {
                let (weights, state) = (trainer.weights(), trainer.state());
                trainer = new(&Weights::init(graph, 2));
                trainer.restore(&weights, &state).unwrap();
            }
            let (images, labels) = batch(graph, 21, step);
            trainer.step(&images, &labels, 1e-3).unwrap();
        }
        trainer.weights()
    })
}

#[test]
fn weights_are_the_same_bits_at_any_number_of_threads_and_after_a_resume() {
    for name in ["eurosat-cnn", "resnet8", "mlp"] {
        let graph = crate::graph::zoo::build(name, Shape::new(32, 32, 3), &classes(10)).unwrap();
        let expected = train(&graph, 1, 4, None);
        assert_ne!(expected, Weights::init(&graph, 1));
        assert_eq!(train(&graph, 2, 4, None), expected, "{name}");
        assert_eq!(train(&graph, 3, 4, None), expected, "{name}");
        assert_eq!(train(&graph, 2, 4, Some(2)), expected, "{name}");
    }
}

#[test]
fn bad_batches_are_refused_and_change_nothing() {
    let graph = crate::graph::zoo::mlp(Shape::new(4, 4, 1), &classes(3)).unwrap();
    let mut trainer =
        Trainer::new(&graph, &Weights::init(&graph, 1), Optimizer::default()).unwrap();
    let before = trainer.weights();
    assert_eq!(
        trainer.step(&[0; 32], &[0, 3], 1e-3),
        Err(TrainError::Label {
            index: 1,
            label: 3,
            classes: 3
        })
    );
    assert!(matches!(
        trainer.step(&[0; 31], &[0, 1], 1e-3),
        Err(TrainError::Images { .. })
    ));
    assert_eq!(trainer.weights(), before);
}

#[test]
fn pulling_back_adds_the_distance_to_the_gradient() {
    let (lr, mu) = (0.01, 0.5);
    let mut builder = GraphBuilder::new("test", Shape::new(4, 4, 1), &classes(3));
    let input = builder.input();
    let flat = builder.add("flatten", Op::Flatten, &[input]);
    builder.add("fc", Op::linear(3), &[flat]);
    let graph = builder.finish().unwrap();
    let weights = Weights::init(&graph, 3);
    let (images, labels) = batch(&graph, 8, 5);
    let after = |steps: usize, pulled: bool| {
        let optimizer = Optimizer::Sgd {
            momentum: 0.0,
            nesterov: false,
        };
        let mut trainer = Trainer::new(&graph, &weights, optimizer).unwrap();
        if pulled {
            trainer.pull_back(mu);
        }
        for _ in 0..steps {
            trainer.step(&images, &labels, lr).unwrap();
        }
        trainer.weights()
    };
    // Nothing pulls in the first step; in the second, what the first one changed.
    assert_eq!(after(1, false), after(1, true));
    let (first, plain, pulled) = (after(1, false), after(2, false), after(2, true));
    for name in ["fc.weight", "fc.bias"] {
        let of = |weights: &Weights| weights.slice(name).to_vec();
        let sets = [&weights, &first, &plain, &pulled].map(of);
        for at in 0..sets[0].len() {
            let [start, first, plain, pulled] = [0, 1, 2, 3].map(|set| sets[set][at]);
            let expected = plain - lr * mu * (first - start);
            assert!((pulled - expected).abs() < 1e-7, "{name} {at}");
            assert!(first == start || pulled != plain, "{name} {at}");
        }
    }
}

#[test]
fn a_step_that_diverges_says_where() {
    let graph = crate::graph::zoo::mlp(Shape::new(4, 4, 1), &classes(3)).unwrap();
    let mut trainer = Trainer::new(
        &graph,
        &Weights::init(&graph, 1),
        Optimizer::Sgd {
            momentum: 0.9,
            nesterov: false,
        },
    )
    .unwrap();
    let (images, labels) = batch(&graph, 8, 1);
    let diverged = (0..50).find_map(|_| trainer.step(&images, &labels, 1e20).err());
    assert!(
        matches!(diverged, Some(TrainError::Diverged { .. })),
        "{diverged:?}"
    );
}

/// Images whose class a small network can learn: the class sets the channel that is brightest.
fn learnable(graph: &Graph, count: usize, seed: u64) -> (Vec<u8>, Vec<u32>) {
    let mut rng = random::stream(seed, "learnable", 0);
    let shape = graph.input();
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for _ in 0..count {
        let label = random::below(&mut rng, graph.classes() as u32);
        labels.push(label);
        for pixel in 0..shape.h() * shape.w() {
            for c in 0..shape.c() {
                let signal = if c == label as usize % shape.c() {
                    90
                } else {
                    30
                };
                let striped = if (label as usize / shape.c() + pixel / shape.w()).is_multiple_of(2)
                {
                    40
                } else {
                    0
                };
                images.push((signal + striped + random::below(&mut rng, 60)) as u8);
            }
        }
    }
    (images, labels)
}

fn qat(graph: &Graph, config: QatConfig, steps: u64) -> (Trainer, f64, f64) {
    let weights = Weights::init(graph, 1);
    let mut trainer = Trainer::quantized(graph, &weights, Optimizer::default(), config).unwrap();
    let mut losses = Vec::new();
    for step in 0..steps {
        let (images, labels) = learnable(graph, 24, step);
        losses.push(trainer.step(&images, &labels, 3e-3).unwrap().loss);
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..4]), mean(&losses[losses.len() - 4..]));
    (trainer, first, last)
}

#[test]
fn quantized_training_learns_at_every_width_and_with_every_quantizer() {
    use crate::WeightBits as B;
    use crate::train::{ActivationQuantizer as A, WeightQuantizer as W};
    for (name, size) in [("eurosat-cnn", 32), ("resnet8", 16), ("mlp", 8)] {
        let graph = crate::graph::zoo::build(name, Shape::new(size, size, 3), &classes(6)).unwrap();
        for (bits, quantizer, activation_quantizer) in [
            (B::B16, W::Auto, A::Auto),
            (B::B8, W::Auto, A::Auto),
            (B::B8, W::Lsq, A::Lsq),
            (B::B4, W::AbsMax, A::Ema),
            (B::B2, W::Lsq, A::Pact),
            (B::B1, W::DoReFa, A::Lsq),
        ] {
            let config = QatConfig {
                quantizer,
                activation_quantizer,
                ..QatConfig::of(bits)
            };
            let (_, first, last) = qat(&graph, config, 30);
            assert!(
                last < 0.7 * first,
                "{name} {config:?}: loss {first} to {last}"
            );
        }
    }
}

#[test]
fn the_automatic_choice_covers_the_range_from_8_bits_on_and_learns_steps_below() {
    let shape = Shape::new(32, 32, 3);
    let graph = crate::graph::zoo::build("eurosat-cnn", shape, &classes(6)).unwrap();
    let steps = |bits: crate::WeightBits, activation_bits: crate::ActivationBits| {
        let config = QatConfig {
            activation_bits,
            ..QatConfig::of(bits)
        };
        let (mut trainer, ..) = qat(&graph, config, 4);
        let moments = trainer.state().tensors;
        let learned = |step: &str| moments.slice(&format!("conv2.{step}.second"))[0] > 0.0;
        let learned = ["weight_ln_scale", "activation_ln_scale"].map(learned);
        (trainer.quantized_model().unwrap(), learned)
    };
    use crate::ActivationBits::{B4 as A4, B8 as A8};
    use crate::WeightBits::{B4, B8};
    assert_eq!(steps(B4, A8).1, [true, true]);
    assert_eq!(steps(B8, A4).1, [false, true]);
    let (model, learned) = steps(B8, A8);
    assert_eq!(learned, [false, false]);
    for layer in model.layers.iter().flatten() {
        let fan_in = layer.weights.len() / layer.scale.len();
        for channel in layer.weights.chunks_exact(fan_in) {
            assert_eq!(channel.iter().map(|q| q.abs()).max(), Some(127));
        }
    }
}

#[test]
fn weights_alone_can_be_trained_quantized_and_are_what_is_exported() {
    use crate::exec::{IntegerModel, Model};
    for (name, size) in [("eurosat-cnn", 32), ("resnet8", 16), ("mlp", 8)] {
        let graph = crate::graph::zoo::build(name, Shape::new(size, size, 3), &classes(6)).unwrap();
        let config = QatConfig {
            activation_bits: crate::ActivationBits::Float,
            ..QatConfig::of(crate::WeightBits::B2)
        };
        let (mut trainer, first, last) = qat(&graph, config, 30);
        assert!(last < 0.7 * first, "{name}: loss {first} to {last}");
        let model = trainer.quantized_model().unwrap();
        assert!(model.activations.iter().all(Option::is_none));
        let (images, labels) = learnable(&graph, 8, 99);
        trainer.freeze_statistics(true);
        trainer.gradients(&images, &Targets::of(&labels)).unwrap();
        let trained = &trainer.network.pass.values.last().unwrap()[..8 * 6];
        let mut logits = vec![0.0; 8 * 6];
        let deployed = IntegerModel::compile(&model, Isa::best()).unwrap();
        deployed.run(&images, &mut logits).unwrap();
        let largest = trained.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (a, b) in trained.iter().zip(&logits) {
            assert!(
                (a - b).abs() < 1e-4 * largest,
                "{name}: {a} in training, {b} deployed"
            );
        }
    }
}

#[test]
fn without_the_straight_through_estimator_latent_weights_get_no_gradient() {
    let graph = crate::graph::zoo::mlp(Shape::new(8, 8, 3), &classes(6)).unwrap();
    for ste in [true, false] {
        let config = QatConfig {
            ste,
            ..QatConfig::of(crate::WeightBits::B4)
        };
        let (mut trainer, ..) = qat(&graph, config, 4);
        let moved = trainer.network.layers[1].parameters()[0]
            .grad
            .iter()
            .any(|&g| g != 0.0);
        assert_eq!(moved, ste);
    }
}

/// Compares the deployed model, the same on all instruction sets, with training's forward pass.
fn ships_what_was_trained(graph: &Graph, trainer: &mut Trainer, name: &str) {
    use crate::exec::{IntegerModel, Model};
    let (images, labels) = learnable(graph, 16, 99);
    let model = trainer.quantized_model().unwrap();
    // The training forward pass with the running statistics, in float behind the integer products.
    trainer.freeze_statistics(true);
    trainer.gradients(&images, &Targets::of(&labels)).unwrap();
    let trained = trainer.network.pass.values.last().unwrap()[..16 * 6].to_vec();
    let mut reference = None;
    for isa in Isa::available() {
        let mut logits = vec![0.0; 16 * 6];
        IntegerModel::compile(&model, isa)
            .unwrap()
            .run(&images, &mut logits)
            .unwrap();
        let reference = reference.get_or_insert_with(|| logits.clone());
        assert_eq!(&logits, reference, "{name} on {isa}");
    }
    // Batch-norm folded into one multiplication may round a tie the other way: a step of an activation here and
    // there, which moves a logit by little.
    let largest = trained.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    for (a, b) in trained.iter().zip(reference.unwrap()) {
        assert!(
            (a - b).abs() < 0.02 * largest,
            "{name}: {a} in training, {b} deployed"
        );
    }
}

#[test]
fn the_exported_integers_are_what_was_trained() {
    for name in ["eurosat-cnn", "resnet8", "mlp"] {
        let graph = crate::graph::zoo::build(name, Shape::new(32, 32, 3), &classes(6)).unwrap();
        let (mut trainer, ..) = qat(&graph, QatConfig::of(crate::WeightBits::B4), 12);
        ships_what_was_trained(&graph, &mut trainer, name);
    }
}

#[test]
fn quantized_training_is_the_same_bits_at_any_number_of_threads_and_after_a_resume() {
    let graph = crate::graph::zoo::resnet8(Shape::new(16, 16, 3), &classes(6)).unwrap();
    let run = |threads: usize, resume: bool| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let new = |seed| {
                let weights = Weights::init(&graph, seed);
                let config = QatConfig::of(crate::WeightBits::B4);
                Trainer::quantized(&graph, &weights, Optimizer::default(), config).unwrap()
            };
            let mut trainer = new(1);
            for step in 0..4 {
                if resume && step == 2 {
                    let (weights, state) = (trainer.weights(), trainer.state());
                    trainer = new(2);
                    trainer.restore(&weights, &state).unwrap();
                }
                let (images, labels) = learnable(&graph, 21, step);
                trainer.step(&images, &labels, 1e-3).unwrap();
            }
            (trainer.weights(), trainer.quantized_model().unwrap())
        })
    };
    let expected = run(1, false);
    assert_eq!(run(2, false), expected);
    assert_eq!(run(3, true), expected);
}
