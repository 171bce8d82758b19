use super::*;
use crate::Silent;
use crate::experiments::inputs::tests::{input, split};
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
            qat: Some(config.qat(8)),
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
        qat: Some(config.qat(4)),
        ..Plan::default()
    };
    let trained = train(&config, &plan, &graph, &data, isa(), &Silent).unwrap();
    let mut model = trained.quantized.unwrap();
    let exact = |model: &QuantizedModel| {
        let compiled = IntegerModel::compile(model, isa()).unwrap();
        let test = evaluate(&compiled, &data.data.test);
        bit_exact(model, &test, &data.data)
    };
    assert_eq!(exact(&model), Some(true));
    let last = model.layers.iter_mut().flatten().last().unwrap();
    last.bias[0] += 1e-3;
    assert_eq!(exact(&model), Some(false));
    // Other images of the same name and number say nothing about the model.
    let other = landcover(40, 2);
    let compiled = IntegerModel::compile(&model, isa()).unwrap();
    let test = evaluate(&compiled, &other.data.test);
    assert_eq!(bit_exact(&model, &test, &other.data), None);
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
    let mut pixels = one.data.train.images().to_vec();
    pixels[5] += 1;
    let mut data = one.data.clone();
    data.train = Split::new(4, pixels, one.data.train.labels().to_vec()).unwrap();
    let other = Input::new(data, one.split.clone());
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
    let renamed = Input::new(data, one.split.clone());
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
    let other = Input::new(data, one.split.clone());
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
    for (model, qat) in [("mlp", None), ("mlp", Some(config.qat(4)))] {
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
        test_loss: 1.0,
        test_accuracy,
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
        quantized: None,
        record: None,
    };
    assert_eq!(trained.train_seconds(), 7.5);
    assert_eq!(trained.last().epoch, 3);
    assert_eq!(trained.best_test_accuracy(), 0.75);
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
    let train_split = evaluate(&model, &input.data.train);
    assert!(
        (last.train_loss - train_split.loss).abs() < 1e-4,
        "{last:?}"
    );
    assert_eq!(last.train_accuracy, train_split.accuracy());
    let test = evaluate(&model, &input.data.test);
    assert_eq!(
        (last.test_loss, last.test_accuracy),
        (test.loss, test.accuracy())
    );
    assert_eq!(last.logits_digest, Some(test.logits_digest));
    assert!((last.train_img_per_s * last.train_seconds - 8.0).abs() < 1e-9);
}
