//! Pooling: the largest and the mean of windows, and the mean of a whole image.

use super::StepParams;
use crate::exec::kernel::{Call, Kernel};
use crate::lower::{Layout, Plan, Window};
use crate::ops::{AvgPool, MaxPool};
use crate::quant::Arithmetic;
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
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            window: Window {
                kernel: pool.kernel,
                stride: pool.stride,
                padding: pool.padding,
            },
            table: params.moved(0),
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

pub(super) struct Mean {
    input: Layout,
    output: Layout,
    window: Window,
    means: Means,
    zero_point: u8,
    bounds: [u8; 2],
}

/// The two definitions of a mean.
enum Means {
    /// Sums of integers, multiplied by a number for each window in row order.
    OfIntegers {
        zero_point_in: i32,
        multipliers: Vec<f32>,
    },
    /// Sums of what the integers stand for, divided by the count of each window, then by the result's step; the zero point is
    /// added before that is rounded: as ONNX Runtime does, which matters where means lie in the middle of two levels.
    OfReals {
        reals: Box<[f32; 256]>,
        counts: Vec<usize>,
        step: f32,
    },
}

impl Mean {
    pub(super) fn new(plan: &Plan, index: usize, pool: &AvgPool, params: &StepParams) -> Self {
        let (input, output) = (plan.input(index, 0), plan.output(index));
        let (from, to) = (params.inputs[0], params.output);
        let counts = pool.counts([input.h, input.w], [output.h, output.w]);
        let multiplier = |&count: &usize| params.arithmetic.mean_ratio(from, to, count);
        let real = |q: usize| (q as f32 - f32::from(from.zero_point)) * from.scale;
        let means = match params.arithmetic {
            Arithmetic::RealBias => Means::OfIntegers {
                zero_point_in: i32::from(from.zero_point),
                multipliers: counts.iter().map(multiplier).collect(),
            },
            Arithmetic::IntegerBias => Means::OfReals {
                reals: Box::new(std::array::from_fn(real)),
                counts,
                step: to.scale,
            },
        };
        Self {
            input,
            output,
            window: Window {
                kernel: pool.kernel,
                stride: pool.stride,
                padding: pool.padding,
            },
            means,
            zero_point: to.zero_point,
            bounds: params.bounds,
        }
    }
}

impl Kernel for Mean {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        for image in 0..call.images {
            let input = &input[image * self.input.image_len + self.input.first()..];
            let out = &mut out[image * self.output.image_len..];
            match &self.means {
                Means::OfIntegers {
                    zero_point_in,
                    multipliers,
                } => self.of_integers(*zero_point_in, multipliers, input, out),
                Means::OfReals {
                    reals,
                    counts,
                    step,
                } => self.of_reals(reals, counts, *step, input, out),
            }
        }
    }
}

impl Mean {
    fn of_integers(&self, zero: i32, multipliers: &[f32], input: &[u8], out: &mut [u8]) {
        let c = self.output.c;
        let [low, high] = self.bounds.map(f32::from);
        let mut sums = vec![0i32; c];
        let mut multipliers = multipliers.iter();
        self.window.each(&self.input, &self.output, |to, pixels| {
            sums.fill(-(pixels.len() as i32) * zero);
            for &from in pixels {
                for (sum, &q) in sums.iter_mut().zip(&input[from..][..c]) {
                    *sum += i32::from(q);
                }
            }
            let multiplier = multipliers.next().expect("there is one for each window");
            for (q, &sum) in out[to..][..c].iter_mut().zip(&sums) {
                let mean = (sum as f32 * multiplier).round_ties_even();
                *q = (mean + f32::from(self.zero_point)).clamp(low, high) as u8;
            }
        });
    }

    fn of_reals(
        &self,
        reals: &[f32; 256],
        counts: &[usize],
        step: f32,
        input: &[u8],
        out: &mut [u8],
    ) {
        let c = self.output.c;
        let [low, high] = self.bounds.map(f32::from);
        let zero_point = f32::from(self.zero_point);
        let mut sums = vec![0.0f32; c];
        let mut counts = counts.iter();
        self.window.each(&self.input, &self.output, |to, pixels| {
            sums.fill(0.0);
            for &from in pixels {
                for (sum, &q) in sums.iter_mut().zip(&input[from..][..c]) {
                    *sum += reals[usize::from(q)];
                }
            }
            let count = *counts.next().expect("there is one for each window") as f32;
            for (q, &sum) in out[to..][..c].iter_mut().zip(&sums) {
                let level = (sum / count / step + zero_point).round_ties_even();
                *q = level.clamp(low, high) as u8;
            }
        });
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
                multiplier: params.arithmetic.mean_ratio(from, to, input.h * input.w),
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
