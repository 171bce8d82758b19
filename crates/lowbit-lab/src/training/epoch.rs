//! One pass over the training images.

use super::average::Average;
use super::mix::Mix;
use super::teacher::Teacher;
use crate::evaluate::Score;
use crate::{Config, Events, LabError};
use lowbit::Shape;
use lowbit::train::{Targets, TrainError, Trainer, epoch_order};
use lowbit_data::Split;
use lowbit_kernels::random;

/// What a training has beside its trainer.
pub(super) struct Beside {
    pub(super) average: Option<Average>,
    pub(super) teacher: Option<Teacher>,
    /// Batches over which batch-norm's statistics are measured anew before a model is evaluated; 0 where there are none.
    pub(super) reestimation: usize,
}

/// Reads a batch of images into `images`, each changed at random as the recipe says, by numbers of a stream of this name and
/// step.
fn show(
    config: &Config,
    (split, shape): (&Split, Shape),
    batch: &[u32],
    (stream, step): (&str, u64),
    images: &mut Vec<u8>,
) -> Result<(), LabError> {
    images.clear();
    let mut rng = random::stream(config.run.seed, stream, step);
    for &index in batch {
        let image = split.image(index as usize)?;
        let augment = &config.training.augment;
        augment.apply(&mut rng, &image, shape, images);
    }
    Ok(())
}

/// Measures batch-norm's statistics anew over so many batches, which are epoch `epoch`'s first ones, changed at random anew.
pub(super) fn reestimate(
    config: &Config,
    trainer: &mut Trainer,
    count: usize,
    (shown, epoch): ((&Split, Shape), usize),
) -> Result<(), LabError> {
    let order = epoch_order(config.run.seed, epoch as u64, shown.0.len());
    let batches = order.chunks(config.training.batch_size);
    let mut images = Vec::new();
    for (number, batch) in batches.take(count).enumerate() {
        let stream = ("reestimate", trainer.steps() + number as u64);
        show(config, shown, batch, stream, &mut images)?;
        trainer.observe(&images, number)?;
    }
    Ok(())
}

/// One pass over the training images; mean loss and accuracy, and the last learning rate. Steps are `total`, of which the
/// first warm up.
pub(super) fn run_epoch(
    config: &Config,
    trainer: &mut Trainer,
    beside: &mut Beside,
    (split, shape): (&Split, Shape),
    (epoch, warm_up, total): (usize, u64, u64),
    events: &dyn Events,
) -> Result<(Score, f32), LabError> {
    let settings = &config.training;
    let seed = config.run.seed;
    let order = epoch_order(seed, epoch as u64, split.len());
    let (mut loss, mut correct, mut done, mut lr) = (0.0, 0, 0, settings.lr);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let mix = Mix {
        mixup: config.recipe.mixup,
        cutmix: config.recipe.cutmix,
    };
    for (step, batch) in order.chunks(settings.batch_size).enumerate() {
        let stream = ("augment", trainer.steps());
        show(config, (split, shape), batch, stream, &mut images)?;
        labels.clear();
        labels.extend(batch.iter().map(|&index| split.labels()[index as usize]));
        lr = settings
            .schedule
            .lr_after(warm_up, settings.lr, trainer.steps(), total);
        let batch_of = (&mut images[..], &labels[..]);
        let mixed = mix.apply(seed, trainer.steps(), batch_of, shape);
        let mut targets = Targets::of(&labels);
        if let Some(mixed) = &mixed {
            targets = targets.mixed_with(&mixed.others, mixed.share);
        }
        if let Some(teacher) = &mut beside.teacher {
            targets = targets.taught_by(teacher.lesson(&images, labels.len())?);
        }
        let metrics = trainer
            .step_towards(&images, &targets, lr)
            .map_err(|error| match error {
                TrainError::Diverged { loss, .. } => LabError::Diverged {
                    epoch: epoch + 1,
                    step: step + 1,
                    loss,
                    kept: epoch,
                },
                other => LabError::Train(other),
            })?;
        if let Some(average) = &mut beside.average {
            average.add(&trainer.weights(), trainer.steps());
        }
        loss += metrics.loss * batch.len() as f64;
        correct += metrics.correct;
        done += batch.len();
        events.batch_done(done, loss / done as f64, correct as f64 / done as f64);
        if !events.goes_on() {
            return Err(LabError::Stopped { kept: epoch });
        }
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
