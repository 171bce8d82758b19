//! What a recipe changes, and that a stopped run of it goes on with the same bits.

use super::*;
use crate::Silent;
use crate::events::Events;
use crate::experiments::inputs::tests::input;
use lowbit::WeightBits;
use lowbit::format;
use std::sync::atomic::{AtomicUsize, Ordering};

fn isa() -> Isa {
    Isa::current().unwrap()
}

fn config() -> Config {
    let mut config = Config::default();
    config.training.epochs = 3;
    config.training.batch_size = 3;
    config.training.optimizer = "nesterov".parse().unwrap();
    config.training.lr = 0.05;
    config.recipe.weight_decay = 0.01;
    config.recipe.label_smoothing = 0.1;
    config.recipe.clip_norm = 0.5;
    config.recipe.warmup_epochs = 1;
    config.recipe.mixup = 0.4;
    config.recipe.cutmix = 1.0;
    config.recipe.ema = 0.9;
    config
}

fn trained(config: &Config, plan: &Plan<'_>) -> Trained {
    trained_model("mlp", config, plan)
}

fn trained_model(name: &str, config: &Config, plan: &Plan<'_>) -> Trained {
    let input = input();
    let graph = input.graph(name).unwrap();
    train(config, plan, &graph, &input, isa(), &Silent).unwrap()
}

/// Panics after so many epochs, as a killed process stops.
struct StopAfter(usize, AtomicUsize);

impl Events for StopAfter {
    fn epoch_done(&self, _record: &EpochRecord, _epochs: usize) {
        if self.1.fetch_add(1, Ordering::Relaxed) + 1 == self.0 {
            panic!("stopped here");
        }
    }
}

#[test]
fn a_stopped_run_of_a_recipe_goes_on_with_the_same_bits() {
    for (network, bits, bn_reestimation) in [
        ("mlp", None, 0),
        ("mlp", Some(WeightBits::B4), 0),
        ("resnet8", Some(WeightBits::B4), 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint.safetensors");
        let mut config = config();
        config.recipe.bn_reestimation = bn_reestimation;
        let qat = bits.map(|bits| config.qat(bits));
        let whole = trained_model(
            network,
            &config,
            &Plan {
                qat,
                ..Plan::default()
            },
        );
        let plan = Plan {
            qat,
            checkpoint: Some(&checkpoint),
            resume: true,
            ..Plan::default()
        };
        let (input, graph) = (input(), input().graph(network).unwrap());
        let stop = StopAfter(2, AtomicUsize::new(0));
        let run = || train(&config, &plan, &graph, &input, isa(), &stop);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        let resumed = trained_model(network, &config, &plan);
        assert_eq!(resumed.weights, whole.weights, "{bits:?}");
        assert_eq!(
            resumed.quantized.map(|m| m.layers),
            whole.quantized.map(|m| m.layers)
        );
        // Nothing is left to do, and the same comes of it.
        assert_eq!(
            trained_model(network, &config, &plan).weights,
            whole.weights
        );
    }
}

#[test]
fn the_average_is_what_is_shipped_and_evaluated() {
    let mut config = config();
    let average = trained(&config, &Plan::default());
    config.recipe.ema = 0.0;
    let last = trained(&config, &Plan::default());
    assert_ne!(average.weights, last.weights);
    // The training itself is the same.
    assert_eq!(average.last().train_loss, last.last().train_loss);
    let graph = input().graph("mlp").unwrap();
    let model = FloatModel::compile(&graph, &average.weights, isa()).unwrap();
    let test = evaluate(&model, &input().data.test).unwrap();
    assert_eq!(Some(test.logits_digest), average.last().logits_digest);
}

#[test]
fn statistics_measured_anew_are_shipped_and_change_no_training() {
    let mut config = config();
    let before = trained_model("resnet8", &config, &Plan::default());
    config.recipe.bn_reestimation = 2;
    let after = trained_model("resnet8", &config, &Plan::default());
    assert_eq!(after.last().train_loss, before.last().train_loss);
    for (name, tensor) in after.weights.iter() {
        let same = tensor == before.weights.get(name).unwrap();
        assert_eq!(same, !name.contains("running_"), "{name}");
    }
    let graph = input().graph("resnet8").unwrap();
    let model = FloatModel::compile(&graph, &after.weights, isa()).unwrap();
    let test = evaluate(&model, &input().data.test).unwrap();
    assert_eq!(Some(test.logits_digest), after.last().logits_digest);
}

#[test]
fn each_part_of_a_recipe_changes_what_is_learned() {
    let whole = trained(&config(), &Plan::default());
    let without: [fn(&mut Recipe); 7] = [
        |recipe| recipe.weight_decay = 0.0,
        |recipe| recipe.label_smoothing = 0.0,
        |recipe| recipe.clip_norm = 0.0,
        |recipe| recipe.warmup_epochs = 0,
        |recipe| recipe.mixup = 0.0,
        |recipe| recipe.cutmix = 0.0,
        |recipe| recipe.ema = 0.0,
    ];
    for (index, change) in without.into_iter().enumerate() {
        let mut other = config();
        change(&mut other.recipe);
        let found = trained(&other, &Plan::default());
        assert_ne!(found.weights, whole.weights, "{index}");
    }
}

#[test]
fn a_teacher_must_know_the_same_classes_and_changes_what_is_learned() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("teacher.safetensors");
    let graph = input().graph("mlp").unwrap();
    format::save_float(&file, &graph, &Weights::init(&graph, 9), None).unwrap();
    let mut config = config();
    let alone = trained(&config, &Plan::default());
    config.recipe.teacher.clone_from(&file);
    let taught = trained(&config, &Plan::default());
    assert_ne!(taught.weights, alone.weights);
    config.recipe.teacher_weight = 0.0;
    assert_eq!(trained(&config, &Plan::default()).weights, alone.weights);

    let refused = |config: &Config| {
        let input = input();
        let graph = input.graph("mlp").unwrap();
        let error = train(config, &Plan::default(), &graph, &input, isa(), &Silent);
        error.unwrap_err().to_string()
    };
    let named = graph
        .clone()
        .with_class_names(&["wasp".into(), "fly".into()])
        .unwrap();
    format::save_float(&file, &named, &Weights::init(&named, 9), None).unwrap();
    let line = refused(&config);
    assert!(
        line.contains("knows the classes wasp, fly, and not ant, bee"),
        "{line}"
    );
    config.recipe.teacher = folder.path().join("teacher.onnx");
    assert!(refused(&config).contains("is an ONNX file"));
    config.recipe.teacher = folder.path().join("nothing.safetensors");
    assert!(refused(&config).contains("nothing.safetensors"));
}

#[test]
fn weights_to_begin_with_are_those_of_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wide.safetensors");
    let graph = input().graph("mlp").unwrap();
    let weights = Weights::init(&graph, 9);
    format::save_float(&file, &graph, &weights, None).unwrap();
    let mut config = config();
    assert!(start_weights(&config, &graph).unwrap().is_none());
    config.recipe.start_from.clone_from(&file);
    let start = start_weights(&config, &graph).unwrap().unwrap();
    assert_eq!(start.weights, weights);
    let other = input().graph("eurosat-cnn");
    if let Ok(other) = other {
        let line = start_weights(&config, &other).unwrap_err().to_string();
        assert!(line.contains("holds a mlp"), "{line}");
    }
}
