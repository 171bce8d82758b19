//! One model per weight width, from the same initial weights and data order, each a real file and a real kernel.

use super::artifacts::{Held, TRAINING_RESULTS};
use super::inputs::{FloatFile, Input};
use super::unseen::Evaluated;
use crate::training::{StartWeights, start_weights};
use crate::{Config, Events, LabError, plural};
use lowbit::{Graph, ModelBits};
use lowbit_kernels::Isa;
use std::path::PathBuf;

mod order;
mod results;
mod run;

pub use results::{BeganWith, CompressionMetrics, RoundRecord, RunResults};

pub(super) use results::timestamp;
pub use run::deployable;

use order::{Ends, Fault, at_a_time, one_by_one, order};
use run::{Given, Run};

/// What a sweep trains, and on which images.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The images.
    pub input: &'a Input,
    /// The network.
    pub graph: Graph,
    /// The weights that every run begins with; none for fresh ones of its seed.
    pub start: Option<StartWeights>,
    /// Which images are measured, where the model may have seen some; none of fresh weights.
    pub evaluated: Option<Evaluated>,
}

impl<'a> Subject<'a> {
    /// Takes the network and the weights that the settings name.
    ///
    /// # Errors
    /// [`LabError`] when there is no such network for these images, or the weights are another's.
    pub fn named(config: &Config, input: &'a Input) -> Result<Self, LabError> {
        let graph = input.graph(&config.network.model)?;
        Ok(Self {
            start: start_weights(config, &graph)?,
            input,
            graph,
            evaluated: None,
        })
    }

    /// Takes a model that somebody has trained before.
    #[must_use]
    pub fn trained(model: FloatFile, input: &'a Input, evaluated: Evaluated) -> Self {
        Self {
            input,
            graph: model.graph,
            start: Some(StartWeights {
                weights: model.weights,
                record: model.record,
            }),
            evaluated: Some(evaluated),
        }
    }
}

/// One width of one seed, done.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its folder.
    pub folder: PathBuf,
    /// What it came to.
    pub results: RunResults,
    /// Whether an earlier call had finished it.
    pub earlier: bool,
}

impl Finished {
    /// Lists the files without which the run is not finished any more, and their bytes; none of one that is written again
    /// when speeds are measured.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Option<u64>)> {
        let results = (self.folder.join(TRAINING_RESULTS), None);
        let models = self.results.models().into_iter();
        let models = models.map(|(name, bytes)| (self.folder.join(name), Some(bytes)));
        std::iter::once(results).chain(models).collect()
    }
}

/// One width of one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId {
    /// Bits per weight.
    pub bits: ModelBits,
    /// The seed.
    pub seed: u64,
}

/// One width of one seed that came to no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which.
    pub run: RunId,
    /// Why.
    pub why: String,
}

/// What the runs of a sweep came to.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Those that are done.
    pub finished: Vec<Finished>,
    /// Those whose training diverged, and those that need one of them.
    pub failed: Vec<Failed>,
}

impl Swept {
    fn of(ids: &[RunId], ends: Ends) -> Self {
        let failed = ids.iter().zip(ends.faults).filter_map(|(&run, fault)| {
            let why = match fault? {
                Fault::Diverged(error) => error.to_string(),
                Fault::Needs(other) => {
                    format!("not begun: it needs {}, which failed", ids[other].named())
                }
            };
            Some(Failed { run, why })
        });
        Self {
            failed: failed.collect(),
            finished: ends.done.into_iter().flatten().collect(),
        }
    }
}

impl RunId {
    /// Returns what people call it: `8 bits, seed 2`.
    #[must_use]
    pub fn named(&self) -> String {
        format!("{}, seed {}", plural::bits(self.bits), self.seed)
    }
}

/// A listener to a sweep.
pub trait SweepEvents: Sync {
    /// What is to be done, and how many epochs each run takes.
    fn planned(&self, _runs: &[RunId], _epochs: usize) {}

    /// A run begins: who listens to it?
    fn run(&self, run: RunId) -> Box<dyn Events + '_>;

    /// A run is done, now or in an earlier call.
    fn finished(&self, _run: RunId, _results: &RunResults, _earlier: bool) {}

    /// A run's training diverged; others go on.
    fn failed(&self, _run: RunId, _error: &LabError) {}

    /// The speed of so many runs is being measured.
    fn timing(&self, _runs: usize) {}
}

/// Trains every width of `widths` for every seed, `jobs` of them at a time, on as many threads as rayon's current pool
/// has. A width that is finished with the same settings is not run again; a stopped one goes on. One that begins with a
/// wider one's weights, or learns from it, waits for it. Speeds are measured at the end, one model at a time. A training that
/// diverges ends those that need it, and no others.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished runs are kept.
pub fn sweep(
    config: &Config,
    widths: &[ModelBits],
    jobs: usize,
    subject: &Subject<'_>,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<Swept, LabError> {
    let _held = Held::take(config.results.out.clone())?;
    let mut all = train_widths(config, widths, None, jobs, subject, isa, events)?;
    time_untimed(&mut all.finished, subject.input, isa, events)?;
    Ok(all)
}

/// Does what [`sweep`] does, for one of its seeds or for all, and measures no speed. Several processes may do so in one
/// folder at once: each holds the folders of its own runs.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished runs are kept.
pub fn train_widths(
    config: &Config,
    widths: &[ModelBits],
    of_seed: Option<u64>,
    jobs: usize,
    subject: &Subject<'_>,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<Swept, LabError> {
    let (ids, needs) = order(config, widths, of_seed)?;
    events.planned(&ids, config.training.epochs);
    let run = |index: usize, done: &[Option<Finished>]| {
        let given = Given::of(&needs[index], done)?;
        let ended = Run::new(config, ids[index], subject, given, isa).finish(events);
        ended.inspect_err(|error| {
            if error.is_divergence() {
                events.failed(ids[index], error);
            }
        })
    };
    let ends = match jobs {
        0 | 1 => one_by_one(&needs, run)?,
        jobs => at_a_time(jobs, &needs, run)?,
    };
    Ok(Swept::of(&ids, ends))
}

/// Measures the speeds of the runs of a sweep that are finished and have none yet, one model at a time; trains nothing.
/// Returns the finished runs.
///
/// # Errors
/// [`LabError`] saying what stopped it.
pub fn measure(
    config: &Config,
    widths: &[ModelBits],
    subject: &Subject<'_>,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<Vec<Finished>, LabError> {
    let (ids, needs) = order(config, widths, None)?;
    let mut done = Vec::new();
    for (&id, needs) in ids.iter().zip(&needs) {
        // What has nothing to begin with is not finished.
        let given = Given::of(needs, &done).ok();
        done.push(given.and_then(|given| Run::new(config, id, subject, given, isa).finished()));
    }
    let mut all: Vec<Finished> = done.into_iter().flatten().collect();
    time_untimed(&mut all, subject.input, isa, events)?;
    Ok(all)
}

fn time_untimed(
    all: &mut [Finished],
    input: &Input,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<(), LabError> {
    let is_untimed = |run: &&mut Finished| run.results.img_per_s.is_none();
    let untimed = all.iter_mut().filter(is_untimed).count();
    if untimed > 0 {
        events.timing(untimed);
    }
    for run in all.iter_mut().filter(is_untimed) {
        run::time(run, input, isa)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod warm_tests;
