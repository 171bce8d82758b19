//! Pooling that stands alone, and the mean over height and width.

use super::{Layer, Pass, Place};
use crate::graph::{AvgPool, MaxPool, Step};
use crate::lower::{Layout, Plan, Window};
use lowbit_kernels::elementwise;

/// What a pool makes of a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Max,
    Mean,
}

pub(super) struct Pool {
    place: Place,
    step: Step,
    window: Window,
    kind: Kind,
    /// Pixels that each window counts, in row order; for a mean.
    counts: Vec<usize>,
}

impl Pool {
    pub(super) fn max(plan: &Plan, index: usize, pool: &MaxPool) -> Self {
        let window = Window {
            kernel: pool.kernel,
            stride: pool.stride,
            padding: pool.padding,
        };
        Self::new(plan, index, window, Kind::Max, Vec::new())
    }

    pub(super) fn mean(plan: &Plan, index: usize, pool: &AvgPool) -> Self {
        let window = Window {
            kernel: pool.kernel,
            stride: pool.stride,
            padding: pool.padding,
        };
        let Place { input, output, .. } = Place::new(plan, index);
        let counts = pool.counts([input.h, input.w], [output.h, output.w]);
        Self::new(plan, index, window, Kind::Mean, counts)
    }

    fn new(plan: &Plan, index: usize, window: Window, kind: Kind, counts: Vec<usize>) -> Self {
        Self {
            place: Place::new(plan, index),
            step: plan.exec.program.steps()[index].clone(),
            window,
            kind,
            counts,
        }
    }

    /// The first of the window's largest pixels.
    fn winner(x: &[f32], pixels: &[usize], c: usize) -> usize {
        let first = pixels[0] + c;
        let taps = pixels[1..].iter().map(|pixel| pixel + c);
        taps.fold(first, |best, at| if x[at] > x[best] { at } else { best })
    }
}

impl Layer for Pool {
    fn forward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (input, output) = (self.place.input, self.place.output);
        let (relu, kind) = (self.step.epilogue.relu, self.kind);
        let count = pass.count;
        let (x, y) = pass.value_pair(from, to);
        for image in 0..count {
            let x = &x[image * input.image_len + input.first()..];
            let y = &mut y[image * output.image_len + output.first()..];
            let mut windows = 0usize..;
            self.window.each(&input, &output, |to, pixels| {
                let window = windows.next().expect("they are numbered without end");
                for c in 0..output.c {
                    let result = match kind {
                        Kind::Max => x[Self::winner(x, pixels, c)],
                        Kind::Mean => {
                            let sum: f32 = pixels.iter().map(|pixel| x[pixel + c]).sum();
                            sum / self.counts[window] as f32
                        }
                    };
                    y[to + c] = if relu { result.max(0.0) } else { result };
                }
            });
        }
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (input, output) = (self.place.input, self.place.output);
        pass.quantize_backward(to);
        let (relu, kind) = (self.step.epilogue.relu, self.kind);
        let (earlier, later) = pass.grads.split_at_mut(to);
        if !std::mem::replace(&mut pass.written[from], true) {
            earlier[from].fill(0.0);
        }
        for image in 0..pass.count {
            let x = &pass.values[from][image * input.image_len + input.first()..];
            let y = &pass.values[to][image * output.image_len + output.first()..];
            let grads = &mut earlier[from][image * input.dense_len()..][..input.dense_len()];
            let dys = &later[0][image * output.dense_len()..][..output.dense_len()];
            let mut windows = 0usize..;
            self.window.each(&input, &output, |to, pixels| {
                let window = windows.next().expect("they are numbered without end");
                for c in 0..output.c {
                    let dy = dys[dense(&output, to + c)];
                    if relu && y[to + c] <= 0.0 {
                        continue;
                    }
                    match kind {
                        Kind::Max => grads[dense(&input, Self::winner(x, pixels, c))] += dy,
                        Kind::Mean => {
                            for pixel in pixels {
                                grads[dense(&input, pixel + c)] += dy / self.counts[window] as f32;
                            }
                        }
                    }
                }
            });
        }
    }
}

/// Where an element of a layout lies without halo, both from the image's first pixel.
fn dense(layout: &Layout, at: usize) -> usize {
    at / layout.row_stride * layout.row_len() + at % layout.row_stride
}

pub(super) struct GlobalAvgPool {
    place: Place,
    step: Step,
}

impl GlobalAvgPool {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            place: Place::new(plan, index),
            step: plan.exec.program.steps()[index].clone(),
        }
    }
}

impl Layer for GlobalAvgPool {
    fn forward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (layout, isa, count) = (self.place.input, pass.isa, pass.count);
        let output = self.place.output;
        let (input, values) = pass.value_pair(from, to);
        for image in 0..count {
            let view = &input[image * layout.image_len + layout.first()..];
            let out = &mut values[output.row(image, 0)];
            let (h, w, c) = (layout.h, layout.w, layout.c);
            elementwise::global_avg_pool_f32(isa, view, h, w, c, layout.row_stride, out);
            if self.step.epilogue.relu {
                out.iter_mut().for_each(|x| *x = x.max(0.0));
            }
        }
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place { from, to, .. } = self.place;
        let (layout, output) = (self.place.input, self.place.output);
        pass.quantize_backward(to);
        let scale = 1.0 / (layout.h * layout.w) as f32;
        let accumulate = std::mem::replace(&mut pass.written[from], true);
        let (earlier, later) = pass.grads.split_at_mut(to);
        let c = layout.c;
        for image in 0..pass.count {
            let dy = &later[0][image * c..][..c];
            let y = &pass.values[to][output.row(image, 0)];
            let grads = &mut earlier[from][image * layout.dense_len()..][..layout.dense_len()];
            for pixel in grads.chunks_exact_mut(c) {
                for ((grad, &dy), &y) in pixel.iter_mut().zip(dy).zip(y) {
                    let passed = if self.step.epilogue.relu && y <= 0.0 {
                        0.0
                    } else {
                        dy * scale
                    };
                    *grad = if accumulate { *grad + passed } else { passed };
                }
            }
        }
    }
}
