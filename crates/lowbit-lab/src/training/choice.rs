//! The epoch that the validation images choose.

use super::{EPOCHS, STEPS, check, damaged, unusable};
use crate::LabError;
use crate::decisive::Decisive;
use crate::evaluate::Score;
use lowbit::format::{Checkpoint, load_checkpoint, save_checkpoint};
use lowbit::quant::QuantizedModel;
use lowbit::train::{Trainer, TrainerState};
use lowbit::{Graph, Weights};
use std::path::{Path, PathBuf};

/// The best epoch so far: the one of the highest accuracy on the validation images, of equal ones the one of the lowest loss,
/// of equal ones the first.
#[derive(Debug)]
pub(super) struct Choice {
    /// Where it is kept beside the checkpoint.
    file: Option<PathBuf>,
    best: Option<Best>,
}

/// A model as it is deployed, after an epoch.
#[derive(Debug)]
pub(super) struct Best {
    pub(super) epoch: usize,
    pub(super) weights: Weights,
    pub(super) quantized: Option<QuantizedModel>,
    score: Score,
}

/// Metadata key of the score of the best epoch.
const SCORE: &str = "validation_score";

/// Where the best epoch of the training with this checkpoint is kept.
pub(crate) fn best_beside(checkpoint: &Path) -> PathBuf {
    checkpoint.with_extension("best.safetensors")
}

impl Choice {
    /// Begins with none.
    pub(super) fn beside(checkpoint: Option<&Path>) -> Self {
        Self {
            file: checkpoint.map(best_beside),
            best: None,
        }
    }

    /// Keeps the model of an epoch if it is the best, as it is deployed, and its trainer's state.
    pub(super) fn offer(
        &mut self,
        (epoch, score): (usize, Score),
        (graph, weights): (&Graph, &Weights),
        quantized: Option<&QuantizedModel>,
        (state, decisive): (&TrainerState, &Decisive),
    ) -> Result<(), LabError> {
        let is_better =
            |best: &Best| (score.accuracy, -score.loss) > (best.score.accuracy, -best.score.loss);
        if !self.best.as_ref().is_none_or(is_better) {
            return Ok(());
        }
        if let Some(file) = &self.file {
            let text = serde_json::to_string(&(score.accuracy, score.loss));
            let mut metadata = decisive.pairs().clone();
            metadata.extend([
                (EPOCHS.to_owned(), epoch.to_string()),
                (STEPS.to_owned(), state.steps.to_string()),
                (SCORE.to_owned(), text.expect("numbers are plain data")),
            ]);
            let checkpoint = Checkpoint {
                graph: graph.clone(),
                weights: weights.clone(),
                optimizer: state.tensors.clone(),
                metadata,
                record: None,
            };
            save_checkpoint(file, &checkpoint)?;
        }
        self.best = Some(Best {
            epoch,
            weights: weights.clone(),
            quantized: quantized.cloned(),
            score,
        });
        Ok(())
    }

    /// Reads the best of the first `epochs` in `checkpoint` of the run that `decisive` lists, and leaves the trainer in its state. One of a later
    /// epoch, of which the checkpoint was not written any more, will be made again.
    pub(super) fn restore(
        &mut self,
        (checkpoint, epochs): (&Path, usize),
        decisive: &Decisive,
        trainer: &mut Trainer,
    ) -> Result<(), LabError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let saved = load_checkpoint(file).map_err(|error| unusable(error, checkpoint))?;
        check(file, &saved, decisive)?;
        let number = |key| {
            saved
                .metadata
                .get(key)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let score = saved.metadata.get(SCORE);
        let score = score.and_then(|text| serde_json::from_str::<(f64, f64)>(text).ok());
        let (Some(epoch), Some(steps), Some((accuracy, loss))) =
            (number(EPOCHS), number(STEPS), score)
        else {
            return Err(damaged(file, checkpoint, "epoch"));
        };
        if epoch as usize > epochs {
            return Ok(());
        }
        let state = TrainerState {
            steps,
            tensors: saved.optimizer.clone(),
        };
        trainer.restore(&saved.weights, &state)?;
        self.best = Some(Best {
            epoch: epoch as usize,
            quantized: trainer.quantized_model(),
            weights: saved.weights,
            score: Score { accuracy, loss },
        });
        Ok(())
    }

    /// The best of all.
    pub(super) fn best(self) -> Option<Best> {
        self.best
    }
}
