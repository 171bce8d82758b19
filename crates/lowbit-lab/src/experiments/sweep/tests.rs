use super::*;
use crate::Silent;
use crate::analysis::runs::Runs;
use crate::decisive::Decisive;
use crate::experiments::inputs::tests::widths;
use crate::experiments::inputs::tests::{input, split};
use crate::experiments::learning::Learning;
use crate::experiments::unseen::Evaluated;
use lowbit::WeightBits;
use lowbit::format::load_with_record;
use std::path::Path;
use std::sync::Mutex;

/// Counts what it is told.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) finished: Mutex<Vec<(RunId, bool)>>,
    timed: Mutex<Vec<usize>>,
}

impl SweepEvents for Counted {
    fn run(&self, _run: RunId) -> Box<dyn Events + '_> {
        Box::new(Silent)
    }

    fn finished(&self, run: RunId, _results: &RunResults, earlier: bool) {
        self.finished.lock().unwrap().push((run, earlier));
    }

    fn timing(&self, runs: usize) {
        self.timed.lock().unwrap().push(runs);
    }
}

pub(super) fn config(out: &Path) -> Config {
    let mut config = Config::default();
    config.results.out = out.to_owned();
    config.network.model = "mlp".into();
    config.training.epochs = 1;
    config.repeats.seeds = 2;
    config
}

pub(super) fn go(
    config: &Config,
    widths: &[u8],
    jobs: usize,
    input: &Input,
) -> (Vec<Finished>, Counted) {
    let models: Vec<_> = widths
        .iter()
        .map(|&bits| bits.try_into().unwrap())
        .collect();
    let counted = Counted::default();
    let isa = Isa::current().unwrap();
    let subject = Subject::named(config, input).unwrap();
    let done = sweep(config, &models, jobs, &subject, isa, &counted).unwrap();
    assert!(done.failed.is_empty(), "{:?}", done.failed);
    (done.finished, counted)
}

#[test]
fn every_width_of_every_seed_is_run_once_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (first, counted) = go(&config, &[32, 4, 4], 1, &input());
    let ids: Vec<(u8, u64)> = first
        .iter()
        .map(|run| (run.results.bit_width, run.results.seed))
        .collect();
    assert_eq!(ids, [(32, 1), (4, 1), (32, 2), (4, 2)]);
    assert!(
        counted
            .finished
            .lock()
            .unwrap()
            .iter()
            .all(|(_, earlier)| !earlier)
    );
    assert_eq!(*counted.timed.lock().unwrap(), [4]);
    for run in &first {
        let results = &run.results;
        assert!(results.img_per_s.unwrap() > 0.0 && results.speedup.unwrap() > 0.0);
        assert_eq!(
            (results.num_rounds, results.results_per_round.len()),
            (1, 1)
        );
        // Two test images never tell more than a guess.
        assert_ne!(results.learning, Some(Learning::Learned));
        let metrics = results.compression_metrics.unwrap();
        let file = if results.bit_width == 32 {
            "model_fp32.safetensors"
        } else {
            "model_4bit.safetensors"
        };
        let file = run.folder.join(file);
        let bytes = std::fs::metadata(&file).unwrap().len();
        assert_eq!(metrics.compressed_size_mb, bytes as f64 / 1e6);
        let (_, record) = load_with_record(&file).unwrap();
        assert_eq!(record, Some(input().record(results.seed)));
        let name = results.decisive.as_ref().unwrap().folder();
        assert!(run.folder.ends_with(name));
    }
    let (again, counted) = go(&config, &[32, 4], 3, &input());
    assert!(
        counted
            .finished
            .lock()
            .unwrap()
            .iter()
            .all(|(_, earlier)| *earlier)
    );
    assert!(counted.timed.lock().unwrap().is_empty());
    let folders =
        |runs: &[Finished]| -> Vec<PathBuf> { runs.iter().map(|run| run.folder.clone()).collect() };
    assert_eq!(folders(&again), folders(&first));
}

#[test]
fn a_run_whose_model_is_gone_or_cut_off_is_made_again_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.repeats.seeds = 1;
    config.chain.warm_start = true;
    let (first, _) = go(&config, &[32, 4], 1, &input());
    let files = [
        first[0].folder.join("model_fp32.safetensors"),
        first[1].folder.join("model_4bit.safetensors"),
    ];
    let bytes = files.each_ref().map(|file| std::fs::read(file).unwrap());
    let earlier = |counted: &Counted| -> Vec<bool> {
        let finished = counted.finished.lock().unwrap();
        finished.iter().map(|(_, earlier)| *earlier).collect()
    };
    let isa = Isa::current().unwrap();
    let measured = || {
        let (input, counted) = (input(), Counted::default());
        let subject = Subject::named(&config, &input).unwrap();
        measure(&config, &widths([32, 4]), &subject, isa, &counted).unwrap()
    };
    assert_eq!(measured().len(), 2);
    std::fs::write(&files[1], "").unwrap();
    assert_eq!(measured().len(), 1);
    let (_, counted) = go(&config, &[32, 4], 1, &input());
    assert_eq!(earlier(&counted), [true, false]);
    std::fs::remove_file(&files[0]).unwrap();
    let (again, counted) = go(&config, &[32, 4], 1, &input());
    assert_eq!(earlier(&counted), [false, true]);
    assert!(files.each_ref().map(|file| std::fs::read(file).unwrap()) == bytes);
    for (path, bytes) in again.iter().flat_map(Finished::files) {
        let found = std::fs::metadata(&path).unwrap().len();
        assert!(
            bytes.is_none_or(|bytes| bytes == found),
            "{}",
            path.display()
        );
    }
}

#[test]
fn other_images_and_other_recipes_have_folders_of_their_own_and_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.repeats.seeds = 1;
    go(&config, &[32], 1, &input());
    let mut data = input().data;
    data.name = "others".into();
    data.train = split(50, 8);
    let others = Input::new(data, input().split).unwrap();
    let (second, _) = go(&config, &[32], 1, &others);
    let runs = Runs::of_call(&second, folder.path());
    assert_eq!(runs.runs.len(), 1);
    assert_eq!(runs.runs[0].results.data, "others");
    assert_eq!(runs.beside.len(), 1);
    assert!(
        runs.beside[0].starts_with("1 run of mlp on photos"),
        "{:?}",
        runs.beside
    );
    config.training.lr = 0.1;
    let (third, counted) = go(&config, &[32], 1, &others);
    assert!(!counted.finished.lock().unwrap()[0].1);
    assert_eq!(Runs::of_call(&third, folder.path()).beside.len(), 2);
    // Float training knows nothing of quantization: the same run.
    config.qat.freeze_bn_epochs = 1;
    config.other_widths.edge_bits = WeightBits::B2;
    config.run.threads = 1;
    let (_, counted) = go(&config, &[32], 1, &others);
    assert!(counted.finished.lock().unwrap()[0].1);
}

/// What a sweep of one seed says that cannot begin.
fn refused(config: &Config) -> LabError {
    let isa = Isa::current().unwrap();
    let input = input();
    let subject = Subject::named(config, &input).unwrap();
    let events = Counted::default();
    sweep(config, &widths([32]), 1, &subject, isa, &events).unwrap_err()
}

#[test]
fn a_folder_whose_list_says_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.repeats.seeds = 1;
    let (first, _) = go(&config, &[32], 1, &input());
    let list = first[0].folder.join("decisive.json");
    let text = std::fs::read_to_string(&list).unwrap();
    let known: Decisive = serde_json::from_str(&text).unwrap();
    assert_eq!(Some(&known), first[0].results.decisive.as_ref());
    std::fs::write(&list, text.replace("\"lr\": \"0.001\"", "\"lr\": \"0.5\"")).unwrap();
    let error = refused(&config);
    let error = error.to_string();
    assert!(error.contains("lr = 0.5, this run has 0.001"), "{error}");
}

#[test]
fn a_sweep_that_another_process_runs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let held = Held::take(folder.path().to_owned()).unwrap();
    let error = refused(&config);
    assert!(matches!(error, LabError::Busy { .. }), "{error}");
    drop(held);
    go(&config, &[32], 1, &input());
}

/// A run that goes on reads the epochs before from a file and writes them again: serde_json reads most of these one digit
/// off without its feature `float_roundtrip`.
#[test]
fn numbers_that_are_read_back_are_those_that_were_written() {
    for number in [
        1.407_383_611_940_095_3,
        0.945_225_885_921_236_8,
        2.287_332_601_168_924_6,
        3.840_870_748_299_319_7,
        1.736_998_908_812_533_7_f64,
    ] {
        let text = serde_json::to_string(&number).unwrap();
        let back: f64 = serde_json::from_str(&text).unwrap();
        assert_eq!(back.to_bits(), number.to_bits(), "{text}");
    }
}

#[test]
fn every_width_begins_with_a_trained_model_where_one_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.repeats.seeds = 1;
    config.training.lr = 0.0;
    let input = input();
    let graph = input.graph("mlp").unwrap();
    let weights = lowbit::Weights::init(&graph, 77);
    let model = FloatFile {
        graph: graph.clone(),
        weights: weights.clone(),
        record: None,
        foreign: None,
    };
    let subject = Subject::trained(model, &input, Evaluated::own_test(2));
    let isa = Isa::current().unwrap();
    let done = sweep(
        &config,
        &widths([32, 8]),
        1,
        &subject,
        isa,
        &Counted::default(),
    )
    .unwrap()
    .finished;
    for run in &done {
        assert_eq!(run.results.evaluated, Some(Evaluated::own_test(2)));
        let file = run.folder.join("model_fp32.safetensors");
        let found = crate::experiments::inputs::float_model(&file, &Config::default()).unwrap();
        assert_eq!(found.weights, weights);
    }
    // The same weights behind another normalization are another run.
    let normalization = lowbit::graph::Normalization::uniform(0.25, 0.5);
    let mut builder = lowbit::graph::GraphBuilder::new("mlp", graph.input(), graph.class_names());
    for node in &graph.nodes()[1..] {
        builder.add(&node.name, node.op, &node.inputs);
    }
    let other = FloatFile {
        graph: builder.normalization(normalization).finish().unwrap(),
        weights,
        record: None,
        foreign: None,
    };
    let subject = Subject::trained(other, &input, Evaluated::own_test(2));
    let others = sweep(
        &config,
        &widths([32, 8]),
        1,
        &subject,
        isa,
        &Counted::default(),
    )
    .unwrap()
    .finished;
    assert!(others.iter().all(|run| !run.earlier));
    // Of fresh weights it is another run.
    let (others, _) = go(&config, &[32], 1, &input);
    assert!(!others[0].earlier);
}
