//! Functions of one element.

use super::{Nature, Operator};
use crate::shape::Shape;

pub(super) struct Relu;

impl Operator for Relu {
    fn nature(&self) -> Nature {
        Nature::NEVER_NEGATIVE
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }
}

/// `1 / (1 + exp(−x))`.
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) struct Sigmoid;

impl Operator for Sigmoid {
    fn nature(&self) -> Nature {
        Nature::NEVER_NEGATIVE
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }
}

/// A function of one element beyond ReLU and sigmoid.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unary {
    /// `min(max(x, min), max)`; ReLU6 with 0 and 6.
    Clip {
        /// The smallest result.
        min: f32,
        /// The largest result.
        max: f32,
    },
    /// `min(max(alpha·x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope between the bounds.
        alpha: f32,
        /// Result for 0.
        beta: f32,
    },
    /// `x · min(max(x/6 + ½, 0), 1)` (Howard et al. 2019).
    HardSwish,
    /// `x · sigmoid(x)`, also called Swish.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// `x` where it is positive, else `slope·x`.
    LeakyRelu {
        /// Slope of the negative half.
        slope: f32,
    },
    /// `x` where it is positive, else `alpha·(exp(x) − 1)`.
    Elu {
        /// Distance of the limit below zero.
        alpha: f32,
    },
    /// `x · Φ(x)` with the normal distribution's Φ (Hendrycks & Gimpel 2016).
    Gelu {
        /// Whether Φ is approximated by `½·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`: another function, as exporters write it.
        tanh: bool,
    },
}

impl Unary {
    /// Returns the function's value, computed in f64.
    #[must_use]
    pub fn value(&self, x: f64) -> f64 {
        match *self {
            Self::Clip { min, max } => x.max(f64::from(min)).min(f64::from(max)),
            Self::HardSigmoid { alpha, beta } => {
                (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0)
            }
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Silu => x * sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::LeakyRelu { slope } => match x > 0.0 {
                true => x,
                false => f64::from(slope) * x,
            },
            Self::Elu { alpha } => match x > 0.0 {
                true => x,
                false => f64::from(alpha) * x.exp_m1(),
            },
            Self::Gelu { tanh: true } => 0.5 * x * (1.0 + (GELU_SLOPE * gelu_cubic(x)).tanh()),
            Self::Gelu { tanh: false } => x * normal(x),
        }
    }

    /// Returns the function's value, each step of it rounded to f32; functions that are not made of products and sums are
    /// rounded once.
    #[must_use]
    pub fn value_f32(&self, x: f32) -> f32 {
        let hard_sigmoid = |alpha: f32, beta: f32| (alpha * x + beta).clamp(0.0, 1.0);
        match *self {
            Self::Clip { min, max } => x.max(min).min(max),
            Self::HardSigmoid { alpha, beta } => hard_sigmoid(alpha, beta),
            Self::HardSwish => x * hard_sigmoid(1.0 / 6.0, 0.5),
            Self::Silu => x * sigmoid(f64::from(x)) as f32,
            Self::LeakyRelu { slope } => match x > 0.0 {
                true => x,
                false => slope * x,
            },
            Self::Tanh | Self::Elu { .. } | Self::Gelu { .. } => self.value(f64::from(x)) as f32,
        }
    }

    /// Returns the function's derivative, computed in f64; at a corner that of one of its sides.
    #[must_use]
    pub fn derivative(&self, x: f64) -> f64 {
        let inside = |inside: bool, slope: f64| if inside { slope } else { 0.0 };
        match *self {
            Self::Clip { min, max } => inside(x > f64::from(min) && x < f64::from(max), 1.0),
            Self::HardSigmoid { alpha, beta } => {
                let (alpha, y) = (f64::from(alpha), f64::from(alpha) * x + f64::from(beta));
                inside(y > 0.0 && y < 1.0, alpha)
            }
            Self::HardSwish => match x {
                x if x <= -3.0 => 0.0,
                x if x >= 3.0 => 1.0,
                x => x / 3.0 + 0.5,
            },
            Self::Silu => {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }
            Self::Tanh => 1.0 - x.tanh().powi(2),
            Self::LeakyRelu { slope } => match x > 0.0 {
                true => 1.0,
                false => f64::from(slope),
            },
            Self::Elu { alpha } => match x > 0.0 {
                true => 1.0,
                false => f64::from(alpha) * x.exp(),
            },
            Self::Gelu { tanh: true } => {
                let t = (GELU_SLOPE * gelu_cubic(x)).tanh();
                let inner = GELU_SLOPE * (1.0 + 3.0 * 0.044715 * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
            }
            Self::Gelu { tanh: false } => {
                normal(x) + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
            }
        }
    }

    /// Whether no result is negative, so that integers need no zero point but 0.
    fn is_never_negative(&self) -> bool {
        match *self {
            Self::Clip { min, .. } => min >= 0.0,
            Self::HardSigmoid { .. } => true,
            Self::HardSwish
            | Self::Silu
            | Self::Tanh
            | Self::LeakyRelu { .. }
            | Self::Elu { .. }
            | Self::Gelu { .. } => false,
        }
    }
}

/// √(2/π).
const GELU_SLOPE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

fn gelu_cubic(x: f64) -> f64 {
    x + 0.044715 * x * x * x
}

/// The normal distribution's Φ: near zero `½ + φ(x)·(x + x³/3 + x⁵/15 + …)` (each term the last one times x² over the next
/// odd number; all of one sign, so that nothing cancels), far from it the continued fraction of the tail.
fn normal(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        let mut odd = 1.0;
        while term.abs() > 1e-17 * sum.abs() {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    let far = x.abs();
    let fraction = (1..=60)
        .rev()
        .fold(far, |rest, n| far + f64::from(n) / rest);
    let tail = density / fraction;
    if x < 0.0 { tail } else { 1.0 - tail }
}

impl Operator for Unary {
    fn nature(&self) -> Nature {
        Nature {
            is_never_negative: self.is_never_negative(),
            ..Nature::PLAIN
        }
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let attributes = match *self {
            Self::Clip { min, max } => [min, max],
            Self::HardSigmoid { alpha, beta } => [alpha, beta],
            Self::LeakyRelu { slope } => [slope, 0.0],
            Self::Elu { alpha } => [alpha, 0.0],
            Self::HardSwish | Self::Silu | Self::Tanh | Self::Gelu { .. } => [0.0; 2],
        };
        if attributes.iter().any(|x| !x.is_finite()) {
            return Err(format!("the attributes of {self:?} must be finite numbers"));
        }
        match *self {
            Self::Clip { min, max } if min > max => {
                Err(format!("it clips to at least {min} and at most {max}"))
            }
            _ => Ok(inputs[0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Unary; 10] = [
        Unary::Clip {
            min: -0.5,
            max: 2.0,
        },
        Unary::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        },
        Unary::HardSwish,
        Unary::Silu,
        Unary::Tanh,
        Unary::LeakyRelu { slope: 0.01 },
        Unary::Elu { alpha: 1.5 },
        Unary::Gelu { tanh: false },
        Unary::Gelu { tanh: true },
        Unary::Clip { min: 0.0, max: 6.0 },
    ];

    #[test]
    fn values_are_those_of_another_library() {
        // By Python's `math` (`erfc` for GELU), which has the functions of C's library.
        let expected: [(f64, [f64; 10]); 2] = [
            (
                -1.25,
                [
                    -0.5,
                    0.25,
                    -0.364_583_333_333_333,
                    -0.278_375_173_531_636,
                    -0.848_283_639_957_513,
                    -0.0125,
                    -1.070_242_804_709_715,
                    -0.132_062_217_083_569,
                    -0.132_285_797_030_285,
                    0.0,
                ],
            ),
            (
                2.5,
                [
                    2.0,
                    1.0,
                    2.291_666_666_666_667,
                    2.310_354_549_946_891,
                    0.986_614_298_151_430,
                    2.5,
                    2.5,
                    2.484_475_836_685_56,
                    2.484_915_733_910_001,
                    2.5,
                ],
            ),
        ];
        for (x, expected) in expected {
            for (unary, y) in ALL.iter().zip(expected) {
                let found = unary.value(x);
                // The slope 0.2 and the attributes are f32.
                assert!((found - y).abs() < 2e-8, "{unary:?} of {x}: {found}, {y}");
            }
        }
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for unary in ALL {
            for step in -60..60 {
                let x = f64::from(step) * 0.1 + 0.013;
                let h = 1e-5;
                let slope = (unary.value(x + h) - unary.value(x - h)) / (2.0 * h);
                let found = unary.derivative(x);
                assert!(
                    (found - slope).abs() < 1e-6,
                    "{unary:?} at {x}: {found}, {slope}"
                );
            }
        }
    }

    #[test]
    fn the_normal_distribution_has_no_step_where_its_two_ways_meet() {
        for (x, expected) in [
            (-3.5, 2.326_290_790_355_25e-4),
            (-2.999_999, 1.349_902_463_485_155e-3),
            (-3.000_001, 1.349_893_599_788_332e-3),
            (1.0, 0.841_344_746_068_542_9),
            (8.5, 1.0),
        ] {
            let found = normal(x);
            assert!((found - expected).abs() < 1e-14, "{x}: {found}, {expected}");
        }
        assert!(normal(-40.0) >= 0.0 && normal(-40.0) < 1e-300);
    }

    #[test]
    fn attributes_that_make_no_function_are_refused() {
        let shape = [Shape::vector(3)];
        let clip = |min, max| Unary::Clip { min, max }.infer(&shape);
        assert!(clip(1.0, 0.0).unwrap_err().contains("at least 1"));
        assert!(clip(0.0, f32::INFINITY).unwrap_err().contains("finite"));
        assert!(
            Unary::LeakyRelu { slope: f32::NAN }
                .infer(&shape)
                .unwrap_err()
                .contains("finite")
        );
        assert_eq!(Unary::Silu.infer(&shape), Ok(shape[0]));
    }
}
