//! Quantization-aware fine-tuning of the widths at which rounding after training is not enough (`--train`).

use super::candidates::{Candidate, FineTuning, trained};
use super::search::{Found, Search, Tried};
use crate::evaluate::evaluate;
use crate::events::Events;
use crate::experiments::inputs::Input;
use crate::records::EpochRecord;
use crate::training::{Plan, StartWeights, Trained, train};
use crate::{Config, LabError, plural};
use lowbit::WeightBits;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Share of its time that a training is planned for: the machine may be busier later.
const PLANNED: f64 = 0.9;

/// Epochs at most: of few images, time buys more passes than fine-tuning has a use for.
const MOST_EPOCHS: usize = 50;

/// Seconds after which the steps so far tell how long an epoch takes.
const PROBE: f64 = 2.0;

/// Images whose evaluation tells how long that of all takes.
const PROBED: usize = 64;

impl Search<'_> {
    /// Trains the widths that are worth it, the narrowest first, each in its share of the time that is left; those that cannot
    /// be trained are said. Returns the seconds that it took.
    pub(super) fn fine_tune(&self, time: Duration, found: &mut Found) -> Result<f64, LabError> {
        let begun = Instant::now();
        let widths = worth_training(&found.tried, self.request.max_drop);
        for (index, &bits) in widths.iter().enumerate() {
            let left = time.saturating_sub(begun.elapsed());
            let share = left.as_secs_f64() / (widths.len() - index) as f64;
            let ends = begun + time;
            match self.fine_tuned(bits, time, share, ends) {
                Ok(tried) => {
                    self.tell(&tried.row);
                    found.tried.push(tried);
                }
                Err(Untrained::This(reason)) => {
                    let name = trained(bits, 0).name;
                    found.skipped.push(format!("{name}: {reason}"));
                }
                Err(Untrained::All(reason)) => {
                    found.skipped.push(format!("trained widths: {reason}"));
                    break;
                }
                Err(Untrained::Failed(error)) => return Err(error),
            }
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// A width, trained for as many epochs as fit its share of the time.
    fn fine_tuned(
        &self,
        bits: WeightBits,
        time: Duration,
        share: f64,
        ends: Instant,
    ) -> Result<Tried, Untrained> {
        let epochs = self.cache.epochs(bits, time.as_secs_f64(), || {
            self.events
                .stage(&format!("how long an epoch of {bits} bits takes"));
            let seconds = self.seconds_of_epoch(bits)?;
            match (PLANNED * share / seconds) as usize {
                0 => Err(Untrained::This(format!(
                    "an epoch takes some {seconds:.1} s, its share of --train is {share:.1} s"
                ))),
                epochs => Ok(epochs.min(MOST_EPOCHS)),
            }
        })?;
        let candidate = trained(bits, epochs);
        let left = ends.saturating_duration_since(Instant::now()).as_secs_f64();
        self.events.stage(&format!(
            "{}, {} ({left:.0} s left)",
            candidate.name,
            plural::of(epochs, "epoch")
        ));
        let events = Until {
            events: self.events,
            ends,
        };
        let train = |plan: &Plan<'_>| self.train(&candidate, plan, &events);
        let made = self.cache.trained(&candidate, train);
        let made = made.map_err(|error| match error {
            LabError::Stopped { kept } if self.events.goes_on() => Untrained::This(format!(
                "{kept} of {epochs} epochs were done when the time of --train was up; --resume goes on there"
            )),
            other => other.into(),
        })?;
        Ok(Tried {
            row: self.row(&candidate, &made, None)?,
            candidate,
        })
    }

    /// The settings of a training: those of the images, and this file's.
    fn settings(&self, training: FineTuning) -> Config {
        let own = self.config;
        let mut config = Config {
            images: own.images.clone(),
            input: own.input.clone(),
            onnx: own.onnx.clone(),
            run: own.run.clone(),
            results: own.results.clone(),
            ..Config::default()
        };
        config.training.epochs = training.epochs;
        config.training.lr = training.lr;
        config.widths.bits = training.bits;
        config
    }

    fn train(
        &self,
        candidate: &Candidate,
        plan: &Plan<'_>,
        events: &dyn Events,
    ) -> Result<Trained, LabError> {
        let config = self.settings(candidate.training.expect("it is trained"));
        let model = self.request.model;
        let plan = Plan {
            start: Some(StartWeights {
                weights: model.weights.clone(),
                record: model.record.clone(),
            }),
            qat: Some(config.qat(config.widths.bits)),
            frozen_norm_epochs: config.qat.freeze_bn_epochs,
            ..plan.clone()
        };
        train(&config, &plan, &model.graph, self.input, self.isa, events)
    }

    /// Seconds of an epoch: of a first one, which is thrown away, or, where that takes long, about, by some of its steps and the
    /// evaluation of some images.
    fn seconds_of_epoch(&self, bits: WeightBits) -> Result<f64, LabError> {
        let probe = Probe {
            events: self.events,
            begun: Instant::now(),
            steps: Mutex::default(),
        };
        let once = trained(bits, 1);
        match self
            .cache
            .probe(&once, |plan| self.train(&once, plan, &probe))
        {
            Ok(_) => Ok(probe.begun.elapsed().as_secs_f64()),
            Err(LabError::Stopped { .. }) if self.events.goes_on() => {
                let images = self.input.data.train.len() as f64;
                Ok(images * probe.seconds_per_image() + self.seconds_of_evaluation()?)
            }
            Err(error) => Err(error),
        }
    }

    /// Seconds of what is looked at after each epoch, about, by FP32's.
    fn seconds_of_evaluation(&self) -> Result<f64, LabError> {
        let looked_at = after_epoch(self.input);
        let some = looked_at.take(&(0..looked_at.len().min(PROBED)).collect::<Vec<_>>());
        let begun = Instant::now();
        let _ = evaluate(self.fp32, &some)?;
        Ok(begun.elapsed().as_secs_f64() * looked_at.len() as f64 / some.len().max(1) as f64)
    }
}

/// A listener that wants an epoch to end once it tells how long all of it takes.
struct Probe<'a> {
    events: &'a dyn Events,
    begun: Instant,
    /// Images that were done, and when, after the first step and after the last.
    steps: Mutex<Option<[(usize, Instant); 2]>>,
}

impl Probe<'_> {
    /// The first step, which also makes what all others use, is not counted where there is another.
    fn seconds_per_image(&self) -> f64 {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let Some([first, last]) = *steps else {
            return f64::INFINITY;
        };
        match last.0 > first.0 {
            true => (last.1 - first.1).as_secs_f64() / (last.0 - first.0) as f64,
            false => (first.1 - self.begun).as_secs_f64() / first.0 as f64,
        }
    }
}

impl Events for Probe<'_> {
    fn batch_done(&self, images: usize, _loss: f64, _accuracy: f64) {
        let now = (images, Instant::now());
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let first = steps.map_or(now, |[first, _]| first);
        *steps = Some([first, now]);
    }

    fn goes_on(&self) -> bool {
        self.events.goes_on() && self.begun.elapsed().as_secs_f64() < PROBE
    }
}

/// Why a width was not trained.
enum Untrained {
    /// For a reason of its own.
    This(String),
    /// For one that all widths have.
    All(String),
    /// For one that ends the run.
    Failed(LabError),
}

impl From<LabError> for Untrained {
    fn from(error: LabError) -> Self {
        match error {
            LabError::Train(error) => Self::All(error.to_string()),
            // Weights that grow without end.
            LabError::Diverged { .. }
            | LabError::Overflowed { .. }
            | LabError::Unquantizable { .. } => Self::This(error.to_string()),
            other => Self::Failed(other),
        }
    }
}

/// The images that a training looks at after each epoch.
fn after_epoch(input: &Input) -> &lowbit_data::Split {
    match input.data.validation.is_empty() {
        true => &input.data.test,
        false => &input.data.validation,
    }
}

/// Widths, the narrowest first, of which no model that was rounded after training is shown by the images that choose to lose
/// at most `max_drop`.
fn worth_training(tried: &[Tried], max_drop: f64) -> Vec<WeightBits> {
    let fits = |bits: WeightBits| {
        let group = trained(bits, 0).group;
        let of_group = tried.iter().filter(|one| one.row.group == group);
        let mut drops = of_group.map(|one| one.row.choosing.drop_points);
        drops.any(|drop| drop.high <= max_drop)
    };
    FineTuning::WIDTHS
        .into_iter()
        .filter(|&bits| !fits(bits))
        .collect()
}

/// A listener that wants a training to end in time.
struct Until<'a> {
    events: &'a dyn Events,
    ends: Instant,
}

impl Events for Until<'_> {
    fn stage(&self, what: &str) {
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
    }

    fn goes_on(&self) -> bool {
        self.events.goes_on() && Instant::now() < self.ends
    }

    fn note(&self, line: &str) {
        self.events.note(line);
    }
}

#[cfg(test)]
mod tests;
