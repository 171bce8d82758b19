//! Large pages for buffers that live together: a model's weights, the values of a run.
//!
//! Memory comes in pages of 4 KiB, each with a fault when it is first touched, and the processor remembers where a few
//! thousand of them lie. Linux gives pages of 2 MiB to who asks for them (`madvise`, transparent huge pages), but only
//! where 2 MiB lie in one piece: buffers of a layer each are too small alone.

use crate::heap::Elsewhere;
use std::cell::RefCell;
use std::sync::Arc;

/// What a large page has on x86-64, and on others with pages of 4 KiB.
const LARGE: usize = 1 << 21;
/// Buffers of fewer bytes in all are not worth a large page.
const WORTH: usize = LARGE / 2;
/// A buffer of so many bytes has large pages wherever it is made: a third of them is left over at most.
const WORTH_ALONE: usize = 2 * LARGE;
/// Whether the system is asked for large pages. Miri has none.
const HAS_LARGE: bool = cfg!(all(target_os = "linux", not(miri)));
/// Where buffers begin: a cache line.
const LINE: usize = 64;

/// Runs `make`. Buffers that the calling thread makes in it lie one behind another in large pages, where the system has
/// such and they will have about `expected` bytes, 1 MiB or more; otherwise nothing is different. Their memory is given back
/// when all of them are gone.
pub fn in_large_pages<R>(expected: usize, make: impl FnOnce() -> R) -> R {
    if expected < WORTH || !HAS_LARGE {
        return make();
    }
    let outer = OPEN.replace(Some(Open::new(expected)));
    // Also where `make` panics.
    let _back = Back(Some(outer));
    make()
}

thread_local! {
    static OPEN: RefCell<Option<Open>> = const { RefCell::new(None) };
}

struct Back(Option<Option<Open>>);

impl Drop for Back {
    fn drop(&mut self) {
        OPEN.set(self.0.take().flatten());
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

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use crate::AlignedBuffer;
    use crate::geometry::SLACK;

    /// Where a buffer begins.
    fn place<T: crate::buffer::Number>(buffer: &AlignedBuffer<T>) -> usize {
        buffer.as_ptr().addr()
    }

    #[test]
    fn buffers_lie_one_behind_another_zeroed_and_apart() {
        let buffers: Vec<AlignedBuffer<f32>> = in_large_pages(WORTH, || {
            (0..5).map(|i| AlignedBuffer::zeroed(1000 + i)).collect()
        });
        assert_eq!(place(&buffers[0]) % LARGE, 0);
        for (i, pair) in buffers.windows(2).enumerate() {
            let bytes = size_of_val(pair[0].with_slack());
            assert_eq!(bytes, 4 * (1000 + i + SLACK));
            assert_eq!(
                place(&pair[1]) - place(&pair[0]),
                bytes.next_multiple_of(LINE)
            );
        }
        let mut buffers = buffers;
        for (i, buffer) in buffers.iter_mut().enumerate() {
            assert!(buffer.with_slack().iter().all(|&x| x == 0.0));
            buffer.with_slack_mut().fill(i as f32);
        }
        for (i, buffer) in buffers.iter().enumerate() {
            assert!(buffer.with_slack().iter().all(|&x| x == i as f32));
        }
    }

    #[test]
    fn more_than_expected_finds_room_too() {
        // The second fills a region to its end.
        let lens = [WORTH, 2 * LARGE - SLACK, 10, LARGE, 0];
        let buffers = in_large_pages(WORTH, || lens.map(AlignedBuffer::<u8>::zeroed));
        for (buffer, len) in buffers.iter().zip(lens) {
            assert_eq!((buffer.len(), place(buffer) % LINE), (len, 0));
        }
        // Each buffer can outlive the others, and be copied.
        let [first, ..] = buffers;
        let mut copy = first.clone();
        copy.fill(7);
        assert!(first.iter().all(|&x| x == 0));
    }

    #[test]
    fn few_bytes_and_other_threads_go_elsewhere() {
        let lies_in_region = |buffer: &AlignedBuffer<u8>| buffer.is_in_large_pages();
        assert!(!lies_in_region(&in_large_pages(WORTH - 1, || {
            AlignedBuffer::zeroed(10)
        })));
        in_large_pages(WORTH, || {
            assert!(lies_in_region(&AlignedBuffer::zeroed(10)));
            let other = std::thread::spawn(|| AlignedBuffer::<u8>::zeroed(10));
            assert!(!lies_in_region(&other.join().unwrap()));
            // One within another has its own, and leaves the outer one as it was.
            in_large_pages(WORTH, || {
                assert!(lies_in_region(&AlignedBuffer::zeroed(10)))
            });
            in_large_pages(0, || assert!(lies_in_region(&AlignedBuffer::zeroed(10))));
            assert!(lies_in_region(&AlignedBuffer::zeroed(10)));
        });
        assert!(!lies_in_region(&AlignedBuffer::zeroed(10)));
        assert!(!lies_in_region(&AlignedBuffer::zeroed(WORTH_ALONE / 2)));
        assert!(lies_in_region(&AlignedBuffer::zeroed(WORTH_ALONE)));
    }

    #[test]
    fn a_region_that_is_refused_leaves_those_before_alone() {
        in_large_pages(WORTH, || {
            let mut first = AlignedBuffer::<u8>::zeroed(10);
            first.fill(1);
            // More than processors can address.
            assert!(AlignedBuffer::<u8>::try_zeroed(1 << 62).is_err());
            let second = AlignedBuffer::<u8>::zeroed(10);
            assert!(second.is_in_large_pages() && second.iter().all(|&x| x == 0));
            assert_ne!(place(&first), place(&second));
        });
    }

    #[test]
    fn a_panic_leaves_nothing_open() {
        let panicked = std::panic::catch_unwind(|| in_large_pages(WORTH, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert!(!AlignedBuffer::<u8>::zeroed(10).is_in_large_pages());
    }

    #[test]
    fn a_piece_goes_to_another_thread_and_back() {
        let mut buffer = in_large_pages(WORTH, || AlignedBuffer::<i32>::zeroed(100));
        std::thread::scope(|scope| scope.spawn(|| buffer.fill(3)).join().unwrap());
        assert_eq!(buffer.iter().sum::<i32>(), 300);
    }
}
