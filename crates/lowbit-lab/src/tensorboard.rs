//! Learning curves for TensorBoard: a folder of event files for each training, written as its epochs end.

mod event_file;

use crate::evaluate::Score;
use crate::experiments::federate::{FederateEvents, FederatedRound};
use crate::experiments::sweep::{RunId, RunResults, SweepEvents};
use crate::records::{EpochRecord, Watched};
use crate::{Config, Events, LabError};
use event_file::EventFile;
use lowbit_fed::round::FedEvents;
use lowbit_fed::screen::Failure;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A folder that `tensorboard --logdir` shows.
#[derive(Clone, Debug)]
pub struct TensorBoard {
    folder: PathBuf,
}

impl TensorBoard {
    /// Makes the folder that the settings name; none if they name none.
    ///
    /// # Errors
    /// [`LabError::Io`] if it cannot be made.
    pub fn of(config: &Config) -> Result<Option<Self>, LabError> {
        let folder = &config.curves.tensorboard;
        if folder.as_os_str().is_empty() {
            return Ok(None);
        }
        std::fs::create_dir_all(folder).map_err(|source| LabError::Io {
            path: folder.clone(),
            source,
        })?;
        Ok(Some(Self {
            folder: folder.clone(),
        }))
    }

    /// Passes on what a training says and writes its epochs as the run `name`.
    #[must_use]
    pub fn training<'a>(&self, name: &str, events: Box<dyn Events + 'a>) -> Box<dyn Events + 'a> {
        Box::new(Training {
            events,
            by_stage: false,
            curve: Mutex::new(Curve::new(&self.folder, name)),
        })
    }

    /// Does the same for trainings one after the other: each stage of the experiment is a run.
    #[must_use]
    pub fn stages<'a>(&self, events: Box<dyn Events + 'a>) -> Box<dyn Events + 'a> {
        Box::new(Training {
            events,
            by_stage: true,
            curve: Mutex::new(Curve::new(&self.folder, "training")),
        })
    }

    /// Does the same for the runs of a sweep, which get the names of their widths and seeds.
    #[must_use]
    pub fn sweep<'a>(&self, events: &'a dyn SweepEvents) -> Box<dyn SweepEvents + 'a> {
        Box::new(Sweep {
            events,
            board: self.clone(),
        })
    }

    /// Does the same for the rounds of a federation.
    #[must_use]
    pub fn federation<'a>(
        &self,
        name: &str,
        events: &'a dyn FederateEvents,
    ) -> Box<dyn FederateEvents + 'a> {
        Box::new(Federation {
            events,
            curve: Mutex::new(Curve::new(&self.folder, name)),
        })
    }
}

/// The event file of one run, made when its first step ends.
struct Curve {
    folder: PathBuf,
    /// Of the run.
    path: PathBuf,
    file: Option<EventFile>,
    failed: bool,
}

impl Curve {
    fn new(folder: &Path, name: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            path: folder.join(name),
            file: None,
            failed: false,
        }
    }

    /// Writes the values of a step; what went wrong is said once, and then nothing is written any more.
    fn write(&mut self, step: usize, values: &[(&str, f64)]) -> Option<String> {
        if self.failed {
            return None;
        }
        let written = match &mut self.file {
            Some(file) => file.scalars(step, values),
            None => EventFile::create(&self.path, step).and_then(|file| {
                let file = self.file.insert(file);
                file.scalars(step, values)
            }),
        };
        let error = written.err()?;
        self.failed = true;
        Some(format!(
            "tensorboard: {}: {error}; its curve ends here",
            self.path.display()
        ))
    }
}

const NO_PANIC: &str = "nothing panics while it holds the lock";

struct Training<'a> {
    events: Box<dyn Events + 'a>,
    by_stage: bool,
    curve: Mutex<Curve>,
}

impl Events for Training<'_> {
    fn stage(&self, what: &str) {
        if self.by_stage {
            let mut curve = self.curve.lock().expect(NO_PANIC);
            // `QAT, 4 bits, seed 1` is QAT_4bits_seed1.
            let name = what.replace(", ", "_").replace(' ', "");
            *curve = Curve::new(&curve.folder.clone(), &name);
        }
        self.events.stage(what);
    }

    fn epoch_started(&self, epoch: usize, epochs: usize, images: usize) {
        self.events.epoch_started(epoch, epochs, images);
    }

    fn batch_done(&self, images: usize, loss: f64, accuracy: f64) {
        self.events.batch_done(images, loss, accuracy);
    }

    fn epoch_done(&self, record: &EpochRecord, epochs: usize) {
        self.events.epoch_done(record, epochs);
        let Score { accuracy, loss } = record.watched.score();
        let (loss_of, accuracy_of) = match record.watched {
            Watched::Test { .. } => ("loss/test", "accuracy/test"),
            Watched::Validation { .. } => ("loss/validation", "accuracy/validation"),
        };
        let values = [
            ("loss/train", record.train_loss),
            (loss_of, loss),
            ("accuracy/train", record.train_accuracy),
            (accuracy_of, accuracy),
            ("learning_rate", f64::from(record.lr)),
            ("images_per_second", record.train_img_per_s),
        ];
        let failure = self
            .curve
            .lock()
            .expect(NO_PANIC)
            .write(record.epoch, &values);
        if let Some(line) = failure {
            self.events.note(&line);
        }
    }

    fn goes_on(&self) -> bool {
        self.events.goes_on()
    }

    fn note(&self, line: &str) {
        self.events.note(line);
    }
}

struct Sweep<'a> {
    events: &'a dyn SweepEvents,
    board: TensorBoard,
}

impl SweepEvents for Sweep<'_> {
    fn planned(&self, runs: &[RunId], epochs: usize) {
        self.events.planned(runs, epochs);
    }

    fn run(&self, run: RunId) -> Box<dyn Events + '_> {
        let name = format!("{}bit_seed{}", run.bits, run.seed);
        self.board.training(&name, self.events.run(run))
    }

    fn finished(&self, run: RunId, results: &RunResults, earlier: bool) {
        self.events.finished(run, results, earlier);
    }

    fn failed(&self, run: RunId, error: &LabError) {
        self.events.failed(run, error);
    }

    fn timing(&self, runs: usize) {
        self.events.timing(runs);
    }
}

struct Federation<'a> {
    events: &'a dyn FederateEvents,
    curve: Mutex<Curve>,
}

impl FedEvents for Federation<'_> {
    fn round_started(&self, round: u32, clients: &[u32]) {
        self.events.round_started(round, clients);
    }

    fn client_done(&self, client: u32, failure: Option<&Failure>) {
        self.events.client_done(client, failure);
    }
}

impl FederateEvents for Federation<'_> {
    fn round_done(&self, round: &FederatedRound, rounds: u32, bytes: u64) {
        self.events.round_done(round, rounds, bytes);
        let values = [
            ("loss/train", round.train_loss),
            ("loss/test", round.test_loss),
            ("accuracy/train", round.train_accuracy),
            ("accuracy/test", round.test_accuracy),
            ("bytes/up", round.bytes_up as f64),
            ("bytes/down", round.bytes_down as f64),
            ("bytes/so_far", bytes as f64),
        ];
        let clients = round.local_test_accuracy;
        let each = round.test_per_client.into_iter();
        let values: Vec<_> = values
            .into_iter()
            .chain(each.flat_map(|each| {
                [
                    ("accuracy/test_min", each.min),
                    ("accuracy/test_max", each.max),
                ]
            }))
            .chain(clients.map(|accuracy| ("accuracy/clients", accuracy)))
            .collect();
        let mut curve = self.curve.lock().expect(NO_PANIC);
        let failure = curve.write(round.round as usize, &values);
        if let Some(line) = failure {
            self.events.note(&line);
        }
    }

    fn note(&self, line: &str) {
        self.events.note(line);
    }
}

#[cfg(test)]
mod tests;
