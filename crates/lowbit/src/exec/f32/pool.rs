//! Pooling: plain loops over windows, and the mean of a whole image.

use crate::exec::kernel::{Call, Kernel};
use crate::lower::{Layout, Plan, Window};
use crate::ops::AvgPool;
use lowbit_kernels::{Isa, elementwise};

pub(super) struct Windows {
    input: Layout,
    output: Layout,
    window: Window,
    relu: bool,
}

impl Windows {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        (kernel, stride, padding): ([usize; 2], [usize; 2], [usize; 4]),
        relu: bool,
    ) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            window: Window {
                kernel,
                stride,
                padding,
            },
            relu,
        }
    }

    /// Folds the pixels of each window, channel by channel, and finishes with the window's number in row order.
    fn run(
        &self,
        call: Call<'_>,
        start: f32,
        fold: impl Fn(f32, f32) -> f32,
        finish: impl Fn(f32, usize) -> f32,
    ) {
        let width = self.output.w;
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        let c = self.output.c;
        for image in 0..call.images {
            let input = &input[image * self.input.image_len + self.input.first()..];
            let out = &mut out[image * self.output.image_len..];
            self.window.each(&self.input, &self.output, |to, pixels| {
                let out = &mut out[to..][..c];
                out.fill(start);
                for &from in pixels {
                    for (out, &x) in out.iter_mut().zip(&input[from..][..c]) {
                        *out = fold(*out, x);
                    }
                }
                let (row, column) = (to / self.output.row_stride, to % self.output.row_stride);
                let window = row * width + column / c;
                for out in out {
                    let result = finish(*out, window);
                    *out = if self.relu { result.max(0.0) } else { result };
                }
            });
        }
    }
}

pub(super) struct Max(pub(super) Windows);

impl Kernel for Max {
    fn run(&self, call: Call<'_>) {
        let larger = |best: f32, x: f32| x.max(best);
        self.0.run(call, f32::NEG_INFINITY, larger, |best, _| best);
    }
}

pub(super) struct Mean {
    windows: Windows,
    /// Pixels that each window counts, in row order.
    counts: Vec<usize>,
}

impl Mean {
    pub(super) fn new(plan: &Plan, index: usize, pool: &AvgPool, relu: bool) -> Self {
        let windows = (pool.kernel, pool.stride, pool.padding);
        let (input, output) = (plan.input(index, 0), plan.output(index));
        Self {
            windows: Windows::new(plan, index, windows, relu),
            counts: pool.counts([input.h, input.w], [output.h, output.w]),
        }
    }
}

impl Kernel for Mean {
    fn run(&self, call: Call<'_>) {
        let mean = |sum: f32, window: usize| sum / self.counts[window] as f32;
        self.windows.run(call, 0.0, |sum, x| sum + x, mean);
    }
}

pub(super) struct Global {
    input: Layout,
    output: Layout,
    relu: bool,
    isa: Isa,
}

impl Global {
    pub(super) fn new(plan: &Plan, index: usize, relu: bool, isa: Isa) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            relu,
            isa,
        }
    }
}

impl Kernel for Global {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        let (Layout { h, w, c, .. }, from) = (self.input, self.input.first());
        for image in 0..call.images {
            let view = &input[image * self.input.image_len + from..];
            let out = &mut out[image * self.output.image_len..][..c];
            elementwise::global_avg_pool_f32(self.isa, view, h, w, c, self.input.row_stride, out);
            if self.relu {
                out.iter_mut().for_each(|x| *x = x.max(0.0));
            }
        }
    }
}
