//! Rounding in training and its gradient (learned step sizes).

use super::level;
use crate::Isa;
use crate::vectorize::vectorized;

/// Rounds in training: `q = clamp(round_ties_even(x / scale) + zero_point, 0, high)` to `codes`, `x̂ = (q − zero_point) ·
/// scale` back into `value`, and to `terms` what the gradient of x̂ is multiplied with for that of ln(scale): `x̂ − x` where x
/// lies inside the range, x̂ where it was clipped (Esser et al. 2020, equation 3, times the scale).
///
/// # Panics
/// If the lengths differ.
pub fn fake_quant(
    isa: Isa,
    scale: f32,
    zero_point: f32,
    high: f32,
    value: &mut [f32],
    codes: &mut [u8],
    terms: &mut [f32],
) {
    assert!(value.len() == codes.len() && value.len() == terms.len());
    let inverse = 1.0 / scale;
    vectorized!(
        isa,
        || for ((x, q), term) in value.iter_mut().zip(codes).zip(terms) {
            let whole = (*x * inverse).round_ties_even() + zero_point;
            let (clamped, code) = level(whole, 0.0, high);
            let rounded = (clamped - zero_point) * scale;
            *term = if clamped == whole {
                rounded - *x
            } else {
                rounded
            };
            *q = code;
            *x = rounded;
        }
    );
}

/// What a gradient meets on its way back through [`fake_quant`].
#[derive(Clone, Copy, Debug)]
pub struct FakeQuantGradient {
    /// Half a step: terms no larger belong to values inside the range (clipped values' are whole steps, or zero).
    pub half_step: f32,
    /// Whether gradients pass the rounding inside the range.
    pub straight_through: bool,
    /// Whether values inside the range count for the step's gradient.
    pub inside_counts: bool,
}

/// Takes `grad` back through [`fake_quant`] in place, zero outside of the range, and returns the gradient of ln(scale):
/// the sum of `grad · terms`, in 32 lanes that are added up in their order.
///
/// # Panics
/// If the lengths differ.
pub fn fake_quant_gradient(
    isa: Isa,
    gradient: FakeQuantGradient,
    grad: &mut [f32],
    terms: &[f32],
) -> f64 {
    assert_eq!(grad.len(), terms.len(), "one term per gradient");
    let FakeQuantGradient {
        half_step,
        straight_through,
        inside_counts,
    } = gradient;
    vectorized!(isa, || {
        let mut total = 0.0f64;
        for (grad, terms) in grad.chunks_mut(1024).zip(terms.chunks(1024)) {
            let mut lanes = [0.0f32; 32];
            for (grad, terms) in grad.chunks_mut(32).zip(terms.chunks(32)) {
                for ((g, &term), lane) in grad.iter_mut().zip(terms).zip(&mut lanes) {
                    let inside = term.abs() <= half_step;
                    let counts = !inside | inside_counts;
                    *lane += if counts { *g * term } else { 0.0 };
                    *g = if inside & straight_through { *g } else { 0.0 };
                }
            }
            total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        }
        total
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_pass_inside_the_range_and_every_isa_sums_to_the_same_bits() {
        let mut rng = crate::random::stream(1, "test", 0);
        let mut uniform = |_| 4.0 * crate::random::uniform(&mut rng) - 2.0;
        let grad: Vec<f32> = (0..2500).map(&mut uniform).collect();
        let terms: Vec<f32> = (0..2500).map(&mut uniform).collect();
        for (straight_through, inside_counts) in [(true, true), (true, false), (false, true)] {
            let gradient = FakeQuantGradient {
                half_step: 0.5,
                straight_through,
                inside_counts,
            };
            let run = |isa| {
                let mut grad = grad.clone();
                let sum = fake_quant_gradient(isa, gradient, &mut grad, &terms);
                (grad, sum)
            };
            let (passed, sum) = run(Isa::PORTABLE);
            let mut expected = 0.0f64;
            for ((&before, &after), &term) in grad.iter().zip(&passed).zip(&terms) {
                let inside = term.abs() <= 0.5;
                let kept = if inside && straight_through {
                    before
                } else {
                    0.0
                };
                assert_eq!(after, kept);
                if !inside || inside_counts {
                    expected += f64::from(before) * f64::from(term);
                }
            }
            assert!((sum - expected).abs() < 1e-3, "{sum} against {expected}");
            for isa in Isa::available() {
                assert_eq!(run(isa), (passed.clone(), sum), "{isa}");
            }
        }
    }
}
