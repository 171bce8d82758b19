//! The threads that work is done on, while other Python threads go on.

use crate::errors::{self, Class};
use lowbit_lab::LabError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Threads per call; 0 for one per core.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Most threads that can be asked for.
const MOST: usize = 1024;

/// Most pools of different sizes that are kept.
const KEPT: usize = 3;

/// Pools of one process by their size, the one that was asked for last at the end. After a fork the child has none of the
/// parent's threads, so that a pool that was made before would never answer.
struct Pools {
    process: u32,
    of: Vec<(usize, Arc<ThreadPool>)>,
}

impl Drop for Pools {
    fn drop(&mut self) {
        // Ending a pool takes locks that its threads may have held when the process was forked: a parent's is left as it is.
        if self.process != std::process::id() {
            std::mem::forget(std::mem::take(&mut self.of));
        }
    }
}

static SHARED: Mutex<Option<Pools>> = Mutex::new(None);

thread_local! {
    /// Calls of one thread each do not wait for each other: every Python thread has its own, which ends with it.
    static ALONE: RefCell<Option<Pools>> = const { RefCell::new(None) };
}

/// Sets the number of threads of later calls.
#[pyfunction]
pub(crate) fn set_num_threads(threads: i64) -> PyResult<()> {
    let known = usize::try_from(threads).ok();
    let Some(threads) = known.filter(|&threads| threads <= MOST) else {
        let line = format!("threads={threads}: must lie in 0..{MOST}");
        return Err(Class::Setting.error(line));
    };
    THREADS.store(threads, Ordering::Relaxed);
    Ok(())
}

/// The number of threads of later calls: those that were set, else as many as rayon's variable says, else one per core.
#[pyfunction]
pub(crate) fn num_threads() -> usize {
    let said = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    let said = || said().filter(|threads| (1..=MOST).contains(threads));
    match THREADS.load(Ordering::Relaxed) {
        0 => said().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        threads => threads,
    }
}

/// The pool that a call of now works on.
pub(crate) fn pool() -> PyResult<Arc<ThreadPool>> {
    let threads = num_threads();
    if threads == 1 {
        return ALONE.with_borrow_mut(|pools| of(pools, threads));
    }
    of(
        &mut SHARED.lock().unwrap_or_else(PoisonError::into_inner),
        threads,
    )
}

fn of(pools: &mut Option<Pools>, threads: usize) -> PyResult<Arc<ThreadPool>> {
    let process = std::process::id();
    if pools.as_ref().is_none_or(|pools| pools.process != process) {
        *pools = Some(Pools {
            process,
            of: Vec::new(),
        });
    }
    let pools = &mut pools.as_mut().expect("it was just made").of;
    let pool = match pools.iter().position(|&(size, _)| size == threads) {
        Some(at) => pools.remove(at).1,
        None => Arc::new(made(threads)?),
    };
    pools.push((threads, Arc::clone(&pool)));
    if pools.len() > KEPT {
        // It ends with the last call that works on it.
        pools.remove(0);
    }
    Ok(pool)
}

fn made(threads: usize) -> PyResult<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Class::Setting.error(format!("cannot start {threads} threads: {error}")))
}

/// A pool that nothing else works on: for work that waits for Python meanwhile, which may ask for the others.
pub(crate) fn own_pool() -> PyResult<ThreadPool> {
    made(num_threads())
}

/// Does `work` on the pool, detached from the interpreter. A panic, which is a fault of ours, is an exception as well.
pub(crate) fn work<R: Send, E: Into<LabError> + Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<R, E> + Send,
) -> PyResult<R> {
    let pool = pool()?;
    let done = py.detach(|| catch_unwind(AssertUnwindSafe(|| pool.install(work))));
    match done {
        Ok(result) => result.map_err(errors::of),
        Err(panic) => Err(internal(&*panic)),
    }
}

/// The exception of a panic.
pub(crate) fn internal(panic: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given");
    let text = text.replace('\n', " ");
    Class::Internal.error(format!("a fault of lowbit's own, please report it: {text}"))
}
