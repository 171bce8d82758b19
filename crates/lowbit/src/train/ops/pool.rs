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
}

/// Channels that are handled at a time, in registers.
const LANES: usize = 16;

/// The largest values of a window, channel by channel, and which of its pixels each is: the first of those.
fn peaks(x: &[f32], pixels: &[usize], largest: &mut [f32], winners: &mut [u32]) {
    let groups = largest.chunks_mut(LANES).zip(winners.chunks_mut(LANES));
    for (first, (largest, winners)) in (0..).step_by(LANES).zip(groups) {
        let len = largest.len();
        let (mut best, mut winner) = ([f32::NAN; LANES], [0; LANES]);
        best[..len].copy_from_slice(&x[pixels[0] + first..][..len]);
        for (number, &pixel) in (0u32..).zip(pixels).skip(1) {
            let mut values = [f32::NAN; LANES];
            match x[pixel + first..][..len].try_into() {
                Ok(all) => values = all,
                Err(_) => values[..len].copy_from_slice(&x[pixel + first..][..len]),
            }
            for lane in 0..LANES {
                let is_larger = values[lane] > best[lane];
                best[lane] = if is_larger { values[lane] } else { best[lane] };
                winner[lane] = if is_larger { number } else { winner[lane] };
            }
        }
        largest.copy_from_slice(&best[..len]);
        winners.copy_from_slice(&winner[..len]);
    }
}

impl Layer for Pool {
    fn forward(&mut self, pass: &mut Pass) {
        let Place { input, output, .. } = self.place;
        self.place.forward(pass, |x, y| {
            let (x, y) = (&x[input.first()..], &mut y[output.first()..]);
            let mut winners = vec![0; output.c];
            let mut windows = 0usize..;
            self.window.each(&input, &output, |to, pixels| {
                let window = windows.next().expect("they are numbered without end");
                let y = &mut y[to..][..output.c];
                match self.kind {
                    Kind::Max => peaks(x, pixels, y, &mut winners),
                    Kind::Mean => {
                        y.fill(0.0);
                        for &pixel in pixels {
                            y.iter_mut().zip(&x[pixel..]).for_each(|(y, x)| *y += x);
                        }
                        let count = self.counts[window] as f32;
                        y.iter_mut().for_each(|y| *y /= count);
                    }
                }
            });
        });
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place { input, output, .. } = self.place;
        self.place.backward(pass, |x, dy, grad| {
            let x = &x[input.first()..];
            let (mut largest, mut winners) = (vec![0.0; output.c], vec![0u32; output.c]);
            let mut windows = 0usize..;
            let mut dense_pixels = Vec::new();
            self.window.each(&input, &output, |to, pixels| {
                let window = windows.next().expect("they are numbered without end");
                let dy = &dy[dense(&output, to)..][..output.c];
                dense_pixels.clear();
                dense_pixels.extend(pixels.iter().map(|&pixel| dense(&input, pixel)));
                match self.kind {
                    Kind::Max => {
                        peaks(x, pixels, &mut largest, &mut winners);
                        for (c, (&winner, dy)) in winners.iter().zip(dy).enumerate() {
                            grad[dense_pixels[winner as usize] + c] += dy;
                        }
                    }
                    Kind::Mean => {
                        let count = self.counts[window] as f32;
                        for &pixel in &dense_pixels {
                            let pairs = grad[pixel..].iter_mut().zip(dy);
                            pairs.for_each(|(grad, dy)| *grad += dy / count);
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
