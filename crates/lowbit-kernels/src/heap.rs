//! What is on the heap, and the most that was: an allocator that counts, for programs that want to say what a model takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, counted, and what buffers have of large pages ([`crate::pages`]; that these are handed out two
/// megabytes at a time is not counted). Without `#[global_allocator]` in front of one it counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountedHeap;

/// Bytes that are asked for now.
static NOW: AtomicUsize = AtomicUsize::new(0);
/// The most since [`CountedHeap::forget_most`].
static MOST: AtomicUsize = AtomicUsize::new(0);

impl CountedHeap {
    /// Returns the bytes that are asked for and not given back; 0 where nothing is counted.
    #[must_use]
    pub fn now(self) -> usize {
        NOW.load(Relaxed)
    }

    /// Returns the most that they were since [`forget_most`](Self::forget_most).
    #[must_use]
    pub fn most(self) -> usize {
        MOST.load(Relaxed)
    }

    /// Begins to look for the most anew.
    pub fn forget_most(self) {
        MOST.store(NOW.load(Relaxed), Relaxed);
    }
}

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(now, Relaxed);
}

/// Counts bytes that do not come from the allocator until they are dropped, where anything is counted.
#[derive(Debug)]
pub(crate) struct Elsewhere(usize);

impl Elsewhere {
    pub(crate) fn new(bytes: usize) -> Self {
        // A program has something on its heap at any time.
        let counted = if NOW.load(Relaxed) > 0 { bytes } else { 0 };
        add(counted);
        Self(counted)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        NOW.fetch_sub(self.0, Relaxed);
    }
}

// SAFETY: everything is done by the system's allocator, with what the caller promises; counting allocates nothing.
unsafe impl GlobalAlloc for CountedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let at = unsafe { System.alloc(layout) };
        if !at.is_null() {
            add(layout.size());
        }
        at
    }

    // Pages that the system hands out zeroed are not written: the default would.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let at = unsafe { System.alloc_zeroed(layout) };
        if !at.is_null() {
            add(layout.size());
        }
        at
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { System.realloc(at, layout, size) };
        if !moved.is_null() {
            NOW.fetch_sub(layout.size(), Relaxed);
            add(size);
        }
        moved
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) };
        NOW.fetch_sub(layout.size(), Relaxed);
    }
}
