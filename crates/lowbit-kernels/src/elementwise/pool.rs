//! Global average pooling.

use super::level;
use crate::Isa;
use crate::vectorize::vectorized;

/// The mean of a quantized map: `clamp(round_ties_even(Σ(x − zero_point_in) · multiplier) + zero_point, low, high)`.
#[derive(Clone, Copy, Debug)]
pub struct AvgPoolU8 {
    /// The input's zero point.
    pub zero_point_in: u8,
    /// Scale of the sum in output steps: input scale over output scale and number of pixels.
    pub multiplier: f32,
    /// The result's zero point.
    pub zero_point: u8,
    /// Lowest result.
    pub low: u8,
    /// Highest result.
    pub high: u8,
}

/// Averages an `[h, w, c]` view over its pixels.
///
/// # Panics
/// If the view does not hold that many pixels, or `out` is not `c` long.
#[allow(clippy::too_many_arguments)]
pub fn global_avg_pool_u8(
    isa: Isa,
    input: &[u8],
    h: usize,
    w: usize,
    c: usize,
    row_stride: usize,
    mean: &AvgPoolU8,
    out: &mut [u8],
) {
    assert_eq!(out.len(), c, "one result per channel");
    let offset = (h * w) as i32 * i32::from(mean.zero_point_in);
    let (low, high) = (f32::from(mean.low), f32::from(mean.high));
    vectorized!(isa, || {
        let mut sums = vec![0i32; c];
        for row in 0..h {
            for pixel in input[row * row_stride..][..w * c].chunks_exact(c) {
                for (sum, &x) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(x);
                }
            }
        }
        for (q, sum) in out.iter_mut().zip(sums) {
            let real = (sum - offset) as f32 * mean.multiplier;
            *q = level(
                real.round_ties_even() + f32::from(mean.zero_point),
                low,
                high,
            )
            .1;
        }
    });
}

/// Averages an `[h, w, c]` view over its pixels: sums in the order of the pixels, then one division.
///
/// # Panics
/// If the view does not hold that many pixels, or `out` is not `c` long.
pub fn global_avg_pool_f32(
    isa: Isa,
    input: &[f32],
    h: usize,
    w: usize,
    c: usize,
    row_stride: usize,
    out: &mut [f32],
) {
    assert_eq!(out.len(), c, "one result per channel");
    vectorized!(isa, || {
        out.fill(0.0);
        for row in 0..h {
            for pixel in input[row * row_stride..][..w * c].chunks_exact(c) {
                for (sum, &x) in out.iter_mut().zip(pixel) {
                    *sum += x;
                }
            }
        }
        for mean in out.iter_mut() {
            *mean /= (h * w) as f32;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isa_gives_the_portable_bytes() {
        let x: Vec<u8> = (0..1000).map(|i| (i * 37 % 256) as u8).collect();
        let mean = AvgPoolU8 {
            zero_point_in: 3,
            multiplier: 0.01,
            zero_point: 7,
            low: 0,
            high: 255,
        };
        let run = |isa| {
            let mut pooled = vec![0; 10];
            global_avg_pool_u8(isa, &x, 10, 10, 10, 100, &mean, &mut pooled);
            pooled
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::PORTABLE), "{isa}");
        }
    }
}
