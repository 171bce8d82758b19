//! The epoch loop: shuffling, schedule, test accuracy per epoch, checkpoints and resume.

mod average;
mod choice;
mod epoch;
mod mix;
mod teacher;

pub(crate) use choice::best_beside;
pub use teacher::start_weights;

use self::average::Average;
use self::choice::Choice;
use self::epoch::{Beside, reestimate, run_epoch};
use self::teacher::Teacher;
use crate::config::areas::{Recipe, Training as Settings};
use crate::decisive::{Decisive, Inherited, Quantized};
use crate::digest::{FNV_START, of_weights};
use crate::evaluate::{Evaluation, Score, evaluate, images_digest};
use crate::experiments::inputs::Input;
use crate::records::{EpochRecord, Watched};
use crate::{Config, Events, LabError};
use lowbit::exec::{FloatModel, IntegerModel, Model, RuntimeError};
use lowbit::format::{Checkpoint, FormatError, TrainingRecord, load_checkpoint, save_checkpoint};
use lowbit::graph::Op;
use lowbit::quant::QuantizedModel;
use lowbit::quantize::{PtqConfig, QuantError, quantize};
use lowbit::train::{QatConfig, Regularization, Trainer, TrainerState};
use lowbit::{Graph, Shape, Weights};
use lowbit_data::{Dataset, Split};
use lowbit_kernels::Isa;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

/// A finished training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The chosen epoch's weights; latent ones in quantization-aware training.
    pub weights: Weights,
    /// One record per epoch.
    pub epochs: Vec<EpochRecord>,
    /// The epoch whose weights these are, from 1: the best on the validation images, or the last where there are none; 0 where
    /// nothing was trained.
    pub chosen_epoch: usize,
    /// What it came to on the test images; none where nothing was trained.
    pub test: Option<Score>,
    /// The integer model that quantization-aware training ended with.
    pub quantized: Option<QuantizedModel>,
    /// What it was trained on, where that is known.
    pub record: Option<TrainingRecord>,
}

/// How to train, beyond the settings.
#[derive(Clone, Debug, Default)]
pub struct Plan<'a> {
    /// Quantization-aware training; none for f32.
    pub qat: Option<QatConfig>,
    /// Start from these weights instead of fresh ones.
    pub start: Option<StartWeights>,
    /// What of its start and its teacher the experiment trained itself.
    pub inherited: Inherited,
    /// Epochs at the end that keep batch-norm's running statistics as they are.
    pub frozen_norm_epochs: usize,
    /// Where the state is written after every epoch.
    pub checkpoint: Option<&'a Path>,
    /// Go on from the checkpoint if there is one.
    pub resume: bool,
}

/// Weights that training goes on from.
#[derive(Clone, Debug)]
pub struct StartWeights {
    /// The weights.
    pub weights: Weights,
    /// What they were trained on, where that is known.
    pub record: Option<TrainingRecord>,
}

impl StartWeights {
    /// A name for them: a checksum over all tensors.
    pub(crate) fn name(&self) -> String {
        format!("weights {:016x}", of_weights(FNV_START, &self.weights))
    }
}

impl Plan<'_> {
    /// Lists what decides the result of this training.
    #[must_use]
    pub fn decisive(&self, config: &Config, input: &Input, graph: &Graph) -> Decisive {
        let frozen_epochs = self.frozen_norm_epochs;
        let quantized = self.qat.map(|qat| Quantized { qat, frozen_epochs });
        let start = self.start.as_ref().map(StartWeights::name);
        Decisive::of(config, input, graph, quantized, start.as_deref()).inherited(&self.inherited)
    }

    /// What the trained model's file says about its training.
    fn record(&self, config: &Config, input: &Input) -> Option<TrainingRecord> {
        let mut record = input.record(config.run.seed);
        if let Some(start) = &self.start {
            // Of weights that came from nobody knows where, the images are not known either.
            let before = start.record.as_ref()?;
            record.earlier = if before.fingerprint == record.fingerprint {
                before.earlier.clone()
            } else {
                Some(Box::new(before.clone()))
            };
        }
        Some(record)
    }
}

impl Trained {
    /// Seconds of training; evaluation, and statistics that are measured anew before it, are not counted.
    #[must_use]
    pub fn train_seconds(&self) -> f64 {
        self.epochs.iter().map(|epoch| epoch.train_seconds).sum()
    }

    /// The last epoch.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn last(&self) -> &EpochRecord {
        self.epochs.last().expect("training has at least one epoch")
    }

    /// The chosen epoch.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn chosen(&self) -> &EpochRecord {
        &self.epochs[self.chosen_epoch - 1]
    }

    /// What the model came to on the test images.
    ///
    /// # Panics
    /// If nothing was trained.
    #[must_use]
    pub fn test_score(&self) -> Score {
        self.test.expect("a training ends with a measurement")
    }
}

/// Provenance key of what training's last evaluation of the model gave.
const DIGEST: &str = "test_logits";

fn digest_of(digest: u32, data: &Dataset) -> Result<String, LabError> {
    Ok(format!(
        "{digest:08x} over {} images of {} ({:08x})",
        data.test.len(),
        data.name,
        images_digest(&data.test)?
    ))
}

/// Whether an evaluation of `model` gave the logits that training's last evaluation gave, to the bit; none where the model
/// was not trained quantized, or on other data.
///
/// # Errors
/// [`LabError::Data`] when an image cannot be read.
pub fn bit_exact(
    model: &QuantizedModel,
    test: &Evaluation,
    data: &Dataset,
) -> Result<Option<bool>, LabError> {
    let Some(recorded) = model.provenance.get(DIGEST) else {
        return Ok(None);
    };
    let found = digest_of(test.logits_digest, data)?;
    let after = |digest: &str| Some(digest.split_once(' ')?.1.to_owned());
    let is_of_these = after(recorded).is_some() && after(recorded) == after(&found);
    Ok(is_of_these.then_some(*recorded == found))
}

/// Metadata key of the epochs so far.
const EPOCHS: &str = "history";
/// Metadata key of the optimizer's step count.
const STEPS: &str = "steps";

/// Trains `graph` as `plan` says, on rayon's current pool. After a resume it ends with the same bits as a run that never
/// stopped. Accuracy is the deployed model's: the float inference path, or the packed integers. Where the data have validation
/// images, they choose the epoch, and the test images are looked at once, at the end.
///
/// # Errors
/// [`LabError`] when the data do not fit the model, the loss diverges, or a checkpoint cannot be written or is another
/// run's.
pub fn train(
    config: &Config,
    plan: &Plan<'_>,
    graph: &Graph,
    input: &Input,
    isa: Isa,
    events: &dyn Events,
) -> Result<Trained, LabError> {
    let data = &input.data;
    let Settings {
        epochs: epoch_count,
        batch_size,
        optimizer,
        ..
    } = config.training;
    crate::memory::check(graph)?;
    let start = plan.start.as_ref().map(|start| start.weights.clone());
    let mut weights = start.unwrap_or_else(|| Weights::init(graph, config.run.seed));
    let mut trainer = Trainer::compile(graph, &weights, optimizer, plan.qat, isa)?;
    let Recipe {
        weight_decay,
        label_smoothing,
        clip_norm,
        ..
    } = config.recipe;
    trainer.regularize(
        Regularization::default()
            .weight_decay(weight_decay)
            .label_smoothing(label_smoothing)
            .clip_norm(clip_norm),
    );
    let mut beside = Beside {
        average: Average::new(config.recipe.ema),
        teacher: Teacher::of(config, graph, isa)?,
        reestimation: match graph
            .nodes()
            .iter()
            .any(|node| matches!(node.op, Op::BatchNorm(_)))
        {
            true => config.recipe.bn_reestimation,
            false => 0,
        },
    };
    let mut epochs: Vec<EpochRecord> = Vec::new();
    let mut choice = (!data.validation.is_empty()).then(|| Choice::beside(plan.checkpoint));
    let decisive = plan.decisive(config, input, graph);
    let trained_on = plan.record(config, input);
    if let Some(path) = plan.checkpoint.filter(|path| plan.resume && path.exists()) {
        let saved = load_checkpoint(path).map_err(|error| unusable(error, path))?;
        check(path, &saved, &decisive)?;
        if let Some(choice) = &mut choice {
            let done = history(path, &saved)?.len();
            choice.restore((path, done), &decisive, &mut trainer)?;
        }
        epochs = restore(path, &saved, &mut trainer)?;
        if let Some(average) = &mut beside.average
            && !average.restore(&saved.optimizer)
        {
            return Err(damaged(path, path, "average of the weights"));
        }
        events.note(&format!(
            "resumed after epoch {} of {epoch_count}",
            epochs.len(),
        ));
    }
    let steps_per_epoch = data.train.len().div_ceil(batch_size);
    let total = (steps_per_epoch * epoch_count) as u64;
    let warmup_epochs = config.recipe.warmup_epochs;
    let mut quantized = None;
    let was_done = epochs.len() == epoch_count;
    for epoch in epochs.len()..epoch_count {
        events.epoch_started(epoch + 1, epoch_count, data.train.len());
        trainer.freeze_statistics(epoch + plan.frozen_norm_epochs >= epoch_count);
        let start = Instant::now();
        let shown = (&data.train, graph.input());
        let schedule = (epoch, (warmup_epochs * steps_per_epoch) as u64, total);
        let (score, lr) = run_epoch(config, &mut trainer, &mut beside, shown, schedule, events)?;
        let train_seconds = start.elapsed().as_secs_f64();
        let last = trainer.weights();
        (weights, quantized) = ended(config, &mut trainer, &beside, &last, (shown, epoch))?;
        let (images, watched): (_, fn(Score) -> Watched) = match choice {
            Some(_) => (&data.validation, Watched::validation),
            None => (&data.test, Watched::test),
        };
        let found = deployed(graph, &weights, quantized.as_ref(), isa)
            .map_err(|reason| overflowed(epoch, reason))
            .and_then(|model| Ok(evaluate(&*model, images)?))?;
        let watched = watched(found.score());
        if !found.loss.is_finite() {
            let what = format!("the {} loss is {}", watched.images(), found.loss);
            return Err(overflowed(epoch, what));
        }
        if let Some(choice) = &mut choice {
            let model = (graph, &weights);
            let result = (epoch + 1, watched.score());
            let state = (&trainer.state(), &decisive);
            choice.offer(result, model, quantized.as_ref(), state)?;
        }
        let record = EpochRecord {
            epoch: epoch + 1,
            train_loss: score.loss,
            train_accuracy: score.accuracy,
            watched,
            lr,
            train_seconds,
            train_img_per_s: data.train.len() as f64 / train_seconds,
            logits_digest: Some(found.logits_digest),
        };
        epochs.push(record);
        if let Some(path) = plan.checkpoint {
            let mut metadata = decisive.pairs().clone();
            let state = trainer.state();
            metadata.insert(STEPS.into(), state.steps.to_string());
            let history = serde_json::to_string(&epochs).expect("records are plain data");
            metadata.insert(EPOCHS.into(), history);
            let mut optimizer = state.tensors;
            if let Some(average) = &beside.average {
                average.save(&mut optimizer);
            }
            let checkpoint = Checkpoint {
                graph: graph.clone(),
                weights: last,
                optimizer,
                metadata,
                record: trained_on.clone(),
            };
            save_checkpoint(path, &checkpoint)?;
        }
        events.epoch_done(&record, epoch_count);
        if epoch + 1 < epoch_count && !events.goes_on() {
            return Err(LabError::Stopped { kept: epoch + 1 });
        }
    }
    if was_done {
        let last = trainer.weights();
        let shown = (&data.train, graph.input());
        (weights, quantized) = ended(
            config,
            &mut trainer,
            &beside,
            &last,
            (shown, epoch_count - 1),
        )?;
    }
    let last = epochs.last();
    let mut digest = last.and_then(|epoch| epoch.logits_digest);
    let mut test = last.map(|epoch| epoch.watched.score());
    let mut chosen_epoch = epochs.len();
    if let Some(best) = choice.and_then(Choice::best) {
        (weights, quantized, chosen_epoch) = (best.weights, best.quantized, best.epoch);
        let found = deployed(graph, &weights, quantized.as_ref(), isa)
            .map_err(|reason| overflowed(chosen_epoch - 1, reason))
            .and_then(|model| Ok(evaluate(&*model, &data.test)?))?;
        (digest, test) = (Some(found.logits_digest), Some(found.score()));
    }
    if let (Some(model), Some(digest)) = (&mut quantized, digest) {
        let value = digest_of(digest, data)?;
        model.provenance.insert(DIGEST.into(), value);
    }
    Ok(Trained {
        chosen_epoch,
        test,
        quantized,
        weights,
        epochs,
        record: trained_on,
    })
}

/// What an epoch (`shown`'s) ends with, to be evaluated and shipped: the trainer's weights, which are `last`, or their average, with
/// batch-norm's statistics measured anew where the recipe says so, and the integer model of these. The trainer is left as it
/// was.
fn ended(
    config: &Config,
    trainer: &mut Trainer,
    beside: &Beside,
    last: &Weights,
    shown: ((&Split, Shape), usize),
) -> Result<(Weights, Option<QuantizedModel>), LabError> {
    let average = beside.average.as_ref().map(Average::weights);
    if average.is_none() && beside.reestimation == 0 {
        return Ok((last.clone(), trainer.quantized_model()));
    }
    let state = trainer.state();
    trainer.restore(average.unwrap_or(last), &state)?;
    reestimate(config, trainer, beside.reestimation, shown)?;
    let ended = (trainer.weights(), trainer.quantized_model());
    trainer.restore(last, &state)?;
    Ok(ended)
}

/// The model as it is deployed, or what cannot be a model.
fn deployed(
    graph: &Graph,
    weights: &Weights,
    quantized: Option<&QuantizedModel>,
    isa: Isa,
) -> Result<Box<dyn Model>, String> {
    let text = |error: RuntimeError| error.to_string();
    for parameter in graph.parameters() {
        let values = weights
            .get(&parameter.name)
            .map_or(&[][..], |tensor| tensor.data());
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!("a weight of {} is {value}", parameter.name));
        }
    }
    Ok(match quantized {
        Some(model) => Box::new(IntegerModel::compile(model, isa).map_err(text)?),
        None => Box::new(FloatModel::compile(graph, weights, isa).map_err(text)?),
    })
}

/// Quantizes a trained model.
///
/// # Errors
/// [`LabError::Unquantizable`] where numbers of a training that has just ended are too large for that.
pub fn quantized(
    graph: &Graph,
    trained: &Trained,
    how: &PtqConfig,
    calibration: &[u8],
    isa: Isa,
) -> Result<QuantizedModel, LabError> {
    let fresh = !trained.epochs.is_empty();
    let made = quantize(graph, &trained.weights, how, calibration, isa).and_then(|model| {
        IntegerModel::compile(&model, isa)?;
        Ok(model)
    });
    made.map_err(|error| match error {
        QuantError::Runtime(RuntimeError::Quantized(_)) | QuantError::Weights(_) if fresh => {
            LabError::Unquantizable {
                reason: error.to_string(),
            }
        }
        error => error.into(),
    })
}

fn overflowed(epoch: usize, what: String) -> LabError {
    LabError::Overflowed {
        epoch: epoch + 1,
        what,
        kept: epoch,
    }
}

/// Whether `checkpoint` holds the end of the run that `decisive` lists, of so many epochs.
#[must_use]
pub fn is_finished(checkpoint: &Path, decisive: &Decisive, epochs: usize) -> bool {
    let Ok(saved) = load_checkpoint(checkpoint) else {
        return false;
    };
    let history = saved.metadata.get(EPOCHS).map(String::as_str);
    let done: Vec<EpochRecord> = history
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    done.len() == epochs
        && decisive
            .first_difference(&Decisive::from_metadata(&saved.metadata))
            .is_none()
}

/// Refuses a checkpoint of another run.
fn check(path: &Path, saved: &Checkpoint, decisive: &Decisive) -> Result<(), LabError> {
    let theirs = Decisive::from_metadata(&saved.metadata);
    if let Some(difference) = decisive.first_difference(&theirs) {
        return Err(LabError::OtherRun {
            path: path.to_owned(),
            key: difference.key,
            found: difference.found,
            expected: difference.expected,
        });
    }
    Ok(())
}

/// The epochs so far.
fn history(path: &Path, saved: &Checkpoint) -> Result<Vec<EpochRecord>, LabError> {
    let history = saved.metadata.get(EPOCHS);
    let history = history.and_then(|text| serde_json::from_str(text).ok());
    history.ok_or_else(|| damaged(path, path, "history"))
}

fn restore(
    path: &Path,
    saved: &Checkpoint,
    trainer: &mut Trainer,
) -> Result<Vec<EpochRecord>, LabError> {
    let steps = saved.metadata.get(STEPS).and_then(|text| text.parse().ok());
    let steps = steps.ok_or_else(|| damaged(path, path, "step count"))?;
    let state = TrainerState {
        steps,
        tensors: saved.optimizer.clone(),
    };
    trainer.restore(&saved.weights, &state)?;
    history(path, saved)
}

/// Says of the file `path`, which is `checkpoint` or lies beside it, what of it cannot be read.
fn damaged(path: &Path, checkpoint: &Path, what: &str) -> LabError {
    LabError::DamagedCheckpoint {
        path: path.to_owned(),
        reason: format!("its {what} cannot be read"),
        checkpoint: checkpoint.to_owned(),
    }
}

/// Says what to do about a file of a training that is no such file any more: nobody can fetch it anew.
fn unusable(error: FormatError, checkpoint: &Path) -> LabError {
    let (path, reason) = match error {
        FormatError::Damaged { path, reason } => {
            let what = reason.split(';').next().unwrap_or_default().to_owned();
            (path, what)
        }
        FormatError::Foreign { path } => (path, "it is none of lowbit's".into()),
        FormatError::Read { path, source } if source.kind() == ErrorKind::NotFound => {
            (path, "it is not there any more".into())
        }
        error => return error.into(),
    };
    LabError::DamagedCheckpoint {
        path,
        reason,
        checkpoint: checkpoint.to_owned(),
    }
}

#[cfg(test)]
mod recipe_tests;
#[cfg(test)]
mod tests;
