//! Short pieces of work, one after the other, for threads that wait awake.
//!
//! One image's layers take tens of microseconds each. A fork and join of a work-stealing pool costs 2 to 7 µs (looking for
//! work, giving up the processor in between, noticing the end), a word in shared memory 0.3 µs. So the threads that work on
//! one image come together once, and then wait for each layer with their eyes on that word.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How often a waiting thread looks before it starts to offer its processor to others: about 20 µs.
const LOOKS: usize = 2000;

/// What threads share while they work together.
pub struct Team {
    threads: usize,
    /// Parts of the present work that nobody has taken: the low half counts them down, the high half counts works.
    open: AtomicU64,
    /// Parts of the present work that are done.
    done: AtomicUsize,
    /// The present work. Written by the thread that leads while no part is open; read by those that have taken a part.
    work: UnsafeCell<Option<Work>>,
    leading: AtomicBool,
    panicked: AtomicBool,
    closed: AtomicBool,
}

/// A borrowed closure without its lifetime.
type Work = *const (dyn Fn(usize) + Sync);

// SAFETY: `work` is the one part that is not `Sync` by itself. It is written between works, when no part is open, and read
// after a part was taken and before it is counted as done, which `lead` waits for before the next write; taking (acquire)
// follows opening (release), and counting (release) precedes the end of the wait (acquire). The closure is `Sync`.
unsafe impl Sync for Team {}
// SAFETY: as above; nothing belongs to a thread.
unsafe impl Send for Team {}

impl Team {
    /// A team that is to have `threads` threads, the leading one among them.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            open: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            leading: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Threads that it is to have; fewer may have come.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Takes parts of whatever work comes, until the team is [closed](Self::close).
    pub fn help(&self) {
        let mut looks = 0;
        while !self.closed.load(Ordering::Acquire) {
            match self.take() {
                Some(part) => {
                    looks = 0;
                    self.do_part(part);
                }
                None => wait(&mut looks),
            }
        }
    }

    /// Sends the helpers home.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Calls `work` with 0 to `parts - 1`, on this thread and those that [help](Self::help), and returns when all are done.
    /// Without helpers, or from within a part, this thread does all of it.
    ///
    /// # Panics
    /// If a part did, once no other part runs any more.
    pub fn lead(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let parts_in_word = u32::try_from(parts).expect("parts are few");
        if parts <= 1 || self.leading.swap(true, Ordering::Acquire) {
            (0..parts).for_each(work);
            return;
        }
        // SAFETY: (the lifetime) the closure is called by those that have taken a part, and `Present` keeps this function
        // from ending before all parts are done. (The write) no part is open or being done: `leading` was false.
        unsafe {
            let work: Work = std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Work>(work);
            *self.work.get() = Some(work);
        }
        self.done.store(0, Ordering::Relaxed);
        let works = (self.open.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let open = works << 32 | u64::from(parts_in_word);
        self.open.store(open, Ordering::Release);
        let present = Present { team: self, parts };
        while let Some(part) = self.take() {
            self.do_part(part);
        }
        drop(present);
        assert!(
            !self.panicked.load(Ordering::Relaxed),
            "a part of the work panicked"
        );
    }

    /// The number of an open part, the last first, which is the caller's from now on.
    fn take(&self) -> Option<usize> {
        let mut open = self.open.load(Ordering::Acquire);
        loop {
            let left = open as u32;
            if left == 0 {
                return None;
            }
            match self.open.compare_exchange_weak(
                open,
                open - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(left as usize - 1),
                Err(now) => open = now,
            }
        }
    }

    fn do_part(&self, part: usize) {
        struct Done<'a>(&'a Team);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.panicked.store(true, Ordering::Relaxed);
                }
                self.0.done.fetch_add(1, Ordering::Release);
            }
        }
        let _done = Done(self);
        // SAFETY: the caller has taken `part`, so that the work is neither replaced nor gone before `_done` is dropped.
        let work = unsafe { &*(*self.work.get()).expect("a part is of some work") };
        work(part);
    }
}

/// The work in progress; dropped when it is done, or when the leader's part panics.
struct Present<'a> {
    team: &'a Team,
    parts: usize,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        // Open parts are left only by a panic; nobody shall begin them.
        while self.team.take().is_some() {
            self.team.done.fetch_add(1, Ordering::Release);
        }
        let mut looks = 0;
        while self.team.done.load(Ordering::Acquire) != self.parts {
            wait(&mut looks);
        }
        self.team.leading.store(false, Ordering::Release);
    }
}

fn wait(looks: &mut usize) {
    if *looks < LOOKS {
        *looks += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    /// Runs `lead` with `helpers` threads that help.
    fn with_helpers(helpers: usize, lead: impl FnOnce(&Team)) {
        let team = Team::new(helpers + 1);
        std::thread::scope(|scope| {
            struct Close<'a>(&'a Team);
            impl Drop for Close<'_> {
                fn drop(&mut self) {
                    self.0.close();
                }
            }
            for _ in 0..helpers {
                scope.spawn(|| {
                    // A helper whose part panics ends; the leader says so.
                    let _ = catch_unwind(AssertUnwindSafe(|| team.help()));
                });
            }
            let _close = Close(&team);
            lead(&team);
        });
    }

    #[test]
    fn each_part_of_each_work_is_done_once_before_the_next_work() {
        let works = if cfg!(miri) { 50 } else { 20_000 };
        for helpers in 0..4 {
            with_helpers(helpers, |team| {
                for work in 0..works {
                    let parts = work % 7;
                    let counts: Vec<AtomicUsize> =
                        (0..parts).map(|_| AtomicUsize::new(0)).collect();
                    team.lead(parts, &|part| {
                        counts[part].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(
                        counts
                            .iter()
                            .all(|count| count.load(Ordering::Relaxed) == 1)
                    );
                }
            });
        }
    }

    #[test]
    fn helpers_do_help() {
        with_helpers(1, |team| {
            let leader = std::thread::current().id();
            let helped = AtomicBool::new(false);
            let begin = Instant::now();
            while !helped.load(Ordering::Relaxed) {
                assert!(begin.elapsed() < Duration::from_secs(60), "nobody helps");
                team.lead(2, &|_| {
                    if std::thread::current().id() != leader {
                        helped.store(true, Ordering::Relaxed);
                    } else {
                        std::thread::yield_now();
                    }
                });
            }
        });
    }

    #[test]
    fn work_within_a_part_is_done_there() {
        with_helpers(2, |team| {
            let count = AtomicUsize::new(0);
            team.lead(3, &|_| {
                let here = std::thread::current().id();
                team.lead(4, &|_| {
                    assert_eq!(std::thread::current().id(), here);
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert_eq!(count.into_inner(), 12);
        });
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_leader_when_no_part_runs() {
        for bad in 0..4 {
            with_helpers(2, |team| {
                let running = AtomicUsize::new(0);
                let result = catch_unwind(AssertUnwindSafe(|| {
                    team.lead(4, &|part| {
                        running.fetch_add(1, Ordering::SeqCst);
                        if part == bad {
                            running.fetch_sub(1, Ordering::SeqCst);
                            std::panic::resume_unwind(Box::new("bad part"));
                        }
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                }));
                assert!(result.is_err());
                assert_eq!(running.into_inner(), 0);
            });
        }
    }
}
