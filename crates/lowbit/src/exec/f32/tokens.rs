//! Operators that move pixels.

use crate::exec::kernel::{Call, Kernel};
use crate::lower::{Layout, Plan};
use crate::ops;

/// The input's elements under other extents, where one of the two has a halo.
pub(super) struct Reshape {
    input: Layout,
    output: Layout,
    relu: bool,
}

impl Reshape {
    pub(super) fn new(plan: &Plan, index: usize, relu: bool) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            relu,
        }
    }
}

impl Kernel for Reshape {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        for image in 0..call.images {
            let input = &input[image * self.input.image_len + self.input.first()..];
            let out = &mut out[image * self.output.image_len..];
            for ([from, to], len) in self.input.runs(&self.output) {
                let out = &mut out[to..][..len];
                out.copy_from_slice(&input[from..][..len]);
                if self.relu {
                    out.iter_mut().for_each(|x| *x = x.max(0.0));
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
    relu: bool,
}

impl Prefix {
    pub(super) fn new(plan: &Plan, index: usize, prefix: ops::Prefix, relu: bool) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            tokens: prefix.tokens,
            relu,
        }
    }
}

impl Kernel for Prefix {
    fn run(&self, call: Call<'_>) {
        let (input, out, c) = (call.inputs.f32(0), call.out.f32(), self.output.c);
        for image in 0..call.images {
            let out = &mut out[image * self.output.image_len..][..self.output.row_len()];
            let (zeros, mut rest) = out.split_at_mut(self.tokens * c);
            zeros.fill(0.0);
            for y in 0..self.input.h {
                let to;
                (to, rest) = rest.split_at_mut(self.input.row_len());
                to.copy_from_slice(&input[self.input.row(image, y)]);
                if self.relu {
                    to.iter_mut().for_each(|x| *x = x.max(0.0));
                }
            }
        }
    }
}

/// Pixels as channels, and channels as pixels.
pub(super) struct Transpose {
    input: Layout,
    output: Layout,
    relu: bool,
}

impl Transpose {
    pub(super) fn new(plan: &Plan, index: usize, relu: bool) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            relu,
        }
    }
}

impl Kernel for Transpose {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        let (pixels, c) = (self.output.c, self.input.c);
        for image in 0..call.images {
            let out = &mut out[image * self.output.image_len..];
            let input = &input[image * self.input.image_len + self.input.first()..];
            for pixel in 0..pixels {
                let from = &input[self.input.pixel(pixel)..][..c];
                for (channel, &x) in from.iter().enumerate() {
                    out[channel * pixels + pixel] = if self.relu { x.max(0.0) } else { x };
                }
            }
        }
    }
}
