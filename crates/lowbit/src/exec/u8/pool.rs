//! Pooling: the largest of windows, and the mean of a whole image.

use super::StepParams;
use crate::exec::kernel::{Call, Kernel};
use crate::lower::{Layout, Plan, Window};
use crate::ops::MaxPool;
use crate::quant::{move_to_grid, ratio};
use lowbit_kernels::Isa;
use lowbit_kernels::elementwise::{self, AvgPoolU8};

pub(super) struct Max {
    input: Layout,
    output: Layout,
    window: Window,
    /// From the input's grid to the result's.
    table: [u8; 256],
}

impl Max {
    pub(super) fn new(plan: &Plan, index: usize, pool: &MaxPool, params: StepParams) -> Self {
        let (from, to) = (params.inputs[0], params.output);
        let multiplier = ratio(from, to);
        let level = |q: usize| move_to_grid(q as u8, from, to, multiplier, params.bounds);
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            window: Window {
                kernel: pool.kernel,
                stride: pool.stride,
                padding: pool.padding,
            },
            table: std::array::from_fn(level),
        }
    }
}

impl Kernel for Max {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        let c = self.output.c;
        for image in 0..call.images {
            let input = &input[image * self.input.image_len + self.input.first()..];
            let out = &mut out[image * self.output.image_len..];
            self.window.each(&self.input, &self.output, |to, pixels| {
                let out = &mut out[to..][..c];
                out.fill(0);
                for &from in pixels {
                    for (out, &q) in out.iter_mut().zip(&input[from..][..c]) {
                        *out = q.max(*out);
                    }
                }
                out.iter_mut()
                    .for_each(|q| *q = self.table[usize::from(*q)]);
            });
        }
    }
}

pub(super) struct Global {
    input: Layout,
    output: Layout,
    mean: AvgPoolU8,
    isa: Isa,
}

impl Global {
    pub(super) fn new(plan: &Plan, index: usize, params: &StepParams, isa: Isa) -> Self {
        let input = plan.input(index, 0);
        let (from, to) = (params.inputs[0], params.output);
        let [low, high] = params.bounds;
        Self {
            output: plan.output(index),
            mean: AvgPoolU8 {
                zero_point_in: from.zero_point,
                multiplier: (f64::from(ratio(from, to)) / (input.h * input.w) as f64) as f32,
                zero_point: to.zero_point,
                low,
                high,
            },
            input,
            isa,
        }
    }
}

impl Kernel for Global {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        let (Layout { h, w, c, .. }, from) = (self.input, self.input.first());
        let stride = self.input.row_stride;
        for image in 0..call.images {
            let view = &input[image * self.input.image_len + from..];
            let out = &mut out[image * self.output.image_len..][..c];
            elementwise::global_avg_pool_u8(self.isa, view, h, w, c, stride, &self.mean, out);
        }
    }
}
