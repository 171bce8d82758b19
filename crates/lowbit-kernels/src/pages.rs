//! Large pages for buffers that live together: a model's weights, the values of a run.
//!
//! Memory comes in pages of 4 KiB, each with a fault when it is first touched, and the processor remembers where a few
//! thousand of them lie. Linux gives pages of 2 MiB to who asks for them (`madvise`, transparent huge pages), but only
//! where 2 MiB lie in one piece: buffers of a layer each are too small alone.

use crate::heap::Elsewhere;
use std::cell::RefCell;
use std::sync::Arc;

/// What a large page has on x86-64, and on others with pages of 4 KiB.
pub(crate) const LARGE: usize = 1 << 21;
/// Buffers of fewer bytes in all are not worth a large page.
pub(crate) const WORTH: usize = LARGE / 2;
/// A buffer of so many bytes has large pages wherever it is made: a third of them is left over at most.
pub(crate) const WORTH_ALONE: usize = 2 * LARGE;
/// Whether the system is asked for large pages. Miri has none.
const HAS_LARGE: bool = cfg!(all(target_os = "linux", not(miri)));
/// Where buffers begin: a cache line.
pub(crate) const LINE: usize = 64;

/// Runs `make`. Buffers that the calling thread makes in it lie one behind another in large pages, where the system has
/// such and they will have about `expected` bytes, 1 MiB or more; otherwise nothing is different. Their memory is given back
/// when all of them are gone.
pub fn in_large_pages<R>(expected: usize, make: impl FnOnce() -> R) -> R {
    if expected < WORTH || !HAS_LARGE {
        return make();
    }
    // Closed where `make` panics, too.
    let _outer = Outer(OPEN.replace(Some(Open::new(expected))));
    make()
}

thread_local! {
    static OPEN: RefCell<Option<Open>> = const { RefCell::new(None) };
}

/// What was open before, and is again in the end.
struct Outer(Option<Open>);

impl Drop for Outer {
    fn drop(&mut self) {
        OPEN.set(self.0.take());
    }
}

/// Where this thread's next buffers go.
struct Open {
    region: Option<Arc<Region>>,
    /// Bytes of it that buffers have.
    used: usize,
    /// Bytes of a region, at least: what is not touched costs nothing.
    expected: usize,
}

/// A part of a region: zeros at first, nobody else's, and aligned to a cache line.
#[derive(Debug)]
pub(crate) struct Piece {
    region: Arc<Region>,
    start: usize,
    _counted: Elsewhere,
}

impl Piece {
    /// A piece of `bytes` where they are many or this thread is in [`in_large_pages`], if the system has such memory.
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let cut = |open: &RefCell<Option<Open>>| match open.borrow_mut().as_mut() {
            Some(open) if bytes > 0 => open.cut(bytes),
            None if bytes >= WORTH_ALONE && HAS_LARGE => Open::new(bytes).cut(bytes),
            _ => None,
        };
        // While a thread ends there is none.
        OPEN.try_with(cut).ok().flatten()
    }

    pub(crate) fn start(&self) -> *const u8 {
        self.region.start.wrapping_add(self.start)
    }

    pub(crate) fn start_mut(&mut self) -> *mut u8 {
        self.region.start.wrapping_add(self.start)
    }
}

impl Open {
    fn new(expected: usize) -> Self {
        Self {
            region: None,
            used: 0,
            expected,
        }
    }

    fn cut(&mut self, bytes: usize) -> Option<Piece> {
        let end = self.used.checked_add(bytes)?;
        let region = match &self.region {
            Some(region) if end <= region.bytes => region,
            _ => {
                let all = bytes.max(self.expected).checked_next_multiple_of(LARGE)?;
                // Refused, it leaves everything as it was.
                let region = Arc::new(Region::new(all)?);
                self.used = 0;
                self.region.insert(region)
            }
        };
        assert!(
            self.used + bytes <= region.bytes,
            "a piece lies in its region"
        );
        let piece = Piece {
            region: Arc::clone(region),
            start: self.used,
            _counted: Elsewhere::new(bytes),
        };
        self.used = (self.used + bytes).next_multiple_of(LINE);
        Some(piece)
    }
}

/// Memory of the system's, which begins at a large page.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
struct Region {
    start: *mut u8,
    bytes: usize,
    /// What was asked for: one large page more, since the system begins anywhere.
    mapped: *mut u8,
    mapped_bytes: usize,
}

// SAFETY: it is memory alone, which any thread may use and give back; a `Piece` has a part of it for itself.
unsafe impl Send for Region {}
// SAFETY: as above; through `&Region` nothing is read or written.
unsafe impl Sync for Region {}

impl Region {
    #[cfg(all(target_os = "linux", not(miri)))]
    fn new(bytes: usize) -> Option<Self> {
        let mapped_bytes = bytes.checked_add(LARGE)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory at a place of the system's choice touches nothing that there is.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), mapped_bytes, access, kind, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return None;
        }
        let mapped: *mut u8 = mapped.cast();
        let start = mapped.wrapping_add(mapped.addr().next_multiple_of(LARGE) - mapped.addr());
        // SAFETY: `start` and `bytes` lie in what was mapped: less than a large page is left out in front.
        // A refusal is no harm: pages are small then.
        unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
        Some(Self {
            start,
            bytes,
            mapped,
            mapped_bytes,
        })
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    fn new(_: usize) -> Option<Self> {
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped with these numbers by `new`, and the last piece is gone: nobody has it.
        unsafe { libc::munmap(self.mapped.cast(), self.mapped_bytes) };
    }
}
