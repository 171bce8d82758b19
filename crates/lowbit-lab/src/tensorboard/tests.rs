use super::*;
use crate::Silent;

fn record(epoch: usize) -> EpochRecord {
    EpochRecord {
        epoch,
        train_loss: 1.0 / epoch as f64,
        train_accuracy: 0.5,
        watched: Watched::test(Score {
            accuracy: 0.0,
            loss: 2.0,
        }),
        lr: 0.1,
        train_seconds: 1.0,
        train_img_per_s: 100.0,
        logits_digest: None,
    }
}

fn board(folder: &Path) -> TensorBoard {
    let mut config = Config::default();
    config.curves.tensorboard = folder.join("curves");
    TensorBoard::of(&config).unwrap().unwrap()
}

/// Event files of a run, and their bytes together.
fn files(run: &Path) -> (usize, usize) {
    let Ok(entries) = std::fs::read_dir(run) else {
        return (0, 0);
    };
    let sizes = entries.map(|entry| entry.unwrap().metadata().unwrap().len() as usize);
    sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
}

#[test]
fn each_training_is_a_run_that_grows_and_one_without_epochs_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path());
    let run = |name: &str| files(&folder.path().join("curves").join(name));
    let events = board.training("train", Box::new(Silent));
    events.stage("training");
    assert_eq!(run("train"), (0, 0));
    events.epoch_done(&record(1), 2);
    let first = run("train");
    events.epoch_done(&record(2), 2);
    assert!(first.0 == 1 && run("train").0 == 1 && run("train").1 > first.1);
    let staged = board.stages(Box::new(Silent));
    for stage in ["FP32, seed 1", "QAT, 4 bits, seed 1"] {
        staged.stage(stage);
        staged.epoch_done(&record(1), 1);
    }
    staged.stage("timing");
    assert_eq!((run("FP32_seed1").0, run("QAT_4bits_seed1").0), (1, 1));
    let mut runs: Vec<_> = std::fs::read_dir(folder.path().join("curves"))
        .unwrap()
        .collect();
    assert_eq!(runs.drain(..).count(), 3);
    assert!(TensorBoard::of(&Config::default()).unwrap().is_none());
}

/// Keeps what it is told.
#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Events for Noted {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

#[test]
fn what_cannot_be_written_is_said_once_and_stops_no_training() {
    let folder = tempfile::tempdir().unwrap();
    let (board, noted) = (board(folder.path()), Noted::default());
    std::fs::write(folder.path().join("curves/train"), b"a file").unwrap();
    let events = board.training("train", Box::new(&noted));
    for epoch in 1..=3 {
        events.epoch_done(&record(epoch), 3);
    }
    let notes = noted.0.lock().unwrap().clone();
    assert!(
        notes.len() == 1 && notes[0].contains("curves/train"),
        "{notes:?}"
    );
    let mut config = Config::default();
    config.curves.tensorboard = folder.path().join("curves/train");
    assert!(matches!(TensorBoard::of(&config), Err(LabError::Io { .. })));
}
