//! The epoch loop: shuffling, schedule, test accuracy per epoch, checkpoints and resume.

use crate::evaluate::{Evaluation, Score, evaluate, images_digest};
use crate::{Config, Events, LabError};
use lowbit::format::{Checkpoint, load_checkpoint, save_checkpoint};
use lowbit::quant::QuantizedModel;
use lowbit::runtime::{FloatModel, IntegerModel};
use lowbit::train::{QatConfig, TrainError, Trainer, TrainerState, epoch_order};
use lowbit::{Graph, Shape, Weights};
use lowbit_data::{Dataset, Split};
use lowbit_kernels::{Isa, random};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// What one epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean loss over the epoch, while the weights changed.
    pub train_loss: f64,
    /// Accuracy (0–1) over the epoch, while the weights changed.
    pub train_accuracy: f64,
    /// Of the deployed model (the float inference path, or the packed integers), after the epoch.
    pub test_loss: f64,
    /// Of the deployed model, after the epoch, 0–1.
    pub test_accuracy: f64,
    /// Learning rate of the last step.
    pub lr: f32,
    /// Seconds of training, evaluation not counted.
    pub train_seconds: f64,
    /// Training images per second.
    pub train_img_per_s: f64,
    /// Of the deployed model's logits over the test images; none in records of older versions.
    #[serde(default)]
    pub logits_digest: Option<u32>,
}

/// A finished training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The last epoch's weights; latent ones in quantization-aware training.
    pub weights: Weights,
    /// One record per epoch.
    pub epochs: Vec<EpochRecord>,
    /// The integer model that quantization-aware training ended with.
    pub quantized: Option<QuantizedModel>,
}

/// How to train, beyond the settings.
#[derive(Clone, Debug, Default)]
pub struct Plan<'a> {
    /// Quantization-aware training; none for f32.
    pub qat: Option<QatConfig>,
    /// Start from these weights instead of fresh ones.
    pub start: Option<Weights>,
    /// Epochs at the end that keep batch-norm's running statistics as they are.
    pub frozen_norm_epochs: usize,
    /// Where the state is written after every epoch.
    pub checkpoint: Option<&'a Path>,
    /// Go on from the checkpoint if there is one.
    pub resume: bool,
}

impl Trained {
    /// Seconds of training, evaluation not counted.
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

    /// Best test accuracy of any epoch, 0–1.
    #[must_use]
    pub fn best_test_accuracy(&self) -> f64 {
        self.epochs
            .iter()
            .map(|epoch| epoch.test_accuracy)
            .fold(0.0, f64::max)
    }
}

/// The settings that a checkpoint must share with the run that goes on from it.
fn fingerprint(
    config: &Config,
    plan: &Plan<'_>,
    graph: &Graph,
    data: &Dataset,
) -> BTreeMap<String, String> {
    let mut qat = plan.qat.map_or("none".to_owned(), |qat| {
        serde_json::to_string(&qat.chosen()).expect("a configuration is plain data")
    });
    if plan.frozen_norm_epochs > 0 {
        qat += &format!(", batch-norm frozen for {} epochs", plan.frozen_norm_epochs);
    }
    [
        ("model", graph.name().to_owned()),
        (
            "data",
            format!(
                "{} ({} train images, {})",
                data.name,
                data.train.len(),
                data.split
            ),
        ),
        ("epochs", config.training.epochs.to_string()),
        ("batch_size", config.training.batch_size.to_string()),
        ("lr", config.training.lr.to_string()),
        ("optimizer", config.training.optimizer.to_string()),
        ("schedule", config.training.schedule.to_string()),
        ("augment", config.training.augment.to_string()),
        ("seed", config.run.seed.to_string()),
        ("qat", qat),
        (
            "start",
            if plan.start.is_some() {
                "a model"
            } else {
                "scratch"
            }
            .to_owned(),
        ),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Provenance key of what training's last evaluation of the model gave.
const DIGEST: &str = "test_logits";

fn digest_of(digest: u32, data: &Dataset) -> String {
    format!(
        "{digest:08x} over {} images of {} ({:08x})",
        data.test.len(),
        data.name,
        images_digest(&data.test)
    )
}

/// Whether an evaluation of `model` gave the logits that training's last evaluation gave, to the bit; none where the model
/// was not trained quantized, or on other data.
#[must_use]
pub fn bit_exact(model: &QuantizedModel, test: &Evaluation, data: &Dataset) -> Option<bool> {
    let recorded = model.provenance.get(DIGEST)?;
    let found = digest_of(test.logits_digest, data);
    let (_, of_recorded) = recorded.split_once(' ')?;
    let (_, of_found) = found.split_once(' ')?;
    (of_recorded == of_found).then_some(*recorded == found)
}

/// Metadata key of the epochs so far.
const EPOCHS: &str = "history";
/// Metadata key of the optimizer's step count.
const STEPS: &str = "steps";

/// Trains `graph` as `plan` says, on rayon's current pool. After a resume it ends with the same bits as a run that never
/// stopped. Test accuracy is the deployed model's: the float inference path, or the packed integers.
///
/// # Errors
/// [`LabError`] when the data do not fit the model, the loss diverges, or a checkpoint cannot be written or is another
/// run's.
pub fn train(
    config: &Config,
    plan: &Plan<'_>,
    graph: &Graph,
    data: &Dataset,
    isa: Isa,
    events: &dyn Events,
) -> Result<Trained, LabError> {
    let mut weights = plan
        .start
        .clone()
        .unwrap_or_else(|| Weights::init(graph, config.run.seed));
    let mut trainer = match plan.qat {
        None => Trainer::new(graph, &weights, config.training.optimizer, isa)?,
        Some(qat) => Trainer::quantized(graph, &weights, config.training.optimizer, qat, isa)?,
    };
    let mut epochs: Vec<EpochRecord> = Vec::new();
    let identity = fingerprint(config, plan, graph, data);
    if let Some(path) = plan.checkpoint.filter(|path| plan.resume && path.exists()) {
        let saved = load_checkpoint(path)?;
        (weights, epochs) = restore(path, &saved, &identity, &mut trainer)?;
        events.note(&format!(
            "resumed after epoch {} of {}",
            epochs.len(),
            config.training.epochs
        ));
    }
    let steps_per_epoch = data.train.len().div_ceil(config.training.batch_size);
    let total = (steps_per_epoch * config.training.epochs) as u64;
    for epoch in epochs.len()..config.training.epochs {
        events.epoch_started(epoch + 1, config.training.epochs, data.train.len());
        trainer.freeze_statistics(epoch + plan.frozen_norm_epochs >= config.training.epochs);
        let start = Instant::now();
        let shown = (&data.train, graph.input());
        let (score, lr) = run_epoch(config, &mut trainer, shown, epoch, total, events)?;
        let train_seconds = start.elapsed().as_secs_f64();
        weights = trainer.weights();
        let test = match trainer.quantized_model() {
            Some(model) => evaluate(&IntegerModel::compile(&model, isa)?, &data.test),
            None => evaluate(&FloatModel::compile(graph, &weights, isa)?, &data.test),
        };
        let record = EpochRecord {
            epoch: epoch + 1,
            train_loss: score.loss,
            train_accuracy: score.accuracy,
            test_loss: test.loss,
            test_accuracy: test.accuracy(),
            lr,
            train_seconds,
            train_img_per_s: data.train.len() as f64 / train_seconds,
            logits_digest: Some(test.logits_digest),
        };
        epochs.push(record);
        if let Some(path) = plan.checkpoint {
            write_checkpoint(path, &identity, &mut trainer, graph, &weights, &epochs)?;
        }
        events.epoch_done(&record, config.training.epochs);
    }
    let mut quantized = trainer.quantized_model();
    let digest = epochs.last().and_then(|epoch| epoch.logits_digest);
    if let (Some(model), Some(digest)) = (&mut quantized, digest) {
        let value = digest_of(digest, data);
        model.provenance.insert(DIGEST.into(), value);
    }
    Ok(Trained {
        quantized,
        weights,
        epochs,
    })
}

/// Whether `checkpoint` holds the end of the run that these settings describe.
#[must_use]
pub fn is_finished(
    checkpoint: &Path,
    config: &Config,
    plan: &Plan<'_>,
    graph: &Graph,
    data: &Dataset,
) -> bool {
    let Ok(saved) = load_checkpoint(checkpoint) else {
        return false;
    };
    let history = saved.metadata.get(EPOCHS).map(String::as_str);
    let epochs: Vec<EpochRecord> = history
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let identity = fingerprint(config, plan, graph, data);
    epochs.len() == config.training.epochs
        && identity
            .iter()
            .all(|(key, value)| saved_setting(&saved, key) == value)
}

/// A setting of the run that wrote a checkpoint. Those of versions before augmentation had none.
fn saved_setting<'a>(saved: &'a Checkpoint, key: &str) -> &'a str {
    let missing = if key == "augment" { "none" } else { "" };
    saved.metadata.get(key).map_or(missing, String::as_str)
}

fn write_checkpoint(
    path: &Path,
    identity: &BTreeMap<String, String>,
    trainer: &mut Trainer,
    graph: &Graph,
    weights: &Weights,
    epochs: &[EpochRecord],
) -> Result<(), LabError> {
    let state = trainer.state();
    let mut metadata = identity.clone();
    metadata.insert(STEPS.into(), state.steps.to_string());
    let history = serde_json::to_string(epochs).expect("records are plain data");
    metadata.insert(EPOCHS.into(), history);
    let checkpoint = Checkpoint {
        graph: graph.clone(),
        weights: weights.clone(),
        optimizer: state.tensors,
        metadata,
    };
    save_checkpoint(path, &checkpoint)?;
    Ok(())
}

fn restore(
    path: &Path,
    saved: &Checkpoint,
    identity: &BTreeMap<String, String>,
    trainer: &mut Trainer,
) -> Result<(Weights, Vec<EpochRecord>), LabError> {
    for (key, expected) in identity {
        let found = saved_setting(saved, key);
        if found != expected {
            return Err(LabError::OtherRun {
                path: path.to_owned(),
                key: key.clone(),
                found: found.to_owned(),
                expected: expected.clone(),
            });
        }
    }
    let damaged = |what: &str| {
        LabError::Format(lowbit::format::FormatError::Damaged {
            path: path.to_owned(),
            reason: format!("its {what} cannot be read"),
        })
    };
    let steps = saved.metadata.get(STEPS).and_then(|text| text.parse().ok());
    let steps = steps.ok_or_else(|| damaged("step count"))?;
    let history = saved
        .metadata
        .get(EPOCHS)
        .and_then(|text| serde_json::from_str(text).ok());
    let history = history.ok_or_else(|| damaged("history"))?;
    let state = TrainerState {
        steps,
        tensors: saved.optimizer.clone(),
    };
    trainer.restore(&saved.weights, &state)?;
    Ok((saved.weights.clone(), history))
}

/// One pass over the training images; mean loss and accuracy, and the last learning rate.
fn run_epoch(
    config: &Config,
    trainer: &mut Trainer,
    (split, shape): (&Split, Shape),
    epoch: usize,
    total: u64,
    events: &dyn Events,
) -> Result<(Score, f32), LabError> {
    let order = epoch_order(config.run.seed, epoch as u64, split.len());
    let (mut loss, mut correct, mut done, mut lr) = (0.0, 0, 0, config.training.lr);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (step, batch) in order.chunks(config.training.batch_size).enumerate() {
        images.clear();
        labels.clear();
        let mut rng = random::stream(config.run.seed, "augment", trainer.steps());
        for &index in batch {
            let image = split.image(index as usize);
            config
                .training
                .augment
                .apply(&mut rng, image, shape, &mut images);
            labels.push(split.labels()[index as usize]);
        }
        lr = config
            .training
            .schedule
            .lr(config.training.lr, trainer.steps(), total);
        let metrics = trainer
            .step(&images, &labels, lr)
            .map_err(|error| match error {
                TrainError::Diverged { loss, .. } => LabError::Diverged {
                    epoch: epoch + 1,
                    step: step + 1,
                    loss,
                    kept: epoch,
                },
                other => LabError::Train(other),
            })?;
        loss += metrics.loss * batch.len() as f64;
        correct += metrics.correct;
        done += batch.len();
        events.batch_done(done, loss / done as f64, correct as f64 / done as f64);
    }
    let count = split.len() as f64;
    Ok((
        Score {
            accuracy: correct as f64 / count,
            loss: loss / count,
        },
        lr,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;
    use crate::experiments::compare::graph_for;
    use lowbit_data::LoadOptions;

    fn landcover(images: usize, seed: u64) -> Dataset {
        let options = LoadOptions {
            limit: Some(images),
            cache_dir: None,
            ..LoadOptions::new(seed)
        };
        lowbit_data::load("landcover", &options).unwrap()
    }

    #[test]
    fn runs_that_freeze_statistics_differently_are_different_runs() {
        let data = landcover(20, 1);
        let graph = graph_for("mlp", &data).unwrap();
        let config = Config::default();
        let of = |frozen_norm_epochs| {
            let plan = Plan {
                qat: Some(config.qat(8)),
                frozen_norm_epochs,
                ..Plan::default()
            };
            fingerprint(&config, &plan, &graph, &data)
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
        let graph = graph_for("mlp", &data).unwrap();
        let plan = Plan {
            qat: Some(config.qat(4)),
            ..Plan::default()
        };
        let isa = Isa::current().unwrap();
        let trained = train(&config, &plan, &graph, &data, isa, &Silent).unwrap();
        let mut model = trained.quantized.unwrap();
        let exact = |model: &QuantizedModel| {
            let test = evaluate(&IntegerModel::compile(model, isa).unwrap(), &data.test);
            bit_exact(model, &test, &data)
        };
        assert_eq!(exact(&model), Some(true));
        let last = model.layers.iter_mut().flatten().last().unwrap();
        last.bias[0] += 1e-3;
        assert_eq!(exact(&model), Some(false));
        // Other images of the same name and number say nothing about the model.
        let other = landcover(40, 2);
        let test = evaluate(&IntegerModel::compile(&model, isa).unwrap(), &other.test);
        assert_eq!(bit_exact(&model, &test, &other), None);
        model.provenance.clear();
        assert_eq!(exact(&model), None);
    }
}
