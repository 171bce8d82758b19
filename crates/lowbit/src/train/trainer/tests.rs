//! Gradients against finite differences, and bits against threads and resume.

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
            for x in weights.get_mut(&parameter.name).unwrap().data_mut() {
                *x += 0.6 * random::uniform(&mut rng) - 0.3;
            }
        }
    }
    let (images, labels) = batch(graph, 11, 5);
    let trainer = |weights: &Weights| {
        Trainer::new(graph, weights, Optimizer::default(), Isa::best()).unwrap()
    };
    let mut reference = trainer(&weights);
    reference.gradients(&images, &labels).unwrap();
    for layer in &mut reference.layers {
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
                    trainer(&moved).gradients(&images, &labels).unwrap().loss
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
    x = graph.add("pool1", Op::MaxPool2, &[x]);
    x = graph.conv("conv2", x, 7, 2, (1, 0), true);
    x = graph.add("relu2", Op::Relu, &[x]);
    x = graph.add("flatten", Op::Flatten, &[x]);
    x = graph.add("fc1", Op::Linear { out_features: 9 }, &[x]);
    x = graph.add("relu3", Op::Relu, &[x]);
    graph.add("fc2", Op::Linear { out_features: 4 }, &[x]);
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
    graph.add("fc", Op::Linear { out_features: 3 }, &[x]);
    check_gradients(&graph.finish().unwrap());
}

#[test]
fn gradients_of_lone_relu_and_pool_agree_with_finite_differences() {
    let mut graph = GraphBuilder::new("test", Shape::new(8, 8, 2), &classes(3));
    let x = graph.conv("conv1", 0, 4, 3, (1, 1), true);
    let left = graph.add("relu1", Op::Relu, &[x]);
    let left = graph.add("pool1", Op::MaxPool2, &[left]);
    let right = graph.add("pool2", Op::MaxPool2, &[x]);
    let sum = graph.add("add", Op::Add, &[left, right]);
    let flat = graph.add("flatten", Op::Flatten, &[sum]);
    graph.add("fc", Op::Linear { out_features: 3 }, &[flat]);
    check_gradients(&graph.finish().unwrap());
}

fn train(graph: &Graph, threads: usize, steps: u64, resume_at: Option<u64>) -> Weights {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let new = |weights: &Weights| {
            Trainer::new(graph, weights, Optimizer::default(), Isa::best()).unwrap()
        };
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
    let mut trainer = Trainer::new(
        &graph,
        &Weights::init(&graph, 1),
        Optimizer::default(),
        Isa::best(),
    )
    .unwrap();
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
fn a_step_that_diverges_says_where() {
    let graph = crate::graph::zoo::mlp(Shape::new(4, 4, 1), &classes(3)).unwrap();
    let mut trainer = Trainer::new(
        &graph,
        &Weights::init(&graph, 1),
        Optimizer::Sgd { momentum: 0.9 },
        Isa::best(),
    )
    .unwrap();
    let (images, labels) = batch(&graph, 8, 1);
    let diverged = (0..50).find_map(|_| trainer.step(&images, &labels, 1e20).err());
    assert!(
        matches!(diverged, Some(TrainError::Diverged { .. })),
        "{diverged:?}"
    );
}
