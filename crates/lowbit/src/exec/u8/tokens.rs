//! Operators that move pixels; their levels move to the result's grid where that is another one.

use super::StepParams;
use super::channels::{Moved, moved};
use crate::exec::kernel::{Call, Kernel};
use crate::lower::{Layout, Plan};
use crate::ops;

/// The input's elements under other extents, where one of the two has a halo.
pub(super) struct Reshape {
    input: Layout,
    output: Layout,
    moved: Moved,
}

impl Reshape {
    pub(super) fn new(plan: &Plan, index: usize, params: &StepParams) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            moved: moved(params, 0),
        }
    }
}

impl Kernel for Reshape {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        for image in 0..call.images {
            let input = &input[image * self.input.image_len + self.input.first()..];
            let out = &mut out[image * self.output.image_len..];
            for ([from, to], len) in self.input.runs(&self.output) {
                let out = &mut out[to..][..len];
                out.copy_from_slice(&input[from..][..len]);
                if let Some(table) = &self.moved {
                    out.iter_mut().for_each(|q| *q = table[usize::from(*q)]);
                }
            }
        }
    }
}

/// Zeros, and the input's pixels behind them.
pub(super) struct Prefix {
    input: Layout,
    output: Layout,
    tokens: usize,
    zero: u8,
    moved: Moved,
}

impl Prefix {
    pub(super) fn new(plan: &Plan, index: usize, prefix: ops::Prefix, params: &StepParams) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            tokens: prefix.tokens,
            zero: params.output.zero_point,
            moved: moved(params, 0),
        }
    }
}

impl Kernel for Prefix {
    fn run(&self, call: Call<'_>) {
        let (input, out, c) = (call.inputs.u8(0), call.out.u8(), self.output.c);
        for image in 0..call.images {
            let out = &mut out[image * self.output.image_len..][..self.output.row_len()];
            let (zeros, mut rest) = out.split_at_mut(self.tokens * c);
            zeros.fill(self.zero);
            for y in 0..self.input.h {
                let to;
                (to, rest) = rest.split_at_mut(self.input.row_len());
                to.copy_from_slice(&input[self.input.row(image, y)]);
                if let Some(table) = &self.moved {
                    to.iter_mut().for_each(|q| *q = table[usize::from(*q)]);
                }
            }
        }
    }
}

/// Pixels as channels, and channels as pixels.
pub(super) struct Transpose {
    input: Layout,
    output: Layout,
    moved: Moved,
}

impl Transpose {
    pub(super) fn new(plan: &Plan, index: usize, params: &StepParams) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            moved: moved(params, 0),
        }
    }
}

impl Kernel for Transpose {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        let (pixels, c) = (self.output.c, self.input.c);
        for image in 0..call.images {
            let out = &mut out[image * self.output.image_len..];
            let input = &input[image * self.input.image_len + self.input.first()..];
            for pixel in 0..pixels {
                let from = &input[self.input.pixel(pixel)..][..c];
                for (channel, &q) in from.iter().enumerate() {
                    out[channel * pixels + pixel] = match &self.moved {
                        None => q,
                        Some(table) => table[usize::from(q)],
                    };
                }
            }
        }
    }
}
