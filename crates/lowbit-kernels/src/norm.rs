//! Passes over the maps of one image in training: batch-norm (Ioffe & Szegedy 2015), ReLU, 2×2 max-pooling and their
//! gradients, each fused into one pass.
//!
//! A map is dense, `[h, w, c]`; sums over its pixels run in a fixed order, so that they depend neither on the ISA nor on
//! the number of threads.

use crate::Isa;
use crate::vectorize::vectorized;

/// Winner of a pooling window that passes no gradient, because the ReLU cut it.
pub const CUT: u8 = 4;

/// Channels that are summed at a time.
const LANES: usize = 16;

/// Pixels whose sum is taken in f32 before it goes to f64.
const RUN: usize = 64;

/// Adds `Σ a` to `sums[0]` and `Σ a·b` to `sums[1]`, per channel, over `[pixels, channels]` maps.
fn sums_of(
    a: impl Fn(usize) -> f32,
    b: impl Fn(usize) -> f32,
    pixels: usize,
    channels: usize,
    sums: [&mut [f64]; 2],
) {
    let [first, second] = sums;
    for start in (0..channels).step_by(LANES) {
        let lanes = (channels - start).min(LANES);
        for run in (0..pixels).step_by(RUN) {
            let (mut sum, mut product) = ([0.0f32; LANES], [0.0f32; LANES]);
            for pixel in run..(run + RUN).min(pixels) {
                let at = pixel * channels + start;
                if lanes == LANES {
                    for lane in 0..LANES {
                        let x = a(at + lane);
                        sum[lane] += x;
                        product[lane] += x * b(at + lane);
                    }
                } else {
                    for lane in 0..lanes {
                        let x = a(at + lane);
                        sum[lane] += x;
                        product[lane] += x * b(at + lane);
                    }
                }
            }
            for lane in 0..lanes {
                first[start + lane] += f64::from(sum[lane]);
                second[start + lane] += f64::from(product[lane]);
            }
        }
    }
}

/// Adds one map's Σx and Σx² per channel.
///
/// # Panics
/// If the map is not whole pixels or the sums are not one per channel.
pub fn channel_moments(
    isa: Isa,
    map: &[f32],
    channels: usize,
    sum: &mut [f64],
    sum_of_squares: &mut [f64],
) {
    let pixels = map.len() / channels;
    assert!(
        map.len() == pixels * channels && sum.len() == channels && sum_of_squares.len() == channels
    );
    vectorized!(isa, || {
        let map = &map[..pixels * channels];
        sums_of(
            |at| map[at],
            |at| map[at],
            pixels,
            channels,
            [sum, sum_of_squares],
        );
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
    /// Whether results below zero are cut.
    pub relu: bool,
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

/// `pool(relu(map · scale + shift))`, and what the way back needs.
///
/// `out` is a view with rows `out_row_stride` apart. `winners` and `peaks` (dense, pooled) get the position 0..3 of each
/// window's maximum (the first one in row-major order; [`CUT`] where the ReLU cut it) and the map's value there.
///
/// # Panics
/// If the lengths do not fit the shape.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    isa: Isa,
    shape: &MapShape,
    map: &[f32],
    scale: &[f32],
    shift: &[f32],
    out: &mut [f32],
    out_row_stride: usize,
    winners: &mut [u8],
    peaks: &mut [f32],
) {
    let c = shape.c;
    let (h, w) = shape.pooled();
    assert!(map.len() == shape.len() && winners.len() == h * w * c && peaks.len() == h * w * c);
    assert!(
        scale.len() == c && shift.len() == c,
        "a scale and a shift per channel"
    );
    let row_len = shape.w * c;
    vectorized!(isa, || for row in 0..h {
        for column in 0..w {
            let at = (row * w + column) * c;
            let out = &mut out[row * out_row_stride + column * c..][..c];
            let (winners, peaks) = (&mut winners[at..][..c], &mut peaks[at..][..c]);
            let first = (row * shape.w + column) * shape.pool * c;
            let first = if shape.pool == 1 { at } else { first };
            // The window's pixels; without pooling, one pixel four times.
            let taps = match shape.pool {
                1 => [first; 4],
                _ => [first, first + c, first + row_len, first + row_len + c],
            };
            let mut start = 0;
            while start + LANES <= c {
                forward_lanes::<LANES>(shape, map, taps, scale, shift, start, out, winners, peaks);
                start += LANES;
            }
            while start < c {
                forward_lanes::<1>(shape, map, taps, scale, shift, start, out, winners, peaks);
                start += 1;
            }
        }
    });
}

/// `N` channels of one window of [`forward`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn forward_lanes<const N: usize>(
    shape: &MapShape,
    map: &[f32],
    taps: [usize; 4],
    scale: &[f32],
    shift: &[f32],
    start: usize,
    out: &mut [f32],
    winners: &mut [u8],
    peaks: &mut [f32],
) {
    let (scale, shift) = (lanes::<N>(scale, start), lanes::<N>(shift, start));
    let mut peak = *lanes::<N>(map, taps[0] + start);
    let mut best: [f32; N] = std::array::from_fn(|i| peak[i] * scale[i] + shift[i]);
    let mut winner = [0i32; N];
    if shape.pool == 2 {
        for tap in 1..4 {
            let x = lanes::<N>(map, taps[tap] + start);
            for i in 0..N {
                let y = x[i] * scale[i] + shift[i];
                let better = y > best[i];
                best[i] = if better { y } else { best[i] };
                peak[i] = if better { x[i] } else { peak[i] };
                winner[i] = if better { tap as i32 } else { winner[i] };
            }
        }
    }
    if shape.relu {
        for i in 0..N {
            let cut = best[i] <= 0.0;
            best[i] = if cut { 0.0 } else { best[i] };
            winner[i] = if cut { i32::from(CUT) } else { winner[i] };
        }
    }
    out[start..][..N].copy_from_slice(&best);
    peaks[start..][..N].copy_from_slice(&peak);
    for (to, from) in winners[start..][..N].iter_mut().zip(winner) {
        *to = from as u8;
    }
}

/// `N` elements as an array, whose loops the compiler unrolls.
#[inline(always)]
fn lanes<const N: usize>(slice: &[f32], start: usize) -> &[f32; N] {
    slice[start..][..N]
        .try_into()
        .expect("the slice has N elements")
}

/// Adds `Σ dy` and `Σ dy · x` per channel, where `dy` is the gradient of the scaled and shifted map: zero but at the
/// winners. All slices are dense and pooled.
///
/// # Panics
/// If the lengths differ or are not whole pixels.
pub fn gradient_sums(
    isa: Isa,
    grad_out: &[f32],
    winners: &[u8],
    peaks: &[f32],
    sum: &mut [f64],
    sum_of_products: &mut [f64],
) {
    let channels = sum.len();
    let pixels = grad_out.len() / channels;
    assert!(winners.len() == grad_out.len() && peaks.len() == grad_out.len());
    vectorized!(isa, || {
        let passed = |at: usize| {
            if winners[at] == CUT {
                0.0
            } else {
                grad_out[at]
            }
        };
        sums_of(
            passed,
            |at| peaks[at],
            pixels,
            channels,
            [sum, sum_of_products],
        );
    });
}

/// The gradient of the map: `dx = a·dy + (b·x + c)` per channel, `dy` being zero but at the winners.
///
/// `out` is a view with rows and pixels at the given strides, so that it can lie in a haloed or dilated buffer.
///
/// # Panics
/// If the lengths do not fit the shape.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    isa: Isa,
    shape: &MapShape,
    map: &[f32],
    grad_out: &[f32],
    winners: &[u8],
    [a, b, c]: [&[f32]; 3],
    out: &mut [f32],
    (out_row_stride, out_pixel_stride): (usize, usize),
) {
    let channels = shape.c;
    let (h, w) = shape.pooled();
    assert!(map.len() == shape.len() && grad_out.len() == h * w * channels);
    assert!(winners.len() == grad_out.len() && a.len() == channels);
    assert!(
        b.len() == channels && c.len() == channels,
        "coefficients per channel"
    );
    let window = shape.pool;
    vectorized!(isa, || {
        for row in 0..h {
            for column in 0..w {
                let at = (row * w + column) * channels;
                let dy = &grad_out[at..][..channels];
                let winners = &winners[at..][..channels];
                for tap in 0..window * window {
                    let (y, x) = (row * window + tap / window, column * window + tap % window);
                    let from = &map[(y * shape.w + x) * channels..][..channels];
                    let to = &mut out[y * out_row_stride + x * out_pixel_stride..][..channels];
                    let mut start = 0;
                    while start + LANES <= channels {
                        backward_lanes::<LANES>(tap as u8, start, dy, winners, from, [a, b, c], to);
                        start += LANES;
                    }
                    while start < channels {
                        backward_lanes::<1>(tap as u8, start, dy, winners, from, [a, b, c], to);
                        start += 1;
                    }
                }
            }
        }
        // What pooling dropped has a gradient through the statistics alone.
        for row in 0..shape.h {
            let dropped = if row < h * window { w * window } else { 0 };
            for column in dropped..shape.w {
                let x = &map[(row * shape.w + column) * channels..][..channels];
                let out = &mut out[row * out_row_stride + column * out_pixel_stride..][..channels];
                for i in 0..channels {
                    out[i] = b[i] * x[i] + c[i];
                }
            }
        }
    });
}

/// `N` channels of one pixel of [`backward`].
#[inline(always)]
fn backward_lanes<const N: usize>(
    tap: u8,
    start: usize,
    dy: &[f32],
    winners: &[u8],
    x: &[f32],
    [a, b, c]: [&[f32]; 3],
    out: &mut [f32],
) {
    let (dy, x) = (lanes::<N>(dy, start), lanes::<N>(x, start));
    let (a, b, c) = (
        lanes::<N>(a, start),
        lanes::<N>(b, start),
        lanes::<N>(c, start),
    );
    let winners: &[u8; N] = winners[start..][..N]
        .try_into()
        .expect("the slice has N elements");
    let out: &mut [f32; N] = (&mut out[start..][..N])
        .try_into()
        .expect("the slice has N elements");
    for i in 0..N {
        let passed = if winners[i] == tap { dy[i] } else { 0.0 };
        out[i] = a[i] * passed + (b[i] * x[i] + c[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_maximum_of_a_window_wins_and_the_relu_cuts() {
        let shape = MapShape {
            h: 3,
            w: 4,
            c: 1,
            pool: 2,
            relu: true,
        };
        let map = [
            1.0, 3.0, -1.0, -2.0, 3.0, 3.0, -5.0, -1.0, 9.0, 9.0, 9.0, 9.0,
        ];
        for isa in Isa::available() {
            let (mut out, mut winners, mut peaks) = ([9.0; 2], [9; 2], [9.0; 2]);
            forward(
                isa,
                &shape,
                &map,
                &[2.0],
                &[1.0],
                &mut out,
                2,
                &mut winners,
                &mut peaks,
            );
            assert_eq!((out, winners, peaks), ([7.0, 0.0], [1, CUT], [3.0, -1.0]));
            let mut grad = [9.0; 12];
            let coefficients: [&[f32]; 3] = [&[10.0], &[0.0], &[0.5]];
            backward(
                isa,
                &shape,
                &map,
                &[1.0, 1.0],
                &winners,
                coefficients,
                &mut grad,
                (4, 1),
            );
            let mut expected = [0.5; 12];
            expected[1] = 10.5;
            assert_eq!(grad, expected);
        }
    }

    #[test]
    fn sums_do_not_depend_on_the_isa() {
        let channels = 37;
        let map: Vec<f32> = (0..channels * 131)
            .map(|i| ((i * 7919) % 1000) as f32 * 0.01 - 4.0)
            .collect();
        let winners: Vec<u8> = (0..map.len()).map(|i| (i % 5) as u8).collect();
        let run = |isa| {
            let mut sums = vec![vec![0.5f64; channels]; 4];
            let [a, b, c, d] = &mut sums[..] else {
                unreachable!()
            };
            channel_moments(isa, &map, channels, a, b);
            gradient_sums(isa, &map, &winners, &map, c, d);
            sums
        };
        let expected = run(Isa::Portable);
        let naive: f64 = map
            .iter()
            .skip(3)
            .step_by(channels)
            .map(|&x| f64::from(x))
            .sum();
        assert!((expected[0][3] - 0.5 - naive).abs() < 1e-3);
        for isa in Isa::available() {
            assert_eq!(run(isa), expected, "{isa}");
        }
    }
}
