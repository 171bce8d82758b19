//! Which runs of a sweep wait for which, and several runs at a time.

use super::{Finished, RunId};
use crate::{Config, LabError, timing};
use lowbit::ModelBits;
use std::sync::{Condvar, Mutex, MutexGuard};

/// What a run waits for, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Those of its seed whose weights came before, widest first; it begins with the last one's.
    pub(super) wider: Vec<usize>,
    /// The 32-bit run of its seed, which teaches it.
    pub(super) teacher: Option<usize>,
}

impl Needs {
    fn all(&self) -> impl Iterator<Item = usize> {
        // The run before waited for those before it.
        self.wider.last().copied().into_iter().chain(self.teacher)
    }
}

/// Every width of every seed, or of one of them, each once, and what it waits for. Where runs wait for others, widths go from wide to narrow.
///
/// # Errors
/// [`LabError`] if no run could be the teacher.
pub(super) fn order(
    config: &Config,
    widths: &[ModelBits],
    of_seed: Option<u64>,
) -> Result<(Vec<RunId>, Vec<Needs>), LabError> {
    let (chained, taught) = (config.chain.warm_start, config.recipe.own_teacher());
    let mut widths = widths.to_vec();
    if chained || taught {
        widths.sort_unstable_by_key(|&bits| std::cmp::Reverse(bits));
    }
    if taught && !widths.contains(&ModelBits::Fp32) {
        return Err(LabError::Mismatch(
            "teacher fp32: the sweep trains no FP32 model; add 32 to --widths, or name a model file"
                .into(),
        ));
    }
    let seeds = config.run.seed..config.run.seed + config.repeats.seeds as u64;
    let seeds = seeds.filter(|&seed| of_seed.is_none_or(|one| seed == one));
    let mut ids: Vec<RunId> = Vec::new();
    for id in seeds.flat_map(|seed| widths.iter().map(move |&bits| RunId { bits, seed })) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let needs = ids.iter().map(|id| {
        let before = |other: &RunId| other.seed == id.seed && other.bits > id.bits;
        let wider = (0..ids.len()).filter(|&other| chained && before(&ids[other]));
        let fp32 = |other: &RunId| other.seed == id.seed && other.bits == ModelBits::Fp32;
        Needs {
            wider: wider.collect(),
            teacher: ids
                .iter()
                .position(fp32)
                .filter(|_| taught && id.bits.packed().is_some()),
        }
    });
    let needs = needs.collect();
    Ok((ids, needs))
}

/// Why a run came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its training diverged.
    Diverged(LabError),
    /// It needs this one, by index, which came to nothing.
    Needs(usize),
}

/// What each run has come to so far, by index.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) done: Vec<Option<Finished>>,
    pub(super) faults: Vec<Option<Fault>>,
}

impl Ends {
    fn new(count: usize) -> Self {
        Self {
            done: vec![None; count],
            faults: (0..count).map(|_| None).collect(),
        }
    }

    /// Takes note of a run's end.
    ///
    /// # Errors
    /// What hinders the other runs as well.
    fn put(
        &mut self,
        index: usize,
        result: Result<Finished, LabError>,
        needs: &[Needs],
    ) -> Result<(), LabError> {
        match result {
            Ok(run) => self.done[index] = Some(run),
            Err(error) if error.is_divergence() => {
                self.faults[index] = Some(Fault::Diverged(error));
                // What a run needs stands before it.
                for other in index + 1..needs.len() {
                    let mut needed = needs[other].all();
                    let lacking = needed.find(|&needed| self.faults[needed].is_some());
                    if let (Some(lacking), None) = (lacking, &self.faults[other]) {
                        self.faults[other] = Some(Fault::Needs(lacking));
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Calls `work` with every index in turn and the runs that are done, but for those that need one which diverged.
pub(super) fn one_by_one(
    needs: &[Needs],
    work: impl Fn(usize, &[Option<Finished>]) -> Result<Finished, LabError>,
) -> Result<Ends, LabError> {
    let mut ends = Ends::new(needs.len());
    for index in 0..needs.len() {
        if ends.faults[index].is_none() {
            let result = work(index, &ends.done);
            ends.put(index, result, needs)?;
        }
    }
    Ok(ends)
}

/// What is known while runs go on.
struct State {
    ends: Ends,
    begun: Vec<bool>,
    failed: Option<LabError>,
    /// A run ended without a result: nothing new is begun.
    stopped: bool,
}

impl State {
    /// Whether a run has begun, or never will.
    fn is_settled(&self, index: usize) -> bool {
        self.begun[index] || self.ends.faults[index].is_some()
    }

    fn next(&self, needs: &[Needs]) -> Option<usize> {
        let is_done = |other: usize| self.ends.done[other].is_some();
        let ready = |&index: &usize| !self.is_settled(index) && needs[index].all().all(is_done);
        (0..needs.len()).find(ready)
    }
}

/// Calls `work` with every index and the runs that are done, `jobs` at a time, each on its share of the current pool's
/// threads, and none before those that it needs. What needs one that diverged is not begun; after any other failure nothing
/// new is.
pub(super) fn at_a_time(
    jobs: usize,
    needs: &[Needs],
    work: impl Fn(usize, &[Option<Finished>]) -> Result<Finished, LabError> + Sync,
) -> Result<Ends, LabError> {
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let state = Mutex::new(State {
        ends: Ends::new(needs.len()),
        begun: vec![false; needs.len()],
        failed: None,
        stopped: false,
    });
    let changed = Condvar::new();
    let board = Board {
        state: &state,
        changed: &changed,
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(needs.len()) {
            scope.spawn(|| {
                let pool = timing::pool(threads);
                while let Some((index, done)) = board.take(needs) {
                    let unless_told = StopsOthers(&board);
                    let result = pool.install(|| work(index, &done));
                    std::mem::forget(unless_told);
                    board.put(index, result, needs);
                }
            });
        }
    });
    let state = state.into_inner().expect(NO_PANIC);
    match state.failed {
        Some(error) => Err(error),
        None => Ok(state.ends),
    }
}

struct Board<'a> {
    state: &'a Mutex<State>,
    changed: &'a Condvar,
}

impl Board<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }

    /// The next run whose needs are done, once there is one; none when nothing is left to begin.
    fn take(&self, needs: &[Needs]) -> Option<(usize, Vec<Option<Finished>>)> {
        let mut state = self.lock();
        loop {
            if state.stopped || (0..needs.len()).all(|index| state.is_settled(index)) {
                return None;
            }
            if let Some(index) = state.next(needs) {
                state.begun[index] = true;
                return Some((index, state.ends.done.clone()));
            }
            state = self.changed.wait(state).expect(NO_PANIC);
        }
    }

    fn put(&self, index: usize, result: Result<Finished, LabError>, needs: &[Needs]) {
        let mut state = self.lock();
        if let Err(error) = state.ends.put(index, result, needs) {
            state.stopped = true;
            state.failed = Some(error);
        }
        self.changed.notify_all();
    }
}

/// Wakes those that wait for a run that panicked.
struct StopsOthers<'a>(&'a Board<'a>);

impl Drop for StopsOthers<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

const NO_PANIC: &str = "nothing panics while it holds the lock";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::inputs::tests::widths;

    fn config(seeds: usize, chained: bool, taught: bool) -> Config {
        let mut config = Config::default();
        config.repeats.seeds = seeds;
        config.chain.warm_start = chained;
        if taught {
            config.recipe.teacher = crate::config::areas::OWN_TEACHER.into();
        }
        config
    }

    fn bits(ids: &[RunId]) -> Vec<(u8, u64)> {
        ids.iter().map(|id| (id.bits.get(), id.seed)).collect()
    }

    #[test]
    fn widths_stay_in_their_order_where_nothing_waits() {
        let (ids, needs) = order(&config(2, false, false), &widths([4, 32, 4]), None).unwrap();
        assert_eq!(bits(&ids), [(4, 1), (32, 1), (4, 2), (32, 2)]);
        assert!(needs.iter().all(|needs| *needs == Needs::default()));
    }

    #[test]
    fn a_width_waits_for_the_next_wider_one_of_its_seed_and_for_its_teacher() {
        let (ids, needs) = order(&config(2, true, true), &widths([2, 32, 8]), None).unwrap();
        assert_eq!(bits(&ids)[3..], [(32, 2), (8, 2), (2, 2)]);
        assert_eq!(needs[3], Needs::default());
        let of = |wider: &[usize]| Needs {
            wider: wider.to_vec(),
            teacher: Some(3),
        };
        assert_eq!(needs[4..], [of(&[3]), of(&[3, 4])]);
        assert_eq!(needs[5].all().collect::<Vec<_>>(), [4, 3]);
        let (ids, needs) = order(&config(2, true, false), &widths([4, 1]), Some(2)).unwrap();
        assert_eq!(
            (bits(&ids), &needs[1].wider[..]),
            (vec![(4, 2), (1, 2)], &[0][..])
        );
        let error = order(&config(1, false, true), &widths([4, 1]), None).unwrap_err();
        assert!(error.to_string().contains("add 32 to --widths"), "{error}");
    }

    fn nothing(index: usize) -> Finished {
        let text = format!(r#"{{"bit_width": {index}, "final_test_accuracy": 0}}"#);
        Finished {
            folder: index.to_string().into(),
            results: serde_json::from_str(&text).unwrap(),
            earlier: false,
        }
    }

    #[test]
    fn none_begins_before_what_it_needs_and_results_come_in_order() {
        let (ids, needs) = order(&config(3, true, true), &widths([32, 8, 2, 1]), None).unwrap();
        let running = Mutex::new((0, 0));
        let work = |index: usize, done: &[Option<Finished>]| {
            for other in needs[index].all() {
                assert_eq!(done[other].as_ref().unwrap().folder, nothing(other).folder);
            }
            let mut now = running.lock().unwrap();
            now.0 += 1;
            now.1 = now.1.max(now.0);
            drop(now);
            std::thread::sleep(std::time::Duration::from_millis(5));
            running.lock().unwrap().0 -= 1;
            Ok(nothing(index))
        };
        let done = at_a_time(3, &needs, work).unwrap();
        let done = done.done.iter().flatten();
        let folders: Vec<_> = done.map(|run| run.folder.clone()).collect();
        let expected: Vec<_> = (0..ids.len()).map(|index| nothing(index).folder).collect();
        assert_eq!(folders, expected);
        assert!(running.lock().unwrap().1 > 1, "several at a time");
    }

    #[test]
    fn what_needs_one_that_diverged_is_not_begun_and_all_others_are() {
        let (ids, needs) = order(&config(2, true, false), &widths([32, 8, 2]), None).unwrap();
        let diverges =
            |index: usize, _: &[Option<Finished>]| match (ids[index].bits.get(), ids[index].seed) {
                (8, 1) => Err(LabError::Unquantizable {
                    reason: "too large".into(),
                }),
                (2, 1) => panic!("what it begins with is not there"),
                _ => Ok(nothing(index)),
            };
        let alone = one_by_one(&needs, diverges).unwrap();
        for ends in [at_a_time(2, &needs, diverges).unwrap(), alone] {
            let done: Vec<bool> = ends.done.iter().map(Option::is_some).collect();
            assert_eq!(done, [true, false, false, true, true, true]);
            assert!(matches!(ends.faults[1], Some(Fault::Diverged(_))));
            assert!(matches!(ends.faults[2], Some(Fault::Needs(1))));
            let failed = super::super::Swept::of(&ids, ends).failed;
            let lines: Vec<String> = failed
                .iter()
                .map(|failed| format!("{}: {}", failed.run.named(), failed.why))
                .collect();
            assert!(
                lines[0].starts_with("8 bits, seed 1: the trained model cannot be"),
                "{lines:?}"
            );
            assert_eq!(
                lines[1],
                "2 bits, seed 1: not begun: it needs 8 bits, seed 1, which failed"
            );
        }
    }

    #[test]
    fn what_waits_for_a_failure_is_not_begun_and_nobody_waits_for_ever() {
        let (_, needs) = order(&config(1, true, false), &widths([32, 8, 2]), None).unwrap();
        let fails = |index: usize, _: &[Option<Finished>]| match index {
            1 => Err(LabError::Mismatch("no more".into())),
            _ => Ok(nothing(index)),
        };
        let error = at_a_time(2, &needs, fails).unwrap_err();
        assert_eq!(error.to_string(), "no more");
        let panics = |_: usize, _: &[Option<Finished>]| panic!("as asked");
        let caught = std::panic::catch_unwind(|| at_a_time(2, &needs, panics));
        assert!(caught.is_err());
    }
}
