//! Products of two values, the second of which may be one number per channel (`[n, h, w, c]` times `[1, 1, c]`).

use super::ROUNDING;
use crate::Isa;
use crate::vectorize::vectorized;

/// The product of two quantized values:
/// `clamp(round_ties_even((a − zero_point_a) · (b − zero_point_b) · multiplier) + zero_point, low, high)`, where the product
/// of the two differences is exact and that with the multiplier is rounded once, to f32.
#[derive(Clone, Copy, Debug)]
pub struct MulU8 {
    /// Zero point of the first operand.
    pub zero_point_a: u8,
    /// Zero point of the second operand.
    pub zero_point_b: u8,
    /// Scale of the product in output steps: `scale_a · scale_b / scale_out`.
    pub multiplier: f32,
    /// The result's zero point.
    pub zero_point: u8,
    /// Lowest result; the zero point where a ReLU is fused.
    pub low: u8,
    /// Highest result.
    pub high: u8,
}

impl MulU8 {
    /// The definition, for one pair; NaN becomes `low`.
    #[must_use]
    pub fn apply(&self, a: u8, b: u8) -> u8 {
        let a = i32::from(a) - i32::from(self.zero_point_a);
        let b = i32::from(b) - i32::from(self.zero_point_b);
        let level =
            ((a * b) as f32 * self.multiplier).round_ties_even() + f32::from(self.zero_point);
        level.max(f32::from(self.low)).min(f32::from(self.high)) as u8
    }
}

/// Whether `b` is as long as `a` or divides it: one pixel's channels, by which each pixel of `a` is multiplied.
fn check_lengths(a: usize, b: usize, out: usize) {
    assert_eq!(a, out, "one result per value");
    assert!(
        if b == 0 { a == 0 } else { a.is_multiple_of(b) },
        "as many second values as first ones, or one per channel"
    );
}

/// Multiplies u8 slices as `product` says; `b` is as long as `a`, or holds one value per channel (`[c]` for an `a` of
/// `[n, h, w, c]`).
///
/// # Panics
/// If `out` is not as long as `a`, or the length of `a` no multiple of that of `b`.
pub fn mul_u8(isa: Isa, a: &[u8], b: &[u8], product: &MulU8, out: &mut [u8]) {
    check_lengths(a.len(), b.len(), out.len());
    let (zero_a, zero_b) = (
        f32::from(product.zero_point_a),
        f32::from(product.zero_point_b),
    );
    let from_zero = |level: u8| f32::from(level) - f32::from(product.zero_point);
    let (low, high) = (from_zero(product.low), from_zero(product.high));
    let pixel = b.len().max(1);
    vectorized!(isa, || {
        for (out, a) in out.chunks_mut(pixel).zip(a.chunks(pixel)) {
            for ((q, &a), &b) in out.iter_mut().zip(a).zip(b) {
                // At most 255², which f32 holds exactly.
                let exact = (f32::from(a) - zero_a) * (f32::from(b) - zero_b);
                let real = exact * product.multiplier;
                // As in `add_u8`: between whole bounds, rounding after the cut is rounding before it.
                let cut = if real > low { real } else { low };
                let cut = if cut < high { cut } else { high };
                *q = ((cut + ROUNDING).to_bits() as u8).wrapping_add(product.zero_point);
            }
        }
    });
}

/// `out = a · b`; `b` is as long as `a`, or holds one value per channel.
///
/// # Panics
/// As [`mul_u8`].
pub fn mul_f32(isa: Isa, a: &[f32], b: &[f32], out: &mut [f32]) {
    check_lengths(a.len(), b.len(), out.len());
    let pixel = b.len().max(1);
    vectorized!(isa, || {
        for (out, a) in out.chunks_mut(pixel).zip(a.chunks(pixel)) {
            for ((product, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *product = a * b;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{below, stream, uniform};

    const MULTIPLIERS: [f32; 7] = [0.004, 0.5, 1.0, 1e-6, -0.01, f32::MAX, f32::NAN];

    #[test]
    fn every_isa_gives_the_defined_products_whole_and_per_channel() {
        let mut rng = stream(42, "mul", 0);
        for (pixels, channels) in [(1, 1), (7, 1), (1, 33), (5, 3), (9, 16), (4, 67), (0, 5)] {
            let mut values =
                |len: usize| -> Vec<u8> { (0..len).map(|_| below(&mut rng, 256) as u8).collect() };
            let (a, whole, per_channel) = (
                values(pixels * channels),
                values(pixels * channels),
                values(channels),
            );
            for (case, &multiplier) in MULTIPLIERS.iter().enumerate() {
                let product = MulU8 {
                    zero_point_a: [0, 128, 255][case % 3],
                    zero_point_b: [3, 0, 200][case % 3],
                    multiplier,
                    zero_point: [0, 17, 255][case % 3],
                    low: [0, 17, 3][case % 3],
                    high: [255, 250, 255][case % 3],
                };
                for b in [&whole, &per_channel] {
                    let pairs = a.iter().zip(b.iter().cycle());
                    let expected: Vec<u8> = pairs.map(|(&a, &b)| product.apply(a, b)).collect();
                    for isa in Isa::available() {
                        let mut out = vec![1; a.len()];
                        mul_u8(isa, &a, b, &product, &mut out);
                        assert_eq!(out, expected, "{isa}, {pixels}×{channels}, {product:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_pair_of_levels_gives_the_defined_product() {
        let product = MulU8 {
            zero_point_a: 128,
            zero_point_b: 7,
            multiplier: 1.0 / 128.0,
            zero_point: 100,
            low: 0,
            high: 255,
        };
        let a: Vec<u8> = (0..=255).collect();
        for b in 0..=255 {
            let mut out = [0; 256];
            mul_u8(Isa::best(), &a, &[b], &product, &mut out);
            for (&a, &q) in a.iter().zip(&out) {
                // By whole numbers: the multiplier is a power of two, ties go to even.
                let exact = (i32::from(a) - 128) * (i32::from(b) - 7);
                let (below, rest) = (exact.div_euclid(128), exact.rem_euclid(128));
                let up = rest > 64 || (rest == 64 && below % 2 != 0);
                let level = below + i32::from(up) + 100;
                assert_eq!(i32::from(q), level.clamp(0, 255), "{a} · {b}");
            }
        }
    }

    #[test]
    fn floats_are_multiplied_whole_and_per_channel() {
        let mut rng = stream(43, "mul", 0);
        let mut values = |len: usize| -> Vec<f32> { (0..len).map(|_| uniform(&mut rng)).collect() };
        let (a, whole, per_channel) = (values(5 * 7), values(5 * 7), values(7));
        for isa in Isa::available() {
            for b in [&whole, &per_channel] {
                let mut out = vec![0.0; a.len()];
                mul_f32(isa, &a, b, &mut out);
                for (i, &product) in out.iter().enumerate() {
                    assert_eq!(product, a[i] * b[i % b.len()], "{isa}");
                }
            }
        }
    }

    #[test]
    #[should_panic = "one per channel"]
    fn a_second_operand_that_fits_no_pixel_is_refused() {
        let product = MulU8 {
            zero_point_a: 0,
            zero_point_b: 0,
            multiplier: 1.0,
            zero_point: 0,
            low: 0,
            high: 255,
        };
        mul_u8(Isa::best(), &[1; 10], &[1; 3], &product, &mut [0; 10]);
    }
}
