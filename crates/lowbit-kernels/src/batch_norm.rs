//! Passes over the maps of one image in training: batch-norm (Ioffe & Szegedy 2015), ReLU, 2×2 max-pooling and their
//! gradients.
//!
//! A map is dense, `[h, w, c]`. Since `y = x · scale + shift` is monotonic per channel, a pooling window's winner is known
//! before the scale is: it is the window's largest `x`, or the smallest where the scale will be negative. So the winners
//! are taken while a map is still in cache, and the passes between (normalizing, and gradients up to the winners) touch
//! the pooled maps alone.
//!
//! Sums over pixels run in a fixed order, so that they depend neither on the ISA nor on the number of threads.

use crate::Isa;
use crate::lanes::{LANES, Lanes, each_group, lanewise, load, store};
use crate::vectorize::vectorized;

/// Pixels whose sum is taken in f32 before it goes to f64.
const RUN: usize = 64;

/// Adds `Σ a` to `sums[0]` and `Σ a·b` to `sums[1]`, per channel, over `pixels`; `pair` gives the `a` and `b` of a group of
/// channels from its first element's index and the number of its channels.
#[inline(always)]
fn sums_of(
    pixels: usize,
    channels: usize,
    [first, second]: [&mut [f64]; 2],
    mut pair: impl FnMut(usize, usize, usize) -> [Lanes<f32>; 2],
) {
    each_group(channels, |start, lanes| {
        for run in (0..pixels).step_by(RUN) {
            let (mut sum, mut product) = ([0.0f32; LANES], [0.0f32; LANES]);
            for pixel in run..(run + RUN).min(pixels) {
                let [a, b] = pair(pixel * channels + start, start, lanes);
                for lane in 0..LANES {
                    sum[lane] += a[lane];
                    product[lane] += a[lane] * b[lane];
                }
            }
            for lane in 0..lanes {
                first[start + lane] += f64::from(sum[lane]);
                second[start + lane] += f64::from(product[lane]);
            }
        }
    });
}

/// Adds one map's `Σ(x − pivot)` to `sums[0]` and `Σ(x − pivot)²` to `sums[1]`, per channel. A pivot near the mean keeps
/// the variance from cancelling.
///
/// # Panics
/// If the map is not whole pixels, or the pivots or sums are not one per channel.
pub fn channel_moments(isa: Isa, map: &[f32], pivot: &[f32], sums: [&mut [f64]; 2]) {
    let channels = pivot.len();
    let pixels = map.len() / channels;
    assert_eq!(map.len(), pixels * channels, "whole pixels");
    assert!(
        sums.iter().all(|sum| sum.len() == channels),
        "two sums per channel"
    );
    vectorized!(isa, || {
        sums_of(pixels, channels, sums, |at, start, lanes| {
            let (x, pivot) = (load(map, at, lanes), load(pivot, start, lanes));
            let x = lanewise(|lane| x[lane] - pivot[lane]);
            [x, x]
        });
    });
}

/// What a block does to its map, besides the per-channel scale and shift.
#[derive(Clone, Copy, Debug)]
pub struct MapShape {
    /// Rows of the map.
    pub h: usize,
    /// Columns of the map.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// 2 for 2×2 max-pooling, else 1.
    pub pool: usize,
    /// What becomes of results that are too small or too large.
    pub cut: Cut,
}

/// The bounds between which an activation lets values through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Whether results below zero become zero.
    pub relu: bool,
    /// What larger results become: 6 for ReLU6, infinity where there is none.
    pub ceiling: f32,
}

impl MapShape {
    fn pooled(&self) -> (usize, usize) {
        (self.h / self.pool, self.w / self.pool)
    }

    /// Elements of the map.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Elements after pooling.
    #[must_use]
    pub fn pooled_len(&self) -> usize {
        let (h, w) = self.pooled();
        h * w * self.c
    }
}

/// Finds the maximum of `x · sign` in each 2×2 window of a map (the first one in row-major order): its `x` goes to `peaks`,
/// its position 0..3 to `winners` (both dense and pooled; an odd last row or column is in no window).
///
/// # Panics
/// If the lengths do not fit the shape, or it does not pool.
pub fn pool_peaks(
    isa: Isa,
    shape: &MapShape,
    map: &[f32],
    sign: &[f32],
    peaks: &mut [f32],
    winners: &mut [u8],
) {
    let (h, w) = shape.pooled();
    let (c, row_len) = (shape.c, shape.w * shape.c);
    assert!(
        shape.pool == 2 && map.len() == shape.len(),
        "a map to be pooled"
    );
    assert!(
        peaks.len() == h * w * c && winners.len() == peaks.len(),
        "pooled lengths"
    );
    assert_eq!(sign.len(), c, "a sign per channel");
    vectorized!(isa, || for row in 0..h {
        for column in 0..w {
            let (from, to) = (row * 2 * row_len + column * 2 * c, (row * w + column) * c);
            each_group(c, |start, lanes| {
                let sign = load(sign, start, lanes);
                let mut peak = load(map, from + start, lanes);
                let mut winner = [0u32; LANES];
                for (tap, offset) in [(1, c), (2, row_len), (3, row_len + c)] {
                    let x = load(map, from + offset + start, lanes);
                    for lane in 0..LANES {
                        let better = x[lane] * sign[lane] > peak[lane] * sign[lane];
                        peak[lane] = if better { x[lane] } else { peak[lane] };
                        winner[lane] = if better { tap } else { winner[lane] };
                    }
                }
                store(peaks, to + start, lanes, peak);
                store(
                    winners,
                    to + start,
                    lanes,
                    lanewise(|lane| winner[lane] as u8),
                );
            });
        }
    });
}

impl Cut {
    /// Whether `y` is let through, and its gradient with it: the one definition for both ways.
    #[inline(always)]
    fn passes(self, y: f32) -> bool {
        (!self.relu || y > 0.0) && y < self.ceiling
    }

    /// What becomes of `y`.
    #[inline(always)]
    fn apply(self, y: f32) -> f32 {
        let y = if self.relu && !(y > 0.0) { 0.0 } else { y };
        if y > self.ceiling { self.ceiling } else { y }
    }
}

/// `peaks · scale + shift` within its bounds, where `peaks` is the map itself if nothing is pooled, else its peaks.
///
/// `out` is a view with rows `out_row_stride` apart.
///
/// # Panics
/// If the lengths do not fit the shape.
pub fn normalize(
    isa: Isa,
    shape: &MapShape,
    peaks: &[f32],
    [scale, shift]: [&[f32]; 2],
    out: &mut [f32],
    out_row_stride: usize,
) {
    let c = shape.c;
    let (h, w) = shape.pooled();
    assert_eq!(peaks.len(), h * w * c, "pooled length");
    assert!(
        scale.len() == c && shift.len() == c,
        "a scale and a shift per channel"
    );
    vectorized!(isa, || for row in 0..h {
        for column in 0..w {
            let from = (row * w + column) * c;
            let to = row * out_row_stride + column * c;
            each_group(c, |start, lanes| {
                let (scale, shift) = (load(scale, start, lanes), load(shift, start, lanes));
                let x = load(peaks, from + start, lanes);
                let y = lanewise(|lane| shape.cut.apply(x[lane] * scale[lane] + shift[lane]));
                store(out, to + start, lanes, y);
            });
        }
    });
}

/// Takes the gradient of [`normalize`]'s result back through the bounds, in place, and adds `Σ dy` to `sums[0]` and
/// `Σ dy · (x − pivot)` to `sums[1]`, per channel. All slices are dense and pooled.
///
/// # Panics
/// If the lengths differ or are not whole pixels.
pub fn cut_and_sum(
    isa: Isa,
    cut: Cut,
    grad: &mut [f32],
    peaks: &[f32],
    [scale, shift, pivot]: [&[f32]; 3],
    sums: [&mut [f64]; 2],
) {
    let channels = pivot.len();
    let pixels = grad.len() / channels;
    assert!(
        grad.len() == pixels * channels && peaks.len() == grad.len(),
        "whole pixels"
    );
    assert!(
        scale.len() == channels && shift.len() == channels,
        "a scale and a shift per channel"
    );
    assert!(
        sums.iter().all(|sum| sum.len() == channels),
        "two sums per channel"
    );
    vectorized!(isa, || {
        sums_of(pixels, channels, sums, |at, start, lanes| {
            let (scale, shift) = (load(scale, start, lanes), load(shift, start, lanes));
            let (x, pivot) = (load(peaks, at, lanes), load(pivot, start, lanes));
            let dy = load(grad, at, lanes);
            let dy = lanewise(|lane| {
                let y = x[lane] * scale[lane] + shift[lane];
                if cut.passes(y) { dy[lane] } else { 0.0 }
            });
            store(grad, at, lanes, dy);
            [dy, lanewise(|lane| x[lane] - pivot[lane])]
        });
    });
}

/// The gradient of the map: `dx = a·dy + (b·x + c)` per channel, `dy` being zero but at the winners.
///
/// `grad` is what [`cut_and_sum`] left; `winners` is not read if nothing is pooled. `out` is a view with rows and pixels
/// at the given strides, so that it can lie in a haloed or dilated buffer.
///
/// # Panics
/// If the lengths do not fit the shape.
#[allow(clippy::too_many_arguments)]
pub fn map_gradient(
    isa: Isa,
    shape: &MapShape,
    map: &[f32],
    grad: &[f32],
    winners: &[u8],
    [a, b, c]: [&[f32]; 3],
    out: &mut [f32],
    (row_stride, pixel_stride): (usize, usize),
) {
    let channels = shape.c;
    let (h, w) = shape.pooled();
    assert!(
        map.len() == shape.len() && grad.len() == h * w * channels,
        "the lengths of the map and its gradient"
    );
    assert!(
        shape.pool == 1 || winners.len() == grad.len(),
        "a winner per window"
    );
    assert!(
        [a, b, c].iter().all(|of| of.len() == channels),
        "coefficients per channel"
    );
    let pool = shape.pool;
    vectorized!(isa, || {
        for row in 0..h {
            for column in 0..w {
                let pooled = (row * w + column) * channels;
                each_group(channels, |start, lanes| {
                    let (a, b) = (load(a, start, lanes), load(b, start, lanes));
                    let (c, dy) = (load(c, start, lanes), load(grad, pooled + start, lanes));
                    let dy = lanewise(|lane| a[lane] * dy[lane]);
                    let winner = match pool {
                        1 => [0; LANES],
                        _ => load(winners, pooled + start, lanes),
                    };
                    for tap in 0..pool * pool {
                        let (y, x) = (row * pool + tap / pool, column * pool + tap % pool);
                        let from = (y * shape.w + x) * channels + start;
                        let to = y * row_stride + x * pixel_stride + start;
                        let x = load(map, from, lanes);
                        let dx = lanewise(|lane| {
                            let passed = if winner[lane] == tap as u8 {
                                dy[lane]
                            } else {
                                0.0
                            };
                            passed + (b[lane] * x[lane] + c[lane])
                        });
                        store(out, to, lanes, dx);
                    }
                });
            }
        }
        // An odd last row and column are in no window.
        for y in 0..shape.h {
            let first = if y < h * pool { w * pool } else { 0 };
            for x in first..shape.w {
                each_group(channels, |start, lanes| {
                    let (b, c) = (load(b, start, lanes), load(c, start, lanes));
                    let from = load(map, (y * shape.w + x) * channels + start, lanes);
                    let dx = lanewise(|lane| b[lane] * from[lane] + c[lane]);
                    store(out, y * row_stride + x * pixel_stride + start, lanes, dx);
                });
            }
        }
    });
}

#[cfg(test)]
mod tests;
