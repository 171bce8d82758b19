//! Sums of two values.

use super::ROUNDING;
use crate::Isa;
use crate::vectorize::vectorized;

/// `out = a + b`, cut at zero if `relu`.
///
/// # Panics
/// If the lengths differ.
pub fn add_f32(isa: Isa, a: &[f32], b: &[f32], relu: bool, out: &mut [f32]) {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "one result per pair"
    );
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    vectorized!(
        isa,
        || for ((sum, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *sum = (a + b).max(floor);
        }
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

/// Adds two u8 slices as `sum` says.
///
/// # Panics
/// If the lengths differ.
pub fn add_u8(isa: Isa, a: &[u8], b: &[u8], sum: &AddU8, out: &mut [u8]) {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "one result per pair"
    );
    let (zero_a, zero_b) = (f32::from(sum.zero_point_a), f32::from(sum.zero_point_b));
    let from_zero = |level: u8| f32::from(level) - f32::from(sum.zero_point);
    let (low, high) = (from_zero(sum.low), from_zero(sum.high));
    vectorized!(isa, || for ((q, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let second = (f32::from(b) - zero_b) * sum.multiplier_b;
        let real = (f32::from(a) - zero_a).mul_add(sum.multiplier_a, second);
        // Between whole bounds, rounding after the cut is rounding before it. (`max` and `min` take two more instructions
        // each for NaN, which becomes `low` here as well.)
        let cut = if real > low { real } else { low };
        let cut = if cut < high { cut } else { high };
        *q = ((cut + ROUNDING).to_bits() as u8).wrapping_add(sum.zero_point);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
