//! Sums of two values.

use super::ROUNDING;
use crate::Isa;
use crate::vectorize::vectorized;

/// `out = a + b`, cut at zero if `relu`; `b` may be one pixel's channels, which are added to each.
///
/// # Panics
/// If `a` and `out` differ in length, or `b` fits neither them nor their pixels.
pub fn add_f32(isa: Isa, a: &[f32], b: &[f32], relu: bool, out: &mut [f32]) {
    check(a.len(), b.len(), out.len());
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let pixel = b.len().max(1);
    vectorized!(
        isa,
        || for (out, a) in out.chunks_exact_mut(pixel).zip(a.chunks_exact(pixel)) {
            for ((sum, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *sum = (a + b).max(floor);
            }
        }
    );
}

fn check(a: usize, b: usize, out: usize) {
    assert!(
        a == out && (out == 0 || (b > 0 && out.is_multiple_of(b))),
        "one result per pair"
    );
}

/// The sum of two quantized values:
/// `clamp(round_ties_even(fma(a − zero_point_a, multiplier_a, (b − zero_point_b) · multiplier_b)) + zero_point, low, high)`.
#[derive(Clone, Copy, Debug)]
pub struct AddU8 {
    /// Zero point of the first operand.
    pub zero_point_a: u8,
    /// Scale of the first operand in output steps.
    pub multiplier_a: f32,
    /// Zero point of the second operand.
    pub zero_point_b: u8,
    /// Scale of the second operand in output steps.
    pub multiplier_b: f32,
    /// The result's zero point.
    pub zero_point: u8,
    /// Lowest result; the zero point where a ReLU is fused.
    pub low: u8,
    /// Highest result.
    pub high: u8,
}

impl AddU8 {
    /// The definition, for one pair; NaN becomes `low`.
    #[must_use]
    pub fn apply(&self, a: u8, b: u8) -> u8 {
        let second = (f32::from(b) - f32::from(self.zero_point_b)) * self.multiplier_b;
        let real = (f32::from(a) - f32::from(self.zero_point_a)).mul_add(self.multiplier_a, second);
        let level = real.round_ties_even() + f32::from(self.zero_point);
        level.max(f32::from(self.low)).min(f32::from(self.high)) as u8
    }
}

/// Adds two u8 slices as `sum` says; `b` may be one pixel's channels, which are added to each.
///
/// # Panics
/// As [`add_f32`].
pub fn add_u8(isa: Isa, a: &[u8], b: &[u8], sum: &AddU8, out: &mut [u8]) {
    check(a.len(), b.len(), out.len());
    let (zero_a, zero_b) = (f32::from(sum.zero_point_a), f32::from(sum.zero_point_b));
    let from_zero = |level: u8| f32::from(level) - f32::from(sum.zero_point);
    let (low, high) = (from_zero(sum.low), from_zero(sum.high));
    let pixel = b.len().max(1);
    vectorized!(
        isa,
        || for (out, a) in out.chunks_exact_mut(pixel).zip(a.chunks_exact(pixel)) {
            for ((q, &a), &b) in out.iter_mut().zip(a).zip(b) {
                let second = (f32::from(b) - zero_b) * sum.multiplier_b;
                let real = (f32::from(a) - zero_a).mul_add(sum.multiplier_a, second);
                // Between whole bounds, rounding after the cut is rounding before it. (`max` and `min` take two more instructions
                // each for NaN, which becomes `low` here as well.)
                let cut = if real > low { real } else { low };
                let cut = if cut < high { cut } else { high };
                *q = ((cut + ROUNDING).to_bits() as u8).wrapping_add(sum.zero_point);
            }
        }
    );
}

/// The sum of two quantized values with all zero points in one number:
/// `clamp(round_ties_even(fma(a, multiplier_a, fma(b, multiplier_b, offset))), low, high)`.
#[derive(Clone, Copy, Debug)]
pub struct SumU8 {
    /// Scale of the first operand in output steps.
    pub multiplier_a: f32,
    /// Scale of the second operand in output steps.
    pub multiplier_b: f32,
    /// The result's zero point without what the operands' zero points come to.
    pub offset: f32,
    /// Lowest result; the zero point where a ReLU is fused.
    pub low: u8,
    /// Highest result.
    pub high: u8,
}

impl SumU8 {
    /// The definition, for one pair; NaN becomes `low`.
    #[must_use]
    pub fn apply(&self, a: u8, b: u8) -> u8 {
        let second = f32::from(b).mul_add(self.multiplier_b, self.offset);
        let level = f32::from(a).mul_add(self.multiplier_a, second);
        let level = level.round_ties_even();
        level.max(f32::from(self.low)).min(f32::from(self.high)) as u8
    }
}

/// Adds two u8 slices as `sum` says; `b` may be one pixel's channels, which are added to each.
///
/// # Panics
/// As [`add_f32`].
pub fn sum_u8(isa: Isa, a: &[u8], b: &[u8], sum: &SumU8, out: &mut [u8]) {
    check(a.len(), b.len(), out.len());
    let (low, high) = (f32::from(sum.low), f32::from(sum.high));
    let pixel = b.len().max(1);
    vectorized!(
        isa,
        || for (out, a) in out.chunks_exact_mut(pixel).zip(a.chunks_exact(pixel)) {
            for ((q, &a), &b) in out.iter_mut().zip(a).zip(b) {
                let second = f32::from(b).mul_add(sum.multiplier_b, sum.offset);
                let level = f32::from(a).mul_add(sum.multiplier_a, second);
                // As in `add_u8`.
                let cut = if level > low { level } else { low };
                let cut = if cut < high { cut } else { high };
                *q = (cut + ROUNDING).to_bits() as u8;
            }
        }
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pixel_is_added_to_each() {
        let a: Vec<u8> = (0..70).map(|i| i * 3).collect();
        let b: Vec<u8> = (0..10).map(|i| i * 7).collect();
        let sum = AddU8 {
            zero_point_a: 3,
            multiplier_a: 0.4,
            zero_point_b: 20,
            multiplier_b: 0.7,
            zero_point: 9,
            low: 0,
            high: 255,
        };
        let reals = |codes: &[u8]| codes.iter().map(|&q| f32::from(q)).collect::<Vec<_>>();
        for isa in Isa::available() {
            let (mut codes, mut floats) = ([0; 70], [0.0; 70]);
            add_u8(isa, &a, &b, &sum, &mut codes);
            add_f32(isa, &reals(&a), &reals(&b), false, &mut floats);
            for i in 0..70 {
                assert_eq!(codes[i], sum.apply(a[i], b[i % 10]), "{isa}");
                assert_eq!(floats[i], f32::from(a[i]) + f32::from(b[i % 10]), "{isa}");
            }
        }
    }

    #[test]
    fn every_isa_gives_the_defined_sums() {
        let x: Vec<u8> = (0..1003).map(|i| (i * 37 % 256) as u8).collect();
        let y: Vec<u8> = (0..1003).map(|i| (i * 91 % 256) as u8).collect();
        for (multiplier_a, multiplier_b) in
            [(0.37, 0.77), (3.0, 0.5), (0.0, f32::NAN), (f32::MAX, -1.0)]
        {
            let sum = AddU8 {
                zero_point_a: 3,
                multiplier_a,
                zero_point_b: 120,
                multiplier_b,
                zero_point: 9,
                low: 9,
                high: 255,
            };
            let expected: Vec<u8> = x.iter().zip(&y).map(|(&x, &y)| sum.apply(x, y)).collect();
            for isa in Isa::available() {
                let mut added = vec![0; x.len()];
                add_u8(isa, &x, &y, &sum, &mut added);
                assert_eq!(added, expected, "{isa}, {multiplier_a} and {multiplier_b}");
            }
        }
    }

    #[test]
    fn every_isa_gives_the_defined_sums_with_one_offset() {
        let x: Vec<u8> = (0..1003).map(|i| (i * 37 % 256) as u8).collect();
        let y: Vec<u8> = (0..1003).map(|i| (i * 91 % 256) as u8).collect();
        for (multiplier_a, multiplier_b, offset) in
            [(0.37, 0.77, -31.5), (3.0, 0.5, 9.0), (0.0, f32::NAN, 1.0)]
        {
            let sum = SumU8 {
                multiplier_a,
                multiplier_b,
                offset,
                low: 9,
                high: 250,
            };
            let expected: Vec<u8> = x.iter().zip(&y).map(|(&x, &y)| sum.apply(x, y)).collect();
            for isa in Isa::available() {
                let mut added = vec![0; x.len()];
                sum_u8(isa, &x, &y, &sum, &mut added);
                assert_eq!(added, expected, "{isa}, {multiplier_a} and {multiplier_b}");
                // One pixel's 59 channels, and one of 17, beside each.
                for channels in [59, 17] {
                    let one = &y[..channels];
                    let expected: Vec<u8> = x
                        .iter()
                        .enumerate()
                        .map(|(at, &x)| sum.apply(x, one[at % channels]))
                        .collect();
                    sum_u8(isa, &x, one, &sum, &mut added);
                    assert_eq!(added, expected, "{isa}, {channels} channels");
                }
            }
        }
    }
}
