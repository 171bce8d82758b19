use super::*;
use crate::Silent;
use crate::experiments::inputs::FloatFile;
use crate::experiments::inputs::tests::input;
use crate::experiments::inputs::tests::widths;
use crate::experiments::recommend::{FOLDER, Recommendation, Request, Target, recommend};
use crate::experiments::sweep::{Finished, RunId, Subject, SweepEvents, sweep};
use crate::experiments::unseen::{Choice, Chosen, Evaluated, Which};
use crate::statistics::Difference;
use lowbit::format::{self, StoredModel};
use lowbit::graph::{GraphBuilder, Op};
use lowbit::{Shape, Weights};
use lowbit_data::Split;
use lowbit_kernels::Isa;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Gray images, dark ones of class 0 and bright ones of class 1, 300 to train with and 300 others.
fn gray() -> Chosen {
    let split = |from: usize| {
        let shade = |i: usize| ((i * 37 + from) % 100 + 150 * (i % 2)) as u8;
        let pixels = (0..300).flat_map(|i| [shade(i); 4]).collect();
        Split::new(4, pixels, (0..300).map(|i| i % 2).collect()).unwrap()
    };
    let mut data = input().data;
    (data.train, data.test) = (split(1), split(2));
    Chosen {
        input: Input::new(data, input().split).unwrap(),
        evaluated: Evaluated {
            images: Which::TestOfThisSplit,
            count: 300,
            possibly_seen: None,
            seen: None,
        },
        same_data: false,
        knows_train: false,
    }
}

/// A network whose weights nearly cancel: 16 bits still tell the difference, 8 do not. With `wide`, it begins with a depthwise
/// convolution that changes nothing, whose kernel is too large to be trained quantized.
fn canceling(wide: bool) -> FloatFile {
    const UNITS: usize = 32;
    const WIDE: usize = 17;
    let classes = ["ant", "bee"].map(String::from);
    let mut graph = GraphBuilder::new("cancel", Shape::new(2, 2, 1), &classes);
    let x = match wide {
        true => graph.add("wide", Op::conv(1, WIDE, 1, WIDE / 2), &[0]),
        false => 0,
    };
    let x = graph.add("flatten", Op::Flatten, &[x]);
    let x = graph.add("hidden", Op::linear(UNITS), &[x]);
    let x = graph.add("relu", Op::Relu, &[x]);
    let x = graph.add("mean", Op::linear(UNITS), &[x]);
    graph.add("fc", Op::linear(2), &[x]);
    let graph = graph.finish().unwrap();
    let mut weights = Weights::init(&graph, 1);
    let share = 20.0 / UNITS as f32;
    if let Some(kernel) = weights.get_mut("wide.weight") {
        let taps = kernel.data_mut();
        taps.fill(0.0);
        taps[WIDE * WIDE / 2] = 1.0;
    }
    for (name, values) in [
        ("hidden.weight", [100.0, -99.99, 0.02, 0.02].repeat(UNITS)),
        ("hidden.bias", vec![1.0; UNITS]),
        ("mean.weight", vec![1.0 / UNITS as f32; UNITS * UNITS]),
        ("mean.bias", vec![0.0; UNITS]),
        (
            "fc.weight",
            [vec![-share; UNITS], vec![share; UNITS]].concat(),
        ),
        ("fc.bias", vec![20.0, -20.0]),
    ] {
        weights
            .get_mut(name)
            .unwrap()
            .data_mut()
            .copy_from_slice(&values);
    }
    FloatFile {
        graph,
        weights,
        record: None,
        foreign: None,
    }
}

fn config(out: &Path) -> Config {
    let mut config = Config::default();
    config.results.out = out.to_owned();
    config
}

fn go(
    out: &Path,
    model: &FloatFile,
    (train, resume): (f64, bool),
    events: &dyn Events,
) -> Result<Recommendation, LabError> {
    let file = out.join("model.safetensors");
    format::save_float(&file, &model.graph, &model.weights, None).unwrap();
    let request = Request {
        file: &file,
        model,
        choice: Choice::default(),
        max_drop: 5.0,
        begun: Instant::now(),
        time: Duration::from_secs(600),
        train: Some(Duration::from_secs_f64(train)),
        target: Target::Size,
        batch: 1,
        resume,
    };
    let isa = Isa::current().unwrap();
    recommend(&config(out), &request, &gray(), isa, events)
}

fn trained_rows(found: &Recommendation) -> Vec<&crate::experiments::recommend::Row> {
    let rows = found.rows.iter();
    rows.filter(|row| row.epochs.is_some()).collect()
}

/// The file of the trained row `name`, `W2A8, trained` say: files of two widths can be of one size, and those that are rounded
/// alone have no digest of a training's evaluation.
fn bytes_of(out: &Path, found: &Recommendation, name: &str) -> Vec<u8> {
    let row = found.rows.iter().find(|row| row.name == name).unwrap();
    let bits = name[1..2].parse::<u8>().unwrap();
    let folder = std::fs::read_dir(out.join(FOLDER).join("candidates")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let of_kind = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let is_of_bits = |path: &PathBuf| match format::load(path) {
        Ok(StoredModel::Quantized(model)) => {
            let layers = model.layers.iter().flatten();
            layers.map(|layer| layer.bits.get()).min() == Some(bits)
        }
        _ => false,
    };
    let mut all = of_kind
        .filter(is_of_bits)
        .map(|path| std::fs::read(path).unwrap());
    all.find(|bytes| bytes.len() as u64 == row.bytes && is_trained(bytes))
        .unwrap()
}

fn is_trained(bytes: &[u8]) -> bool {
    let mark = b"test_logits";
    bytes.windows(mark.len()).any(|window| window == mark)
}

struct Quiet;

impl SweepEvents for Quiet {
    fn run(&self, _run: RunId) -> Box<dyn Events + '_> {
        Box::new(Silent)
    }
}

#[test]
fn widths_that_rounding_spoils_are_trained_as_the_command_of_their_row_trains_them() {
    let out = tempfile::tempdir().unwrap();
    let model = canceling(false);
    let found = go(out.path(), &model, (60.0, false), &Silent).unwrap();
    let rows = trained_rows(&found);
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        ["W2A8, trained", "W4A8, trained", "W8A8, trained"],
        "{:?}",
        found.skipped
    );
    let epochs = rows[2].epochs.unwrap();
    // Few images: the time would do for more.
    assert_eq!(epochs, MOST_EPOCHS);
    let command = &rows[2].command;
    assert!(command.starts_with("lowbit sweep --from "), "{command}");
    assert!(
        command.contains("--widths 8 --seeds 1 --epochs 50 --lr 0.0001"),
        "{command}"
    );
    assert!(!command.contains("calibration-images"), "{command}");
    // What the command does gives the same file.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut config = config(elsewhere.path());
    config.repeats.seeds = 1;
    (config.training.epochs, config.training.lr) = (epochs, 1e-4);
    let chosen = gray();
    let subject = Subject::trained(model, &chosen.input, chosen.evaluated.clone());
    let isa = Isa::current().unwrap();
    let runs = sweep(&config, &widths([8]), 1, &subject, isa, &Quiet).unwrap();
    let runs: Vec<Finished> = runs.finished;
    let theirs = std::fs::read(runs[0].folder.join("model_8bit.safetensors")).unwrap();
    assert!(theirs == bytes_of(out.path(), &found, "W8A8, trained"));
    assert_eq!(theirs.len() as u64, rows[2].bytes);
    // What was trained is taken.
    let again = go(out.path(), &canceling(false), (60.0, true), &Silent).unwrap();
    let seconds = |found: &Recommendation| -> Vec<(String, f64)> {
        let rows = trained_rows(found).into_iter();
        rows.map(|row| (row.name.clone(), row.seconds)).collect()
    };
    assert_eq!(seconds(&again), seconds(&found));
}

/// Wants to stop at the first batch of epoch `at` of any training.
struct Stops {
    at: usize,
    epoch: AtomicUsize,
}

impl Events for Stops {
    fn epoch_started(&self, epoch: usize, _epochs: usize, _images: usize) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        self.epoch.load(Ordering::Relaxed) < self.at
    }
}

#[test]
fn a_training_that_was_stopped_goes_on_to_the_same_bytes() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let whole = go(one.path(), &canceling(false), (60.0, false), &Silent).unwrap();
    let stops = Stops {
        at: 20,
        epoch: AtomicUsize::new(0),
    };
    let stopped = go(other.path(), &canceling(false), (60.0, false), &stops);
    assert!(matches!(stopped, Err(LabError::Stopped { kept: 19 })));
    /// Counts epochs.
    struct Counts(AtomicUsize);
    impl Events for Counts {
        fn epoch_started(&self, _epoch: usize, _epochs: usize, _images: usize) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counts = Counts(AtomicUsize::new(0));
    let resumed = go(other.path(), &canceling(false), (60.0, true), &counts).unwrap();
    assert_eq!(counts.0.into_inner(), 3 * MOST_EPOCHS - 19);
    let name = "W2A8, trained";
    let scores = |found: &Recommendation| {
        let rows = found.rows.iter().find(|row| row.name == name);
        rows.map(|row| (row.bytes, row.choosing.clone()))
    };
    assert_eq!(scores(&whole), scores(&resumed));
    let [one, other] =
        [(one, whole), (other, resumed)].map(|(out, found)| bytes_of(out.path(), &found, name));
    assert!(one == other);
}

#[test]
fn a_network_that_cannot_be_trained_is_said_with_its_layer_and_the_rest_goes_on() {
    let out = tempfile::tempdir().unwrap();
    let found = go(out.path(), &canceling(true), (60.0, false), &Silent).unwrap();
    let line = found.skipped.iter().find(|line| line.contains("trained"));
    assert!(
        line.is_some_and(|line| line.starts_with("trained widths: layer wide: its kernel")),
        "{:?}",
        found.skipped
    );
    assert!(trained_rows(&found).is_empty());
    assert!(found.rows.iter().any(|row| row.verdict.is_some()));
}

#[test]
fn what_does_not_fit_its_share_is_said() {
    let out = tempfile::tempdir().unwrap();
    let found = go(out.path(), &canceling(false), (1e-6, false), &Silent).unwrap();
    assert!(trained_rows(&found).is_empty());
    let lines = found
        .skipped
        .iter()
        .filter(|line| line.contains("its share of --train"));
    assert_eq!(lines.count(), 3, "{:?}", found.skipped);
}

#[test]
fn a_training_wants_to_end_when_its_time_is_up() {
    let until = |ends| Until {
        events: &Silent,
        ends,
    };
    assert!(until(Instant::now() + Duration::from_secs(60)).goes_on());
    assert!(!until(Instant::now()).goes_on());
}

#[test]
fn some_steps_tell_how_long_all_take() {
    let begun = Instant::now();
    let probe = |steps| Probe {
        events: &Silent,
        begun,
        steps: Mutex::new(steps),
    };
    let at = |seconds| begun + Duration::from_secs(seconds);
    // 64 images in the first 3 s, then 128 in 4 s.
    let steps = probe(Some([(64, at(3)), (192, at(7))]));
    assert_eq!(steps.seconds_per_image(), 4.0 / 128.0);
    let alone = probe(Some([(64, at(3)), (64, at(3))]));
    assert_eq!(alone.seconds_per_image(), 3.0 / 64.0);
    assert_eq!(probe(None).seconds_per_image(), f64::INFINITY);
}

#[test]
fn widths_are_worth_training_where_rounding_is_not_shown_to_fit() {
    let candidates = crate::experiments::recommend::candidates();
    let tried = |name: &str, value: f64, half: f64| {
        let found = candidates.iter().find(|candidate| candidate.name == name);
        let candidate = found.unwrap().clone();
        let row = serde_json::json!({
            "name": name, "group": candidate.group, "bytes": 1, "seconds": 1.0, "on_front": false, "command": "",
            "choosing": {
                "images": 100, "accuracy_percent": 90.0, "changed": 1,
                "drop_points": Difference { value, low: value - half, high: value + half },
            },
        });
        Tried {
            row: serde_json::from_value(row).unwrap(),
            candidate,
        }
    };
    // 8 bits: the second is shown to fit. 4 bits: may fit, and is not shown to. 2 bits were not tried.
    let all = [
        tried("W8A8", 3.0, 0.5),
        tried("W8A8, bias-correction", 0.2, 0.5),
        tried("W4A8, adaround", 0.8, 0.5),
    ];
    assert_eq!(worth_training(&all, 1.0), [WeightBits::B2, WeightBits::B4]);
    assert_eq!(worth_training(&all, 1.4), [WeightBits::B2]);
    assert_eq!(
        worth_training(&all, 0.5),
        [WeightBits::B2, WeightBits::B4, WeightBits::B8]
    );
}
