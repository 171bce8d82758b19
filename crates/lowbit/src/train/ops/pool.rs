//! Pooling that stands alone, and the mean over height and width.

use super::{Layer, Pass, Place};
use crate::graph::{AvgPool, MaxPool};
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
        let Place { input, output, .. } = self.place;
        self.place.forward(pass, |x, y| {
            let (x, y) = (&x[input.first()..], &mut y[output.first()..]);
            let mut windows = 0usize..;
            self.window.each(&input, &output, |to, pixels| {
                let window = windows.next().expect("they are numbered without end");
                for c in 0..output.c {
                    y[to + c] = match self.kind {
                        Kind::Max => x[Self::winner(x, pixels, c)],
                        Kind::Mean => {
                            let sum: f32 = pixels.iter().map(|pixel| x[pixel + c]).sum();
                            sum / self.counts[window] as f32
                        }
                    };
                }
            });
        });
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place { input, output, .. } = self.place;
        self.place.backward(pass, |x, dy, grad| {
            let x = &x[input.first()..];
            let mut windows = 0usize..;
            self.window.each(&input, &output, |to, pixels| {
                let window = windows.next().expect("they are numbered without end");
                for c in 0..output.c {
                    let dy = dy[dense(&output, to + c)];
                    match self.kind {
                        Kind::Max => grad[dense(&input, Self::winner(x, pixels, c))] += dy,
                        Kind::Mean => {
                            for pixel in pixels {
                                grad[dense(&input, pixel + c)] += dy / self.counts[window] as f32;
                            }
                        }
                    }
                }
            });
        });
    }
}

/// Where an element of a layout lies without halo, both from the image's first pixel.
fn dense(layout: &Layout, at: usize) -> usize {
    at / layout.row_stride * layout.row_len() + at % layout.row_stride
}

pub(super) struct GlobalAvgPool(Place);

impl GlobalAvgPool {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self(Place::new(plan, index))
    }
}

impl Layer for GlobalAvgPool {
    fn forward(&mut self, pass: &mut Pass) {
        let Place { input, output, .. } = self.0;
        let isa = pass.isa;
        self.0.forward(pass, |x, y| {
            let (x, y) = (&x[input.first()..], &mut y[output.row(0, 0)]);
            let (h, w, c) = (input.h, input.w, input.c);
            elementwise::global_avg_pool_f32(isa, x, h, w, c, input.row_stride, y);
        });
    }

    fn backward(&mut self, pass: &mut Pass) {
        let input = self.0.input;
        let scale = 1.0 / (input.h * input.w) as f32;
        self.0.backward(pass, |_, dy, grad| {
            for pixel in grad.chunks_exact_mut(input.c) {
                let pairs = pixel.iter_mut().zip(dy);
                pairs.for_each(|(grad, dy)| *grad += dy * scale);
            }
        });
    }
}
