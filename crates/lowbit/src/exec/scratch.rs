//! Buffers of the thread, for what is brought into another order before a product or after it.

use crate::lower::Layout;
use std::cell::Cell;

/// Numbers that a thread keeps a buffer of.
pub(super) trait Scratch: Copy + Default + 'static {
    /// Calls `f` with `len` elements, whatever they are.
    fn with<R>(len: usize, f: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! scratch {
    ($number:ty) => {
        impl Scratch for $number {
            fn with<R>(len: usize, f: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static BUFFER: Cell<Vec<$number>> = const { Cell::new(Vec::new()) };
                }
                // Taken, so that who needs another one meanwhile makes it.
                let mut buffer = BUFFER.take();
                let longer = buffer.len().max(len);
                buffer.resize(longer, <$number>::default());
                let result = f(&mut buffer[..len]);
                BUFFER.set(buffer);
                result
            }
        }
    };
}

scratch!(u8);
scratch!(f32);

/// Brings dense results of so many images, rows and columns into their layout.
pub(super) fn put_rows<T: Copy>(
    layout: &Layout,
    dense: &[T],
    (images, rows, columns): (usize, usize, usize),
    out: &mut [T],
) {
    let mut from = dense.chunks_exact((columns * layout.c).max(1));
    for image in 0..images {
        for row in 0..rows {
            let to = image * layout.image_len + row * layout.row_stride;
            let row = from.next().expect("the product has a row for each");
            out[to..][..row.len()].copy_from_slice(row);
        }
    }
}
