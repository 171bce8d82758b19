//! Rounding f32 to integers and back, and passes between layers (add, pooling), in f32 and u8.
//!
//! Everything here is elementwise or a short sum with one documented rounding, so that all ISAs agree to the bit; the
//! loops are plain and left to the compiler's vectorizer.

use crate::Isa;
use crate::vectorize::vectorized;

/// A whole number, cut to whole `low..=high` in 0..=255, as f32 and as u8; NaN becomes `low`.
///
/// `as u8` saturates, which the vectorizer does one by one; behind 2²³ the last bits of an f32 are the whole number's own.
#[inline(always)]
fn level(whole: f32, low: f32, high: f32) -> (f32, u8) {
    let cut = whole.max(low).min(high);
    (cut, (cut + 8_388_608.0).to_bits() as u8)
}

/// 1.5 · 2²³: a small f32 that it is added to loses what is behind its point, ties to even, and its last bits are those of the
/// whole number in two's complement.
const ROUNDING: f32 = 12_582_912.0;

/// `out = fma(x, scale, shift)`: pixels as the network sees them.
///
/// # Panics
/// If the lengths differ.
pub fn scale_u8(isa: Isa, input: &[u8], scale: f32, shift: f32, out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    vectorized!(isa, || for (real, &x) in out.iter_mut().zip(input) {
        *real = f32::from(x).mul_add(scale, shift);
    });
}

/// `out = clamp(round_ties_even(x · inv_scale) + zero_point, 0, 255)`; NaN becomes 0.
///
/// # Panics
/// If the lengths differ.
pub fn quantize_u8(isa: Isa, input: &[f32], inv_scale: f32, zero_point: i32, out: &mut [u8]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    let zero = zero_point as f32;
    vectorized!(isa, || for (q, &x) in out.iter_mut().zip(input) {
        *q = level((x * inv_scale).round_ties_even() + zero, 0.0, 255.0).1;
    });
}

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

/// `out = (q − zero_point) · scale`.
///
/// # Panics
/// If the lengths differ.
pub fn dequantize_u8(isa: Isa, input: &[u8], scale: f32, zero_point: u8, out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    vectorized!(isa, || for (x, &q) in out.iter_mut().zip(input) {
        *x = (f32::from(q) - f32::from(zero_point)) * scale;
    });
}

/// The smallest and the largest element; `(∞, −∞)` of nothing.
#[must_use]
pub fn min_max(isa: Isa, input: &[f32]) -> (f32, f32) {
    vectorized!(isa, || {
        let mut low = [f32::INFINITY; 32];
        let mut high = [f32::NEG_INFINITY; 32];
        let chunks = input.chunks_exact(32);
        for (lane, &x) in chunks.remainder().iter().enumerate() {
            low[lane] = low[lane].min(x);
            high[lane] = high[lane].max(x);
        }
        for chunk in chunks {
            for (lane, &x) in chunk.iter().enumerate() {
                low[lane] = if x < low[lane] { x } else { low[lane] };
                high[lane] = if x > high[lane] { x } else { high[lane] };
            }
        }
        (
            low.into_iter().fold(f32::INFINITY, f32::min),
            high.into_iter().fold(f32::NEG_INFINITY, f32::max),
        )
    })
}

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
    fn rounding_goes_to_even_and_clamps_at_both_ends() {
        for isa in Isa::available() {
            let input = [0.5, 1.5, 2.5, -0.5, -300.0, 300.0, f32::NAN, f32::INFINITY];
            let mut out = [9; 8];
            quantize_u8(isa, &input, 1.0, 10, &mut out);
            assert_eq!(out, [10, 12, 12, 10, 0, 255, 0, 255], "{isa}");
        }
    }

    #[test]
    fn pixels_are_scaled_with_one_rounding() {
        let pixels: Vec<u8> = (0..=255).collect();
        for isa in Isa::available() {
            let mut out = [0.0; 256];
            scale_u8(isa, &pixels, 1.0 / 127.5, -1.0, &mut out);
            for (x, real) in out.iter().enumerate() {
                let exact = x as f64 * f64::from(1.0f32 / 127.5) - 1.0;
                assert_eq!(*real, exact as f32, "{isa}, {x}");
            }
        }
    }

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

    #[test]
    fn a_level_is_cut_whole_and_never_wraps() {
        for (whole, expected) in [
            (f32::NAN, 3),
            (f32::NEG_INFINITY, 3),
            (-1.0, 3),
            (3.0, 3),
            (200.0, 200),
            (250.0, 250),
            (251.0, 250),
            (1e30, 250),
        ] {
            let (cut, code) = level(whole, 3.0, 250.0);
            assert_eq!((cut, code), (f32::from(expected), expected), "{whole}");
        }
    }

    #[test]
    fn every_isa_gives_the_portable_bytes() {
        let x: Vec<u8> = (0..1000).map(|i| (i * 37 % 256) as u8).collect();
        let y: Vec<u8> = (0..1000).map(|i| (i * 91 % 256) as u8).collect();
        let sum = AddU8 {
            zero_point_a: 3,
            multiplier_a: 0.37,
            zero_point_b: 120,
            multiplier_b: 0.77,
            zero_point: 9,
            low: 9,
            high: 255,
        };
        let mean = AvgPoolU8 {
            zero_point_in: 3,
            multiplier: 0.01,
            zero_point: 7,
            low: 0,
            high: 255,
        };
        let run = |isa| {
            let mut added = vec![0; 1000];
            add_u8(isa, &x, &y, &sum, &mut added);
            let mut pooled = vec![0; 10];
            global_avg_pool_u8(isa, &x, 10, 10, 10, 100, &mean, &mut pooled);
            let floats: Vec<f32> = x.iter().map(|&x| f32::from(x) * 0.1 - 7.0).collect();
            (added, pooled, min_max(isa, &floats))
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::PORTABLE), "{isa}");
        }
    }
}
