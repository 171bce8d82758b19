//! Work on the threads of rayon's current pool; on the calling thread alone without the feature `rayon`.

use lowbit_kernels::team::Team;
#[cfg(feature = "rayon")]
use rayon::prelude::*;
use std::sync::Mutex;
#[cfg(feature = "train")]
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Threads that share work.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}

/// Gives each chunk of `input` with its chunk of `output` to a thread that has none.
pub(crate) fn for_each_pair<A: Sync, B: Send>(
    input: (&[A], usize),
    output: (&mut [B], usize),
    work: impl Fn(&[A], &mut [B]) + Send + Sync,
) {
    #[cfg(feature = "rayon")]
    input
        .0
        .par_chunks(input.1)
        .zip(output.0.par_chunks_mut(output.1))
        .with_max_len(1)
        .for_each(|(input, output)| work(input, output));
    #[cfg(not(feature = "rayon"))]
    for (input, output) in input.0.chunks(input.1).zip(output.0.chunks_mut(output.1)) {
        work(input, output);
    }
}

/// Gives the first `count` chunks of `output`, with their numbers, to threads.
pub(crate) fn for_each_chunk<T: Send>(
    output: &mut [T],
    len: usize,
    count: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    #[cfg(feature = "rayon")]
    output
        .par_chunks_mut(len)
        .take(count)
        .enumerate()
        .for_each(|(number, output)| work(number, output));
    #[cfg(not(feature = "rayon"))]
    for (number, output) in output.chunks_mut(len).take(count).enumerate() {
        work(number, output);
    }
}

/// How long a thread stays awake without work.
#[cfg(feature = "train")]
const PATIENCE: Duration = Duration::from_micros(500);

/// Runs `work` while the pool's other threads look for parts of it without falling asleep in between. A training step is some
/// sixty short pieces of parallel work with serial ones between them, and waking a thread takes tens of microseconds.
#[cfg(feature = "train")]
pub(crate) fn awake<R>(work: impl FnOnce() -> R) -> R {
    let (Some(here), true) = (
        rayon::current_thread_index(),
        rayon::current_num_threads() > 1,
    ) else {
        return work();
    };
    let over = &AtomicBool::new(false);
    rayon::in_place_scope(|scope| {
        let _over = OnDrop(|| over.store(true, Ordering::Release));
        scope.spawn_broadcast(move |_, context| {
            if context.index() != here {
                look_for_work(over);
            }
        });
        work()
    })
}

/// Runs the pool's jobs until it is `over`, or there was none for a while: where this itself was begun by a thread that
/// waits for another job's end, that job must go on.
#[cfg(feature = "train")]
fn look_for_work(over: &AtomicBool) {
    let mut idle_since = None;
    while !over.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle_since = None;
            continue;
        }
        if idle_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return;
        }
        for _ in 0..32 {
            std::hint::spin_loop();
        }
    }
}

/// Calls `work` with a team of up to `threads` threads of the pool.
pub(crate) fn in_team(threads: usize, work: impl FnOnce(&Team) + Send) {
    let team = &Team::new(threads);
    #[cfg(not(feature = "rayon"))]
    work(team);
    #[cfg(feature = "rayon")]
    rayon::in_place_scope(|scope| {
        let _close = OnDrop(|| team.close());
        for _ in 1..threads {
            scope.spawn(|_| team.help());
        }
        work(team);
    });
}

/// Does each of `parts` once.
pub(crate) fn share<P: Send>(team: &Team, parts: Vec<P>, work: impl Fn(P) + Sync) {
    let parts: Vec<_> = parts
        .into_iter()
        .map(|part| Mutex::new(Some(part)))
        .collect();
    team.lead(parts.len(), &|part| {
        let part = parts[part].lock().expect("locked once").take();
        work(part.expect("taken once"));
    });
}

/// Sends helpers home, or a scope would wait for them after a panic.
#[cfg(feature = "rayon")]
struct OnDrop<F: FnMut()>(F);

#[cfg(feature = "rayon")]
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
