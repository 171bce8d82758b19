//! Functions of one f32, in arithmetic that every instruction set does alike.

use super::ROUNDING;
use crate::Isa;
use crate::vectorize::vectorized;

/// `out = function(x)`, compiled for the ISA's vectors: a function of additions, multiplications, `mul_add`, divisions,
/// `max`, `min` and choices becomes vector code, and gives the same bits everywhere.
///
/// It is called as itself, not through a reference to it: that call is a function of the standard library's, which a build
/// without optimization across units leaves a call, one for each element.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn map_f32(isa: Isa, input: &[f32], out: &mut [f32], function: &impl Fn(f32) -> f32) {
    assert_eq!(input.len(), out.len(), "one result per input");
    vectorized!(isa, || for (y, &x) in out.iter_mut().zip(input) {
        *y = (*function)(x);
    });
}

/// `exp(x)` within 2 units in the last place; what is below −87 counts as −87, and what is above 88 as 88.
#[inline(always)]
#[must_use]
pub fn exp_f32(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    // exp(x) = 2ⁿ · exp(r) with |r| ≤ ln(2)/2; n stands in the last bits of `shifted`.
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    // Taylor's series: the first term left out is below 6e-9.
    let series = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let sum = series
        .iter()
        .fold(0.0f32, |sum, &term| sum.mul_add(r, term));
    let exponent = shifted.to_bits().wrapping_sub(ROUNDING.to_bits());
    sum * f32::from_bits(exponent.wrapping_add(127) << 23)
}

/// `1 / (1 + exp(−x))`.
#[inline(always)]
#[must_use]
pub fn sigmoid_f32(x: f32) -> f32 {
    1.0 / (1.0 + exp_f32(-x))
}

/// The normal distribution's Φ within 1e-7 (Abramowitz & Stegun 1964, 7.1.26).
#[inline(always)]
#[must_use]
pub fn normal_f32(x: f32) -> f32 {
    let far = x.abs();
    let t = 1.0 / far.mul_add(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2, 1.0);
    let series = [
        1.061_405_4,
        -1.453_152,
        1.421_413_7,
        -0.284_496_74,
        0.254_829_6,
    ];
    let sum = series
        .iter()
        .fold(0.0f32, |sum, &term| sum.mul_add(t, term))
        * t;
    let tail = 0.5 * sum * exp_f32(-0.5 * far * far);
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<f32> {
        let fine = (-4000..4000).map(|i| i as f32 * 0.0037);
        let ends = [-200.0, -88.1, -87.0, -0.0, 0.0, 1e-30, 87.9, 88.0, 500.0];
        fine.chain(ends).collect()
    }

    #[test]
    fn the_exponential_is_that_of_f64_rounded_or_its_neighbor() {
        for x in inputs() {
            let exact = f64::from(x.clamp(-87.0, 88.0)).exp();
            let error = (f64::from(exp_f32(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}): {} for {exact}", exp_f32(x));
        }
        assert_eq!(exp_f32(0.0), 1.0);
    }

    #[test]
    fn sigmoid_and_normal_keep_seven_digits() {
        for x in inputs() {
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid_f32(x)) - exact).abs() < 1.3e-7, "{x}");
        }
        // Φ by Python's `math.erfc`.
        for (x, exact) in [
            (-3.5, 2.326_290_790_355_25e-4),
            (-1.0, 0.158_655_253_931_457),
            (0.0, 0.5),
            (0.5, 0.691_462_461_274_013),
            (2.0, 0.977_249_868_051_821),
            (9.0, 1.0),
        ] {
            let found = f64::from(normal_f32(x as f32));
            assert!((found - exact).abs() < 1.5e-7, "{x}: {found}");
        }
    }

    #[test]
    fn every_isa_gives_the_same_bits_at_every_length() {
        let all = inputs();
        for len in [0, 1, 7, 8, 17, 1000, all.len()] {
            let run = |isa, function: fn(f32) -> f32| {
                let mut out = vec![0.0; len];
                map_f32(isa, &all[..len], &mut out, &function);
                out
            };
            for isa in Isa::available() {
                for function in [exp_f32, sigmoid_f32, normal_f32] {
                    assert_eq!(run(isa, function), run(Isa::PORTABLE, function), "{isa}");
                }
                let mut inlined = vec![0.0; len];
                map_f32(isa, &all[..len], &mut inlined, &|x| x * sigmoid_f32(x));
                for (y, &x) in inlined.iter().zip(&all) {
                    assert_eq!(*y, x * sigmoid_f32(x), "{isa}");
                }
            }
        }
    }
}
