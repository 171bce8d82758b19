use super::verdict::Winner;
use super::*;
use crate::experiments::compare::From;
use crate::experiments::inputs::float_model;
use crate::experiments::inputs::tests::widths;
use crate::experiments::inputs::tests::{input, split};
use crate::experiments::sweep::{RunId, RunResults, Subject, SweepEvents, sweep};
use crate::{Events, Silent};
use std::sync::Mutex;

fn epoch(number: usize, test_accuracy: f64) -> EpochRecord {
    EpochRecord {
        epoch: number,
        train_loss: 0.1,
        train_accuracy: 1.0,
        watched: Watched::test(Score {
            accuracy: test_accuracy,
            loss: 0.1,
        }),
        lr: 0.1,
        train_seconds: 1.0,
        train_img_per_s: 1.0,
        logits_digest: None,
    }
}

fn seed(seed: u64, accuracy: f64, hits: &str, epochs: Vec<EpochRecord>) -> SeedResults {
    SeedResults {
        seed,
        test: Score {
            accuracy,
            loss: 0.5,
        },
        train: Score {
            accuracy: accuracy + 0.1,
            loss: 0.5,
        },
        training_time_seconds: 10.0 * seed as f64,
        epochs,
        hits: hits.into(),
    }
}

#[test]
fn means_over_seeds_are_those_of_their_results() {
    let seeds = vec![
        seed(1, 0.5, "10", vec![epoch(1, 0.7), epoch(2, 0.5)]),
        seed(2, 0.7, "11", vec![epoch(1, 0.6), epoch(2, 0.7)]),
    ];
    let found = method_results("m", 7, 3.5, seeds.clone());
    let value = serde_json::to_value(&found).unwrap();
    let number = |names: &[&str]| {
        let found = names.iter().find_map(|name| value.get(*name));
        found.and_then(serde_json::Value::as_f64).unwrap()
    };
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    near(
        number(&["final_test_accuracy_percent", "final_test_accuracy"]),
        60.0,
    );
    near(
        number(&["best_test_accuracy_percent", "best_test_accuracy"]),
        70.0,
    );
    near(number(&["train_accuracy_percent", "train_accuracy"]), 70.0);
    near(number(&["overfitting_gap_points", "overfitting_gap"]), 10.0);
    near(found.training_time_seconds, 15.0);
    assert_eq!((found.size_bytes, found.img_per_s), (7, 3.5));
    let text = value.to_string();
    // t(1) · 10 / √2 · … = 12.706 · 10.
    assert!(text.contains("_interval\":[-67.06"), "{text}");
    let one = method_results("m", 7, 3.5, seeds[..1].to_vec());
    let text = serde_json::to_string(&one).unwrap();
    assert!(text.contains("_interval\":null"), "{text}");
    let none = method_results("m", 7, 3.5, vec![seed(1, 0.5, "10", vec![])]);
    let text = serde_json::to_string(&none).unwrap();
    assert!(
        text.contains("\"best_test_accuracy") && text.contains("null"),
        "{text}"
    );
}

#[test]
fn a_verdict_pairs_ptq_with_qat() {
    // Ten images: FP32 and PTQ right on all, QAT on none.
    let all = || seed(1, 1.0, "1111111111", vec![]);
    let none = || seed(2, 0.0, "0000000000", vec![]);
    let results = |of: SeedResults| method_results("m", 1, 1.0, vec![of]);
    let seeds = [[all(), all(), none()]];
    let config = Config::default();
    let found = verdict(&config, &seeds, &results(all()), &results(none()));
    assert_eq!(found.winner, Winner::Ptq);
    assert!(
        found.reason.contains("56.66") && found.reason.contains("one seed"),
        "{}",
        found.reason
    );
    let seeds = [[all(), none(), all()]];
    let found = verdict(&config, &seeds, &results(none()), &results(all()));
    assert_eq!(found.winner, Winner::Qat);
    // Further training of QAT: 10 s against 20 s.
    assert!(found.advice.contains("-0.2 minutes"), "{}", found.advice);
    let two = [[all(), all(), all()], [all(), all(), all()]];
    let found = verdict(&config, &two, &results(all()), &results(all()));
    assert_eq!(found.winner, Winner::Tie);
    assert!(!found.reason.contains("one seed"), "{}", found.reason);
}

#[test]
fn the_whole_experiment_on_ten_images_leaves_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.results.out = folder.path().to_owned();
    config.network.model = "mlp".into();
    config.training.epochs = 1;
    config.repeats.seeds = 2;
    config.widths.bits = WeightBits::B4;
    let isa = Isa::current().unwrap();
    let start = Start::default();
    let found = qat_vs_ptq(&config, &input(), &start, isa, &Silent).unwrap();
    // Two test images never tell more than a guess.
    assert_eq!(found.comparison.comparison.winner, Winner::None);
    assert!(found.comparison.comparison.advice.contains("No verdict"));
    let methods = [&found.fp32_results, &found.ptq_results, &found.qat_results];
    for method in methods {
        assert_eq!(method.seeds.len(), 2);
        assert_eq!((method.seeds[0].seed, method.seeds[1].seed), (1, 2));
        let file = folder.path().join(FOLDER).join(&method.file);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), method.size_bytes);
        let (_, record) = format::load_with_record(&file).unwrap();
        assert_eq!(record, Some(input().record(1)));
        assert!(method.seeds.iter().all(|seed| seed.hits.len() == 2));
    }
    // Quantization takes its time too.
    let seconds = methods.map(|method| method.seeds[1].training_time_seconds);
    assert!(seconds[1] > seconds[0], "{seconds:?}");
    assert_eq!(found.evaluated, Some(Evaluated::own_test(2)));
    let file = folder.path().join(FOLDER).join(COMPARISON_RESULTS);
    let read: Results = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(read.comparison, found.comparison);
}

/// Keeps what it is told.
#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Events for Noted {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

impl SweepEvents for Noted {
    fn run(&self, _run: RunId) -> Box<dyn Events + '_> {
        Box::new(Silent)
    }

    fn finished(&self, _run: RunId, _results: &RunResults, _earlier: bool) {}

    fn timing(&self, _runs: usize) {}
}

#[test]
fn its_own_fp32_model_teaches_as_that_of_a_sweep_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.results.out = folder.path().to_owned();
    config.network.model = "mlp".into();
    config.training.epochs = 1;
    config.repeats.seeds = 1;
    config.widths.bits = WeightBits::B4;
    config.recipe.teacher = "fp32".into();
    let (images, isa, noted) = (input(), Isa::current().unwrap(), Noted::default());
    let start = Start::default();
    let taught = qat_vs_ptq(&config, &images, &start, isa, &noted).unwrap();
    let subject = Subject::named(&config, &images).unwrap();
    sweep(&config, &widths([32, 4]), 1, &subject, isa, &noted).unwrap();
    let start = Start {
        runs: Some(folder.path()),
        ..start
    };
    let taken = qat_vs_ptq(&config, &images, &start, isa, &noted).unwrap();
    let notes = std::mem::take(&mut *noted.0.lock().unwrap());
    let from_sweep = |line: &&String| line.starts_with("taken from");
    assert_eq!(notes.iter().filter(from_sweep).count(), 2, "{notes:?}");
    let test = |results: &Results| results.qat_results.seeds[0].test;
    assert_eq!(test(&taught), test(&taken));
    config.recipe.teacher = "".into();
    let alone = qat_vs_ptq(&config, &images, &Start::default(), isa, &noted).unwrap();
    assert_ne!(test(&alone), test(&taught));
    let fp32 = |results: &Results| results.fp32_results.seeds[0].test;
    assert_eq!(fp32(&alone), fp32(&taught));
}

#[test]
fn finished_trainings_are_taken_from_a_sweep_and_the_first_model_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.results.out = folder.path().to_owned();
    config.network.model = "mlp".into();
    config.training.epochs = 2;
    config.repeats.seeds = 1;
    config.widths.bits = WeightBits::B4;
    config.qat.freeze_bn_epochs = 1;
    let isa = Isa::current().unwrap();
    let noted = Noted::default();
    let images = input();
    let subject = Subject::named(&config, &images).unwrap();
    sweep(&config, &widths([32, 4]), 1, &subject, isa, &noted).unwrap();
    taken_with_their_best_epochs(&config, isa);
    let go = |start: &Start<'_>| qat_vs_ptq(&config, &input(), start, isa, &noted).unwrap();
    let taken = go(&Start {
        runs: Some(folder.path()),
        ..Start::default()
    });
    let notes = std::mem::take(&mut *noted.0.lock().unwrap());
    let from_sweep = |line: &&String| line.starts_with("taken from");
    assert_eq!(notes.iter().filter(from_sweep).count(), 2, "{notes:?}");
    let own = folder.path().join(FOLDER);
    let state = |name: &str| format::load_checkpoint(&own.join(name)).unwrap().metadata;
    assert_eq!(state("checkpoint_fp32_seed1.safetensors")["bits"], "32");
    let state = state("checkpoint_qat4_seed1.safetensors");
    assert_eq!((&*state["bits"], &*state["freeze_bn_epochs"]), ("4", "1"));
    // What is done is not done again.
    let resumed = go(&Start {
        resume: true,
        ..Start::default()
    });
    assert_eq!(resumed.qat_results.seeds, taken.qat_results.seeds);
    assert_eq!(resumed.fp32_results.seeds, taken.fp32_results.seeds);
    // A model of other data is where quantization-aware training begins, and its file remembers.
    let file = folder.path().join("m.safetensors");
    let trained = float_model(&own.join(&taken.fp32_results.file), &Config::default()).unwrap();
    let mut record = input().record(9);
    record.fingerprint = "0".repeat(32);
    format::save_float(&file, &trained.graph, &trained.weights, Some(&record)).unwrap();
    let model = float_model(&file, &Config::default()).unwrap();
    let evaluated = Evaluated::own_test(2);
    let fine = go(&Start {
        from: Some(From {
            file: &file,
            model: &model,
            evaluated: &evaluated,
        }),
        ..Start::default()
    });
    assert!(fine.fp32_results.seeds[0].epochs.is_empty());
    assert_eq!(
        fine.fp32_results.seeds[0].test,
        taken.fp32_results.seeds[0].test
    );
    let (_, known) = format::load_with_record(&own.join(&fine.qat_results.file)).unwrap();
    assert_eq!(known.unwrap().earlier, Some(Box::new(record)));
}

/// Where validation images chose the epochs, those go along.
fn taken_with_their_best_epochs(config: &Config, isa: Isa) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config.clone();
    config.results.out = folder.path().to_owned();
    let mut data = input().data;
    data.validation = split(20, 4);
    let images = Input::new(data, input().split).unwrap();
    let noted = Noted::default();
    let subject = Subject::named(&config, &images).unwrap();
    sweep(&config, &widths([32, 4]), 1, &subject, isa, &noted).unwrap();
    let runs = Some(folder.path());
    let start = Start {
        runs,
        ..Start::default()
    };
    let taken = qat_vs_ptq(&config, &images, &start, isa, &noted).unwrap();
    let notes = noted.0.lock().unwrap();
    let from_sweep = |line: &&String| line.starts_with("taken from");
    assert_eq!(notes.iter().filter(from_sweep).count(), 2, "{notes:?}");
    assert_eq!(taken.qat_results.best_test_accuracy_percent, None);
}

#[test]
fn without_a_verdict_the_differences_are_said_all_the_same() {
    let results = |number: u64, accuracy: f64| {
        method_results("m", 7, 3.5, vec![seed(number, accuracy, "1", vec![])])
    };
    // 10 and 40 seconds.
    let found = Verdict::none(&results(1, 0.5), &results(4, 0.25), "try".into());
    assert_eq!(found.accuracy_ptq_minus_qat_points, 25.0);
    assert_eq!(found.time_ptq_minus_qat_seconds, -30.0);
    assert_eq!(found.accuracy_ptq_minus_qat_points_interval, None);
    assert_eq!((found.winner, found.advice.as_str()), (Winner::None, "try"));
}
