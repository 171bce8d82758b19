//! How accumulators become a result's steps: which of two definitions a model follows.

use super::requant::bias_steps;
use super::{
    ActivationParams, ActivationQuant, InputParams, QuantizedLayer, QuantizedModel,
    QuantizedModelError,
};
use crate::bits::WeightBits;
use crate::graph::{Program, Step};
use serde::{Deserialize, Serialize};

/// The definition that a quantized model's integers follow (docs/format.md has both, formula by formula).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arithmetic {
    /// Biases are real numbers behind the accumulator; constants are derived in f64. Models of format versions 1 to 3.
    #[default]
    RealBias,
    /// Biases of layers with 8-bit weights are whole steps of `s_x·s_w`, part of the accumulator; constants are derived in
    /// f32 and in the order in which ONNX Runtime derives its own, so that an exported model gives the same bits there.
    IntegerBias,
}

impl Arithmetic {
    /// Whether biases of weights of this width are whole steps. Steps of narrower weights are too coarse for it, and no
    /// ONNX engine has integer products of other widths.
    pub(crate) fn has_bias_steps(self, bits: WeightBits) -> bool {
        self == Self::IntegerBias && bits == WeightBits::B8
    }

    /// From the product of two values' steps to a third's: `s_a · s_b / s_to`.
    pub(crate) fn product_ratio(
        self,
        a: ActivationParams,
        b: ActivationParams,
        to: ActivationParams,
    ) -> f32 {
        match self {
            Self::RealBias => {
                (f64::from(a.scale) * f64::from(b.scale) / f64::from(to.scale)) as f32
            }
            Self::IntegerBias => a.scale * b.scale / to.scale,
        }
    }

    /// From the sum of `count` of one value's steps to the mean in another's: `s_from / s_to / count`. With it, a mean is
    /// `clamp(round_ties_even((Σ q − n·z_from) · multiplier) + z_to)` over the `n` pixels that are there.
    pub(crate) fn mean_ratio(
        self,
        from: ActivationParams,
        to: ActivationParams,
        count: usize,
    ) -> f32 {
        match self {
            Self::RealBias => (f64::from(super::ratio(from, to)) / count as f64) as f32,
            Self::IntegerBias => from.scale / (to.scale * count as f32),
        }
    }

    /// The levels that stand for a function of every level. With real biases computed in f64 and rounded once; with whole ones
    /// in f32, step by step as `in_f32` has them, as ONNX Runtime does between DequantizeLinear and QuantizeLinear.
    pub(crate) fn table(
        self,
        from: ActivationParams,
        to: ActivationParams,
        [low, high]: [u8; 2],
        (exact, in_f32): (impl Fn(f64) -> f64, impl Fn(f32) -> f32),
    ) -> [u8; 256] {
        let level = |q: u8| -> f64 {
            let centered = f32::from(q) - f32::from(from.zero_point);
            let level = match self {
                Self::RealBias => {
                    let x = f64::from(centered) * f64::from(from.scale);
                    (exact(x) / f64::from(to.scale)).round_ties_even()
                }
                Self::IntegerBias => {
                    let y = in_f32(centered * from.scale);
                    f64::from((y / to.scale).round_ties_even())
                }
            };
            level + f64::from(to.zero_point)
        };
        std::array::from_fn(|q| level(q as u8).clamp(f64::from(low), f64::from(high)) as u8)
    }

    /// The level of an input on another grid.
    pub(crate) fn move_to_grid(
        self,
        q: u8,
        from: ActivationParams,
        to: ActivationParams,
        [low, high]: [u8; 2],
    ) -> u8 {
        let centered = f32::from(q) - f32::from(from.zero_point);
        let steps = match self {
            Self::RealBias => centered * super::ratio(from, to),
            Self::IntegerBias => centered * from.scale / to.scale,
        };
        let level = steps.round_ties_even() + f32::from(to.zero_point);
        level.clamp(f32::from(low), f32::from(high)) as u8
    }
}

/// The largest bias of a layer whose weights alone could fill an accumulator, in steps.
const MAX_STEPS: f64 = (1u64 << 30) as f64;

/// Whether an accumulator holds a channel's bias of so many steps beside its products with any input.
pub(super) fn steps_are_held(bits: WeightBits, weights: &[i16], steps: f64) -> bool {
    let magnitudes: u64 = weights.iter().map(|w| u64::from(w.unsigned_abs())).sum();
    // Layers beyond that are summed up in parts, in 64 bits.
    if magnitudes > bits.width().max_magnitude_sum() {
        return steps.abs() <= MAX_STEPS;
    }
    steps.abs() + 255.0 * magnitudes as f64 <= f64::from(i32::MAX)
}

/// Whether quantizing leaves a channel its scale: what [is held](steps_are_held), and half of an accumulator at most.
fn steps_fit(bits: WeightBits, weights: &[i16], steps: f64) -> bool {
    steps.abs() <= MAX_STEPS && steps_are_held(bits, weights, steps)
}

impl QuantizedModel {
    /// Returns the model with [`Arithmetic::IntegerBias`], if its ranges are static; others have no such form and stay as
    /// they are. Where a channel's weights are next to nothing beside its bias, its scale is widened until the bias fits.
    ///
    /// # Errors
    /// [`QuantizedModelError`] where the parts do not make a model.
    pub fn with_integer_biases(self) -> Result<Self, QuantizedModelError> {
        self.validate()?;
        let program = self.graph.program()?;
        Ok(self.with_integer_biases_of(&program))
    }

    pub(crate) fn with_integer_biases_of(mut self, program: &Program) -> Self {
        if self.method != ActivationQuant::Static || self.arithmetic == Arithmetic::IntegerBias {
            return self;
        }
        self.arithmetic = Arithmetic::IntegerBias;
        for (index, step) in program.steps().iter().enumerate() {
            self.fit_biases(index, step);
        }
        self
    }

    /// Widens the scales of a layer's channels whose biases have too many steps; returns whether there were any.
    pub(crate) fn fit_biases(&mut self, index: usize, step: &Step) -> bool {
        let Some(input) = self.input_params(step.inputs[0]) else {
            return false;
        };
        match &mut self.layers[index] {
            Some(layer) if self.arithmetic.has_bias_steps(layer.bits) => widen(layer, input),
            _ => false,
        }
    }

    /// What the integers of a value mean; none where nothing says so.
    pub(crate) fn input_params(&self, value: usize) -> Option<InputParams> {
        match value {
            0 => Some(self.pixels().params),
            value => self.activations.get(value)?.map(Into::into),
        }
    }
}

/// Doubles the scales of channels whose biases have too many steps; returns whether there were any.
fn widen(layer: &mut QuantizedLayer, input: InputParams) -> bool {
    let mut is_widened = false;
    let fan_in = (layer.weights.len() / layer.scale.len().max(1)).max(1);
    let channels = layer.weights.chunks_exact_mut(fan_in);
    for ((weights, scale), &bias) in channels.zip(&mut layer.scale).zip(&layer.bias) {
        let (codes, first) = (weights.to_vec(), *scale);
        loop {
            let sum = weights.iter().map(|&w| i64::from(w)).sum();
            let steps = bias_steps(bias, *scale, sum, input);
            if steps_fit(layer.bits, weights, steps) || *scale > f32::MAX / 4.0 {
                break;
            }
            *scale *= 2.0;
            is_widened = true;
            let ratio = f64::from(first) / f64::from(*scale);
            for (w, &code) in weights.iter_mut().zip(&codes) {
                *w = (f64::from(code) * ratio).round_ties_even() as i16;
            }
        }
    }
    is_widened
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Unary;

    #[test]
    fn a_table_rounds_once_or_as_onnx_runtime_does() {
        // A value of MobileNetV3's that lies next to the middle of two levels: ONNX Runtime 1.32 gives 16.
        let of = |scale, zero_point| ActivationParams { scale, zero_point };
        let (from, to) = (of(0.003_265_669_3, 132), of(0.001_617_714_6, 114));
        let function = Unary::HardSwish;
        for (arithmetic, expected) in [(Arithmetic::RealBias, 15), (Arithmetic::IntegerBias, 16)] {
            let both = (|x| function.value(x), |x| function.value_f32(x));
            let table = arithmetic.table(from, to, [0, 255], both);
            assert_eq!(table[21], expected);
            assert_eq!((table[132], table[0]), (114, 0), "{arithmetic:?}");
        }
    }

    #[test]
    fn a_bias_may_fill_the_accumulator_that_products_leave_empty() {
        // A dead channel as onnxruntime.quantization leaves it: the bias is nearly all that 32 bits hold.
        let (dead, steps) = ([0i16; 27], -2_147_268_793.0);
        assert!(steps_are_held(WeightBits::B8, &dead, steps));
        // lowbit's own quantizer widens such a channel's scale all the same.
        assert!(!steps_fit(WeightBits::B8, &dead, steps));
        let mut living = dead;
        living[0] = 1000;
        assert!(!steps_are_held(WeightBits::B8, &living, steps));
        assert!(!steps_are_held(
            WeightBits::B8,
            &dead,
            -2_147_483_648.0 * 1.5
        ));
    }
}
