//! Whole trainings against PyTorch's.

use super::*;

/// Trains as `file` says, and compares with PyTorch's run in f64. Losses may be off by `loss` (in the same unit), norms and
/// logits by `rest` times their size.
///
/// With momentum, losses agree within 1e-7. With Adam, a unit that rounding puts on the other side of a ReLU's kink changes
/// its gradient by a whole sample's, whatever the gradient's size, and so the next steps: measured, 3e-4 by step 15.
fn check_curve(model: &str, file: &str, optimizer: Optimizer, lr: f32, tolerance: [f64; 2]) {
    let none = Regularization::default();
    check_regularized(model, file, (optimizer, none), lr, tolerance);
}

fn check_regularized(
    model: &str,
    file: &str,
    (optimizer, regularization): (Optimizer, Regularization),
    lr: f32,
    [loss, rest]: [f64; 2],
) {
    let golden = golden(file);
    let setting = &golden["setting"];
    let side = size(&setting["input"][0]);
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let graph = zoo::build(model, Shape::new(side, side, 3), &classes).unwrap();
    assert_eq!(graph.parameter_count(), size(&golden["parameter_count"]));
    let mut weights = Weights::init(&graph, 1);
    for (k, parameter) in golden["parameters"].as_array().unwrap().iter().enumerate() {
        let tensor = weights
            .get_mut(parameter["name"].as_str().unwrap())
            .unwrap();
        assert_eq!(numbers(&parameter["shape"]).len(), tensor.shape().len());
        if let Some(fan_in) = parameter["fan_in"].as_f64() {
            let bound = (1.0 / fan_in.sqrt()) as f32;
            for (j, x) in tensor.data_mut().iter_mut().enumerate() {
                *x = bound * signed(k as u64 * 10_000_000 + j as u64);
            }
        }
    }
    let mut trainer = Trainer::new(&graph, &weights, optimizer).unwrap();
    trainer.regularize(regularization);
    let expected = &golden["f64"];
    let count = size(&setting["batch"]);
    for (step, expected_loss) in numbers(&expected["loss"]).into_iter().enumerate() {
        let (images, labels) = batch(step as u64, count, graph.input().len());
        let found = trainer.step(&images, &labels, lr).unwrap().loss;
        assert!(
            (found - expected_loss).abs() <= loss,
            "step {step}: loss {found}, expected {expected_loss}"
        );
        // Decay was added to gradients that PyTorch's file has without it.
        if step == 0 && regularization.weight_decay == 0.0 {
            let mut parameters: Vec<&Parameter> = Vec::new();
            for layer in &mut trainer.network.layers {
                parameters.extend(layer.parameters().into_iter().map(|p| &*p));
            }
            for parameter in parameters {
                let expected = &expected["gradient_norm"][&parameter.name];
                let name = format!("gradient of {}", parameter.name);
                // Of one pass, so rounding alone tells them apart.
                let found = norm(&parameter.grad) as f32;
                assert_close(&name, &[found], &numbers(expected), 1e-5);
            }
        }
    }
    let weights = trainer.weights();
    for (kind, norms) in [("weight", "weight_norm"), ("statistic", "running_norm")] {
        for (name, expected) in expected[norms].as_object().unwrap() {
            let found = norm(weights.slice(name)) as f32;
            assert_close(
                &format!("{kind} {name}"),
                &[found],
                &numbers(expected),
                rest,
            );
        }
    }
    let mut logits = vec![0.0; 4 * 10];
    let (images, _) = batch(0, 4, graph.input().len());
    let model = FloatModel::compile(&graph, &weights, Isa::best()).unwrap();
    model.run(&images, &mut logits).unwrap();
    assert_close("logits", &logits, &numbers(&expected["eval_logits"]), rest);
}

#[test]
fn eurosat_cnn_trains_with_adam_as_in_pytorch() {
    let adam = Optimizer::default();
    check_curve(
        "eurosat-cnn",
        "eurosat_cnn_loss_curve",
        adam,
        1e-3,
        [2e-3, 1e-2],
    );
}

#[test]
fn eurosat_cnn_trains_with_momentum_as_in_pytorch() {
    let sgd = Optimizer::Sgd {
        momentum: 0.9,
        nesterov: false,
    };
    check_curve("eurosat-cnn", "eurosat_cnn_sgd", sgd, 1e-2, [1e-5, 1e-4]);
}

#[test]
fn resnet8_trains_with_adam_and_with_momentum_as_in_pytorch() {
    // Adam takes steps of one length for gradients of any, those that are rounding alone too: PyTorch's own f32 run lies 8e-5 from its
    // f64 one.
    check_curve(
        "resnet8",
        "resnet8_adam",
        Optimizer::default(),
        1e-3,
        [3e-4, 1e-2],
    );
    let sgd = Optimizer::Sgd {
        momentum: 0.9,
        nesterov: false,
    };
    check_curve("resnet8", "resnet8_sgd", sgd, 1e-2, [1e-5, 1e-4]);
}

#[test]
fn resnet8_trains_with_decay_clipping_and_smoothing_as_in_pytorch() {
    // Gradients' lengths agree within 1e-7 in the first two steps; then a unit lies on the other side of its ReLU's kink.
    let nesterov = "nesterov".parse().unwrap();
    let regularization = Regularization::default()
        .weight_decay(5e-2)
        .clip_norm(1.0)
        .label_smoothing(0.1);
    check_regularized(
        "resnet8",
        "resnet8_regularized",
        (nesterov, regularization),
        1e-2,
        [1e-5, 5e-3],
    );
}
