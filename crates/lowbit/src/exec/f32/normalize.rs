//! What each pixel's channels do together; sums in f64.

use crate::exec::kernel::{Call, Kernel, out_row};
use crate::lower::{Layout, Plan};

/// A function of each pixel's channels, which takes the pixels of a row.
pub(super) struct PerPixel<F> {
    input: Layout,
    output: Layout,
    relu: bool,
    function: F,
}

impl<F: Fn(&[f32], &mut [f32])> PerPixel<F> {
    pub(super) fn new(plan: &Plan, index: usize, function: F) -> Self {
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            relu: layer.epilogue.relu,
            function,
        }
    }
}

impl<F: Fn(&[f32], &mut [f32]) + Send + Sync> Kernel for PerPixel<F> {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        for image in 0..call.images {
            for y in 0..self.output.h {
                let to = &mut out[out_row(&self.output, image, y)];
                (self.function)(&input[self.input.row(image, y)], to);
                if self.relu {
                    to.iter_mut().for_each(|x| *x = x.max(0.0));
                }
            }
        }
    }
}

/// `exp(x − max) / Σ exp(x − max)`.
pub(crate) fn softmax(x: &[f32], y: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |x: f32| (f64::from(x) - f64::from(largest)).exp();
    let mut sum = 0.0;
    for (y, &x) in y.iter_mut().zip(x) {
        let e = exp(x);
        sum += e;
        *y = e as f32;
    }
    y.iter_mut().for_each(|y| *y = (f64::from(*y) / sum) as f32);
}
