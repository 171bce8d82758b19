//! Memory aligned to cache lines, with readable slack behind its end.

use crate::geometry::SLACK;
use crate::pages::Piece;

/// A zeroed, 64-byte-aligned buffer of plain numbers, followed by [`SLACK`] readable elements.
///
/// Vector loads that cross a cache line cost up to a third of a kernel's speed (measured: 377 against 245 GMAC/s on the
/// 5×5 32→64 layer); kernels may load up to [`SLACK`] elements past the end of what they need.
#[derive(Debug)]
pub struct AlignedBuffer<T> {
    memory: Memory,
    len: usize,
    kind: std::marker::PhantomData<T>,
}

/// At least (len + SLACK) · size_of::<T>() initialized bytes (counted without overflow where they were asked for, and at
/// most isize::MAX), aligned to 64.
#[derive(Debug)]
enum Memory {
    Lines(Vec<Line>),
    /// In large pages, beside others.
    Piece(Piece),
}

impl Memory {
    /// Zeros.
    fn new(bytes: usize) -> Result<Self, std::collections::TryReserveError> {
        if let Some(piece) = Piece::new(bytes) {
            return Ok(Self::Piece(piece));
        }
        let count = bytes.div_ceil(64);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count)?;
        lines.resize(count, Line([0; 64]));
        Ok(Self::Lines(lines))
    }

    fn start(&self) -> *const u8 {
        match self {
            Self::Lines(lines) => lines.as_ptr().cast(),
            Self::Piece(piece) => piece.start(),
        }
    }

    fn start_mut(&mut self) -> *mut u8 {
        match self {
            Self::Lines(lines) => lines.as_mut_ptr().cast(),
            Self::Piece(piece) => piece.start_mut(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A buffer that is larger than memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a buffer of {len} elements of {element_bytes} bytes does not fit into memory")]
pub struct BufferError {
    /// Elements asked for.
    len: usize,
    /// Bytes of each.
    element_bytes: usize,
}

/// Plain numbers that a buffer can hold.
pub use sealed::Number;

mod sealed {
    /// A plain number: any bit pattern is a value.
    pub trait Number: Copy + Default + Send + Sync + 'static {}
    impl Number for f32 {}
    impl Number for i32 {}
    impl Number for u32 {}
    impl Number for i16 {}
    impl Number for i8 {}
    impl Number for u8 {}
}

impl<T: sealed::Number> AlignedBuffer<T> {
    /// A buffer of `len` zeros.
    ///
    /// # Panics
    /// If that many do not fit into the address space; [`AlignedBuffer::try_zeroed`] returns an error.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self::try_zeroed(len).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A buffer of `len` zeros, if there is memory for it.
    ///
    /// # Errors
    /// [`BufferError`] where there is not.
    pub fn try_zeroed(len: usize) -> Result<Self, BufferError> {
        let refused = BufferError {
            len,
            element_bytes: size_of::<T>(),
        };
        let bytes = len
            .checked_add(SLACK)
            .and_then(|all| all.checked_mul(size_of::<T>()))
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or(refused)?;
        Ok(Self {
            memory: Memory::new(bytes).map_err(|_| refused)?,
            len,
            kind: std::marker::PhantomData,
        })
    }

    /// Makes room for `len` elements, of which a new buffer's are zeros; what there was is kept or lost.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeroed(len);
        }
    }

    /// A buffer holding a copy of `values`.
    #[must_use]
    pub fn from_slice(values: &[T]) -> Self {
        let mut buffer = Self::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    #[cfg(all(test, not(miri)))]
    pub(crate) fn is_in_large_pages(&self) -> bool {
        matches!(self.memory, Memory::Piece(_))
    }

    /// The elements and the slack behind them.
    #[must_use]
    pub fn with_slack(&self) -> &[T] {
        // SAFETY: `memory` has that many initialized bytes, aligned to 64, which is at least the alignment of every
        // `Number`, and every bit pattern is a valid `Number`.
        unsafe { std::slice::from_raw_parts(self.memory.start().cast(), self.len + SLACK) }
    }

    /// The elements and the slack behind them as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let values = self.with_slack();
        // SAFETY: the same memory; a `Number` has no padding, and any byte is a valid u8.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }

    /// The elements and the slack behind them, mutable.
    pub fn with_slack_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `with_slack`; `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start_mut().cast(), self.len + SLACK) }
    }
}

impl<T: sealed::Number> Clone for AlignedBuffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.with_slack_mut().copy_from_slice(self.with_slack());
        copy
    }
}

impl<T: sealed::Number> std::ops::Deref for AlignedBuffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.with_slack()[..self.len]
    }
}

impl<T: sealed::Number> std::ops::DerefMut for AlignedBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let len = self.len;
        &mut self.with_slack_mut()[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_larger_than_memory_is_refused() {
        for len in [usize::MAX, usize::MAX / 4, 1 << 62, isize::MAX as usize] {
            assert!(AlignedBuffer::<f32>::try_zeroed(len).is_err(), "{len}");
            // Miri ends where an allocator would refuse.
            if !cfg!(miri) {
                assert!(AlignedBuffer::<u8>::try_zeroed(len).is_err(), "{len}");
            }
        }
        let error = AlignedBuffer::<f32>::try_zeroed(1 << 62).unwrap_err();
        let said = "a buffer of 4611686018427387904 elements of 4 bytes does not fit into memory";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    #[should_panic = "does not fit into memory"]
    fn zeroing_more_than_memory_panics() {
        let _ = AlignedBuffer::<f32>::zeroed(1 << 62);
    }

    #[test]
    fn a_buffer_is_aligned_zeroed_and_has_its_slack() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let buffer = AlignedBuffer::<i16>::zeroed(len);
            assert_eq!(
                (buffer.len(), buffer.with_slack().len()),
                (len, len + SLACK)
            );
            assert!(buffer.with_slack().iter().all(|&x| x == 0));
            assert!(buffer.as_ptr().cast::<Line>().is_aligned());
            assert_eq!(buffer.bytes().len(), 2 * (len + SLACK));
        }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod in_large_pages {
    use super::*;
    use crate::pages::{LARGE, LINE, WORTH, WORTH_ALONE, in_large_pages};

    /// Where a buffer begins.
    fn place<T: Number>(buffer: &AlignedBuffer<T>) -> usize {
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
