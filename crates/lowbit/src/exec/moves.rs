//! Operators that move pixels, for numbers of any kind.

use crate::lower::{Layout, Plan};
use crate::ops;

/// How pixels move.
#[derive(Clone, Copy)]
pub(crate) enum Move {
    /// The same elements under other extents.
    Reshape,
    /// Zeros, and the pixels behind them.
    Prefix(ops::Prefix),
    /// Pixels as channels, and channels as pixels.
    Transpose,
}

/// A move between two layouts.
pub(crate) struct Moves {
    how: Move,
    input: Layout,
    output: Layout,
}

impl Moves {
    pub(crate) fn new(plan: &Plan, index: usize, how: Move) -> Self {
        Self {
            how,
            input: plan.input(index, 0),
            output: plan.output(index),
        }
    }

    /// Moves so many images; `zero` stands in front of a prefix, and `after` sees what was moved, in parts.
    pub(crate) fn run<T: Copy>(
        &self,
        images: usize,
        (input, out): (&[T], &mut [T]),
        zero: T,
        after: impl Fn(&mut [T]),
    ) {
        let (from, to) = (&self.input, &self.output);
        for image in 0..images {
            let input = &input[image * from.image_len + from.first()..];
            let out = &mut out[image * to.image_len..];
            match self.how {
                Move::Reshape => {
                    for ([from, to], len) in from.runs(to) {
                        let out = &mut out[to..][..len];
                        out.copy_from_slice(&input[from..][..len]);
                        after(out);
                    }
                }
                Move::Prefix(prefix) => {
                    let (zeros, pixels) = out[..to.row_len()].split_at_mut(prefix.tokens * to.c);
                    zeros.fill(zero);
                    for (y, row) in pixels.chunks_exact_mut(from.row_len()).enumerate() {
                        row.copy_from_slice(&input[y * from.row_stride..][..row.len()]);
                    }
                    after(pixels);
                }
                Move::Transpose => {
                    for pixel in 0..to.c {
                        let channels = &input[from.pixel(pixel)..][..from.c];
                        for (channel, &x) in channels.iter().enumerate() {
                            out[channel * to.c + pixel] = x;
                        }
                    }
                    after(&mut out[..to.row_len()]);
                }
            }
        }
    }
}
