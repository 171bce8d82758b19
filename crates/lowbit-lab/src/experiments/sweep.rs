//! One model per weight width, from the same initial weights and data order, each a real file and a real kernel.

use super::artifacts::Held;
use super::inputs::Input;
use crate::{Config, Events, LabError, timing};
use lowbit_kernels::Isa;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

mod results;
mod run;

pub use results::{CompressionMetrics, RoundRecord, RunResults};

pub(super) use results::timestamp;
pub(super) use run::deployable;

use run::Run;

/// All widths, widest first.
pub const WIDTHS: [u8; 6] = [32, 16, 8, 4, 2, 1];

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

/// One width of one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId {
    /// Bits per weight.
    pub bits: u8,
    /// The seed.
    pub seed: u64,
}

/// A listener to a sweep.
pub trait SweepEvents: Sync {
    /// What is to be done, and how many epochs each run takes.
    fn planned(&self, _runs: &[RunId], _epochs: usize) {}

    /// A run begins: who listens to it?
    fn run(&self, run: RunId) -> Box<dyn Events + '_>;

    /// A run is done, now or in an earlier call.
    fn finished(&self, _run: RunId, _results: &RunResults, _earlier: bool) {}

    /// The speed of so many runs is being measured.
    fn timing(&self, _runs: usize) {}
}

/// Trains every width of `widths` for every seed, `jobs` of them at a time, on as many threads as rayon's current pool
/// has. A width that is finished with the same settings is not run again; a stopped one goes on. Speeds are measured at
/// the end, one model at a time.
///
/// # Errors
/// [`LabError`] saying what stopped it; finished runs are kept.
pub fn sweep(
    config: &Config,
    widths: &[u8],
    jobs: usize,
    input: &Input,
    isa: Isa,
    events: &dyn SweepEvents,
) -> Result<Vec<Finished>, LabError> {
    let graph = input.graph(&config.network.model)?;
    let _held = Held::take(config.results.out.clone())?;
    let first = config.run.seed;
    let seeds = first..first + config.repeats.seeds as u64;
    let mut ids: Vec<RunId> = Vec::new();
    for id in seeds.flat_map(|seed| widths.iter().map(move |&bits| RunId { bits, seed })) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    events.planned(&ids, config.training.epochs);
    let run = |id: RunId| {
        let mut config = config.with_seed(id.seed);
        config.widths.bits = id.bits.min(16);
        let run = Run {
            config,
            id,
            graph: &graph,
            input,
            isa,
        };
        run.finish(events)
    };
    let mut all = if jobs <= 1 {
        ids.iter()
            .map(|&id| run(id))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        at_a_time(jobs, &ids, run)?
    };
    let untimed = all
        .iter()
        .filter(|run| run.results.img_per_s.is_none())
        .count();
    if untimed > 0 {
        events.timing(untimed);
    }
    for run in all.iter_mut().filter(|run| run.results.img_per_s.is_none()) {
        run::time(run, input, isa)?;
    }
    Ok(all)
}

/// Runs `work` on every item, `jobs` at a time, each on its share of the current pool's threads. After a failure nothing
/// new is begun.
fn at_a_time(
    jobs: usize,
    ids: &[RunId],
    work: impl Fn(RunId) -> Result<Finished, LabError> + Sync,
) -> Result<Vec<Finished>, LabError> {
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Finished)>> = Mutex::new(Vec::new());
    let failed: Mutex<Option<LabError>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(ids.len()) {
            scope.spawn(|| {
                let pool = timing::pool(threads);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let stopped = failed.lock().expect(NO_PANIC).is_some();
                    let Some(&id) = ids.get(index).filter(|_| !stopped) else {
                        return;
                    };
                    match pool.install(|| work(id)) {
                        Ok(run) => done.lock().expect(NO_PANIC).push((index, run)),
                        Err(error) => *failed.lock().expect(NO_PANIC) = Some(error),
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().expect(NO_PANIC) {
        return Err(error);
    }
    let mut done = done.into_inner().expect(NO_PANIC);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, run)| run).collect())
}

const NO_PANIC: &str = "nothing panics while it holds the lock";

#[cfg(test)]
mod tests;
