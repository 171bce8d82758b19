use super::*;
use crate::Silent;
use crate::evaluate::Score;
use crate::experiments::inputs::tests::{input, split};
use lowbit::WeightBits;
use lowbit_data::{Silent as NoProgress, Split};

fn landcover(images: usize, seed: u64) -> Input {
    let mut config = Config::default().with_seed(seed);
    config.images.limit = images;
    config.images.cache = false;
    Input::load(&config, &NoProgress).unwrap()
}

fn isa() -> Isa {
    Isa::current().unwrap()
}

#[test]
fn runs_that_freeze_statistics_differently_are_different_runs() {
    let input = input();
    let graph = input.graph("mlp").unwrap();
    let config = Config::default();
    let of = |frozen_norm_epochs| {
        let plan = Plan {
            qat: Some(config.qat(WeightBits::B8)),
            frozen_norm_epochs,
            ..Plan::default()
        };
        plan.decisive(&config, &input, &graph)
    };
    assert_eq!(of(0), of(0));
    assert_ne!(of(0), of(2));
    assert_ne!(of(1), of(2));
}

#[test]
fn a_model_knows_the_logits_that_training_ended_with() {
    let mut config = Config::default();
    config.training.epochs = 1;
    let data = landcover(40, 1);
    let graph = data.graph("mlp").unwrap();
    let plan = Plan {
        qat: Some(config.qat(WeightBits::B4)),
        ..Plan::default()
    };
    let trained = train(&config, &plan, &graph, &data, isa(), &Silent).unwrap();
    let mut model = trained.quantized.unwrap();
    let exact = |model: &QuantizedModel| {
        let compiled = IntegerModel::compile(model, isa()).unwrap();
        let test = evaluate(&compiled, &data.data.test).unwrap();
        bit_exact(model, &test, &data.data).unwrap()
    };
    assert_eq!(exact(&model), Some(true));
    let last = model.layers.iter_mut().flatten().last().unwrap();
    last.bias[0] += 1e-3;
    assert_eq!(exact(&model), Some(false));
    // Other images of the same name and number say nothing about the model.
    let other = landcover(40, 2);
    let compiled = IntegerModel::compile(&model, isa()).unwrap();
    let test = evaluate(&compiled, &other.data.test).unwrap();
    assert_eq!(bit_exact(&model, &test, &other.data).unwrap(), None);
    model.provenance.clear();
    assert_eq!(exact(&model), None);
}

#[test]
fn a_checkpoint_goes_on_with_nothing_but_its_own_run() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint.safetensors");
    let mut config = Config::default();
    config.training.epochs = 2;
    let one = input();
    let graph = one.graph("mlp").unwrap();
    let plan = Plan {
        checkpoint: Some(&checkpoint),
        resume: true,
        ..Plan::default()
    };
    let trained = train(&config, &plan, &graph, &one, isa(), &Silent).unwrap();
    let decisive = plan.decisive(&config, &one, &graph);
    assert!(is_finished(&checkpoint, &decisive, 2));
    assert!(!is_finished(&checkpoint, &decisive, 3));
    let again = train(&config, &plan, &graph, &one, isa(), &Silent).unwrap();
    assert_eq!(again.weights, trained.weights);
    let digests = |trained: &Trained| -> Vec<_> {
        trained
            .epochs
            .iter()
            .map(|epoch| epoch.logits_digest)
            .collect()
    };
    assert_eq!(digests(&again), digests(&trained));
    // The same names and numbers of images, one pixel that differs.
    let mut pixels = one.data.train.images().unwrap().to_vec();
    pixels[5] += 1;
    let mut data = one.data.clone();
    data.train = Split::new(4, pixels, one.data.train.labels().to_vec()).unwrap();
    let other = Input::new(data, one.split.clone()).unwrap();
    let refused = |input: &Input, graph: &Graph| {
        let error = train(&config, &plan, graph, input, isa(), &Silent).unwrap_err();
        error.to_string()
    };
    let error = refused(&other, &graph);
    assert!(
        error.contains("made with data = ") && error.contains(&other.identity.fingerprint),
        "{error}"
    );
    assert!(!is_finished(
        &checkpoint,
        &plan.decisive(&config, &other, &graph),
        2
    ));
    let mut data = one.data.clone();
    data.class_names.swap(0, 1);
    let renamed = Input::new(data, one.split.clone()).unwrap();
    let error = refused(&renamed, &renamed.graph("mlp").unwrap());
    assert!(
        error.contains("classes = ant, bee, this run has bee, ant"),
        "{error}"
    );
}

#[test]
fn a_trained_model_says_what_it_has_seen_and_had_seen_before() {
    let config = Config::default();
    let (one, graph) = (input(), input().graph("mlp").unwrap());
    let record = |start: Option<StartWeights>, input: &Input| {
        let plan = Plan {
            start,
            ..Plan::default()
        };
        plan.record(&config, input)
    };
    let own = record(None, &one).unwrap();
    assert_eq!(own, one.record(config.run.seed));
    let start = |record| {
        Some(StartWeights {
            weights: Weights::init(&graph, 1),
            record,
        })
    };
    let mut data = one.data.clone();
    data.train = split(100, 8);
    let other = Input::new(data, one.split.clone()).unwrap();
    let both = record(start(Some(own.clone())), &other).unwrap();
    assert_eq!(both.fingerprint, other.identity.fingerprint);
    assert_eq!(both.earlier.as_deref(), Some(&own));
    // The same data again add nothing; what was before stays.
    assert_eq!(record(start(Some(own.clone())), &one), Some(own));
    assert_eq!(record(start(Some(both.clone())), &other), Some(both));
    // Of a start that nobody knows, nothing is claimed.
    assert_eq!(record(start(None), &one), None);
}

#[test]
fn other_starting_weights_make_another_run() {
    let (config, input) = (Config::default(), input());
    let graph = input.graph("mlp").unwrap();
    let of = |seed| {
        let plan = Plan {
            start: Some(StartWeights {
                weights: Weights::init(&graph, seed),
                record: None,
            }),
            ..Plan::default()
        };
        plan.decisive(&config, &input, &graph)
    };
    assert_eq!(of(1), of(1));
    let difference = of(1).first_difference(&of(2)).unwrap();
    assert_eq!(difference.key, "start");
    let fresh = Plan::default().decisive(&config, &input, &graph);
    assert_eq!(fresh.get("start"), Some("scratch"));
}

#[test]
fn a_training_that_leaves_the_numbers_is_a_divergence_and_no_damaged_file() {
    let mut config = Config::default();
    config.training.lr = 1e30;
    config.training.optimizer = "sgd".parse().unwrap();
    let input = input();
    for (model, qat) in [("mlp", None), ("mlp", Some(config.qat(WeightBits::B4)))] {
        let graph = input.graph(model).unwrap();
        let plan = Plan {
            qat,
            ..Plan::default()
        };
        let error = train(&config, &plan, &graph, &input, isa(), &Silent).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("diverged") && error.contains("--lr") && !error.contains("file"),
            "{error}"
        );
        assert!(error.contains("no checkpoint was written"), "{error}");
    }
}

#[test]
fn the_sums_of_a_training_are_those_of_its_epochs() {
    let epoch = |number: usize, test_accuracy: f64, train_seconds: f64| EpochRecord {
        epoch: number,
        train_loss: 1.0,
        train_accuracy: 0.5,
        watched: Watched::test(Score {
            accuracy: test_accuracy,
            loss: 1.0,
        }),
        lr: 0.1,
        train_seconds,
        train_img_per_s: 1.0,
        logits_digest: None,
    };
    let trained = Trained {
        weights: Weights::new(),
        epochs: vec![
            epoch(1, 0.5, 1.5),
            epoch(2, 0.75, 2.0),
            epoch(3, 0.625, 4.0),
        ],
        chosen_epoch: 2,
        test: None,
        quantized: None,
        record: None,
    };
    assert_eq!(trained.train_seconds(), 7.5);
    assert_eq!(trained.last().epoch, 3);
    assert_eq!(trained.chosen().watched.score().accuracy, 0.75);
}

#[test]
fn an_epoch_counts_every_image_once() {
    let mut config = Config::default();
    config.training.epochs = 1;
    // Batches of 3, 3 and 2.
    config.training.batch_size = 3;
    config.training.lr = 1e-9;
    let input = input();
    let graph = input.graph("mlp").unwrap();
    let plan = Plan::default();
    let trained = train(&config, &plan, &graph, &input, isa(), &Silent).unwrap();
    let last = trained.last();
    // Weights that hardly move: the epoch's means are those of an evaluation.
    let model = FloatModel::compile(&graph, &trained.weights, isa()).unwrap();
    let train_split = evaluate(&model, &input.data.train).unwrap();
    assert!(
        (last.train_loss - train_split.loss).abs() < 1e-4,
        "{last:?}"
    );
    assert_eq!(last.train_accuracy, train_split.accuracy());
    let test = evaluate(&model, &input.data.test).unwrap();
    assert_eq!(last.watched, Watched::test(test.score()));
    assert_eq!(
        (trained.chosen_epoch, trained.test),
        (1, Some(test.score()))
    );
    assert_eq!(last.logits_digest, Some(test.logits_digest));
    assert!((last.train_img_per_s * last.train_seconds - 8.0).abs() < 1e-9);
}

/// Data of which some images are for validation.
fn validated(seed: u64) -> (Config, Input) {
    let mut config = Config::default().with_seed(seed);
    config.images.limit = 60;
    config.images.cache = false;
    config.images.split = "val:30".parse().unwrap();
    config.training.epochs = 8;
    config.input.image_size = 16;
    let input = Input::load(&config, &NoProgress).unwrap();
    (config, input)
}

/// Stops a training after so many epochs.
struct After(usize, std::sync::atomic::AtomicUsize);

impl Events for After {
    fn epoch_done(&self, _record: &EpochRecord, _epochs: usize) {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    fn goes_on(&self) -> bool {
        self.1.load(std::sync::atomic::Ordering::Relaxed) < self.0
    }
}

#[test]
fn validation_images_choose_the_epoch_and_a_resumed_run_chooses_the_same() {
    for (bits, ema) in [
        (None, 0.0),
        (Some(WeightBits::B4), 0.0),
        (Some(WeightBits::B4), 0.9),
    ] {
        // Of some seed, the last epoch is not the best one.
        let tried = (1..20).map(|seed| {
            let (mut config, input) = validated(seed);
            config.recipe.ema = ema;
            let graph = input.graph("mlp").unwrap();
            let plan = Plan {
                qat: bits.map(|bits| config.qat(bits)),
                ..Plan::default()
            };
            let whole = train(&config, &plan, &graph, &input, isa(), &Silent).unwrap();
            (config, input, graph, plan, whole)
        });
        let mut unlike_last = tried.filter(|(.., whole)| (2..8).contains(&whole.chosen_epoch));
        let (config, input, graph, plan, whole) = unlike_last.next().expect("one of them");
        let accuracies: Vec<f64> = whole
            .epochs
            .iter()
            .map(|epoch| {
                assert_eq!(epoch.watched.images(), "val");
                epoch.watched.score().accuracy
            })
            .collect();
        let best = accuracies.iter().copied().fold(0.0, f64::max);
        assert_eq!(
            whole.chosen().watched.score().accuracy,
            best,
            "{accuracies:?}"
        );
        let model = deployed(&graph, &whole.weights, whole.quantized.as_ref(), isa()).unwrap();
        let validated = evaluate(&*model, &input.data.validation).unwrap();
        assert_eq!(whole.chosen().logits_digest, Some(validated.logits_digest));
        let test = evaluate(&*model, &input.data.test).unwrap();
        assert_eq!(whole.test, Some(test.score()));
        if let Some(model) = &whole.quantized {
            assert_eq!(bit_exact(model, &test, &input.data).unwrap(), Some(true));
        }
        // Stopped before and behind the best epoch, and gone on with.
        for stop in [whole.chosen_epoch - 1, whole.chosen_epoch] {
            let folder = tempfile::tempdir().unwrap();
            let checkpoint = folder.path().join("checkpoint.safetensors");
            let plan = Plan {
                checkpoint: Some(&checkpoint),
                resume: true,
                ..plan.clone()
            };
            let events = After(stop, Default::default());
            let stopped = train(&config, &plan, &graph, &input, isa(), &events);
            assert!(matches!(stopped, Err(LabError::Stopped { kept }) if kept == stop));
            for _ in 0..2 {
                let again = train(&config, &plan, &graph, &input, isa(), &Silent).unwrap();
                assert_eq!(again.chosen_epoch, whole.chosen_epoch);
                assert_eq!((&again.weights, again.test), (&whole.weights, whole.test));
                assert_eq!(again.quantized, whole.quantized);
            }
        }
    }
}

#[test]
fn the_best_epoch_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint.safetensors");
    let (mut config, input) = validated(1);
    config.training.epochs = 2;
    let graph = input.graph("mlp").unwrap();
    let plan = Plan {
        checkpoint: Some(&checkpoint),
        resume: true,
        ..Plan::default()
    };
    train(&config, &plan, &graph, &input, isa(), &Silent).unwrap();
    let kept = std::fs::read(&checkpoint).unwrap();
    // A run of other settings begins anew in the folder and is killed before its first checkpoint.
    std::fs::remove_file(&checkpoint).unwrap();
    let other = config.with_seed(2);
    train(&other, &plan, &graph, &input, isa(), &Silent).unwrap();
    std::fs::write(&checkpoint, kept).unwrap();
    let error = train(&config, &plan, &graph, &input, isa(), &Silent).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("checkpoint.best.safetensors") && error.contains("seed"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_that_is_cut_off_says_what_to_remove() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint.safetensors");
    let best = folder.path().join("checkpoint.best.safetensors");
    let (config, input) = validated(1);
    let graph = input.graph("mlp").unwrap();
    let plan = Plan {
        checkpoint: Some(&checkpoint),
        resume: true,
        ..Plan::default()
    };
    let go = || train(&config, &plan, &graph, &input, isa(), &Silent);
    let trained = go().unwrap();
    let remove = format!(
        ": remove {} to train this from the beginning",
        checkpoint.display()
    );
    for file in [&checkpoint, &best] {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        let error = go().unwrap_err().to_string();
        let begin = format!("{}: it is damaged (it is cut off", file.display());
        assert!(
            error.starts_with(&begin) && error.ends_with(&remove),
            "{error}"
        );
        std::fs::write(file, bytes).unwrap();
    }
    std::fs::remove_file(&best).unwrap();
    let error = go().unwrap_err().to_string();
    assert!(
        error.contains("it is not there any more") && error.ends_with(&remove),
        "{error}"
    );
    std::fs::remove_file(&checkpoint).unwrap();
    assert_eq!(go().unwrap().weights, trained.weights);
}
