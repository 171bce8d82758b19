//! Quantization-aware training: the forward pass runs the deployed integers, the backward pass a straight-through
//! estimator (Bengio et al. 2013) on latent f32 weights.
//!
//! Activations are quantized to unsigned integers where a block writes its value, weights to signed ones once a step.
//! Convolutions and linear layers then run the same integer kernels as the deployed model; batch-norm and ReLU follow in
//! f32 (with the batch's statistics), and fold into the requantization at deployment.

mod activation;
#[cfg(test)]
mod tests;
mod weight;

pub(super) use activation::ActivationState;
pub(super) use weight::{IntegerDepthwise, IntegerProduct, WeightState};

use crate::bits::{ActivationBits, WeightBits};
use crate::graph::Program;
use serde::{Deserialize, Serialize};

/// How weights become integers in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WeightQuantizer {
    /// [`AbsMax`](Self::AbsMax) in a network of 8 or 16 bits, [`Lsq`](Self::Lsq) below.
    #[default]
    Auto,
    /// Learned step size (Esser et al. 2020). The logarithm of the step is what is learned (Jain et al. 2020, TQT), since
    /// Adam's steps do not shrink with the step size.
    Lsq,
    /// The largest magnitude takes the largest integer, recomputed each step.
    AbsMax,
    /// As absmax, on `tanh(w)` (Zhou et al. 2016, DoReFa-Net, equation 9, on a symmetric grid with zero).
    DoReFa,
}

/// How activations become integers in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActivationQuantizer {
    /// [`Ema`](Self::Ema) of 8 bits in a network of 8 or 16, [`Lsq`](Self::Lsq) else.
    #[default]
    Auto,
    /// Learned step size (Esser et al. 2020), its logarithm being learned.
    Lsq,
    /// Learned clipping value (Choi et al. 2018, PACT): the step learns from clipped values alone. A value counts as clipped where
    /// it is more than half a step beyond the clipping value; what lies nearer rounds to it, and passes its gradient.
    Pact,
    /// Moving average of each batch's range, not learned (Jacob et al. 2018, section 3.1).
    Ema,
}

/// A name that is none of a quantizer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {found}: use {known}")]
#[non_exhaustive]
pub struct QuantizerError {
    /// The kind of quantizer.
    pub what: &'static str,
    /// The name given.
    pub found: String,
    /// The names there are.
    pub known: String,
}

macro_rules! names {
    ($kind:ty, $what:literal, $($variant:ident = $name:literal),*) => {
        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),* })
            }
        }

        impl std::str::FromStr for $kind {
            type Err = QuantizerError;
            fn from_str(name: &str) -> Result<Self, QuantizerError> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(QuantizerError {
                        what: $what,
                        found: name.to_owned(),
                        known: [$($name),*].join(", "),
                    }),
                }
            }
        }
    };
}

names!(
    WeightQuantizer,
    "quantizer",
    Auto = "auto",
    Lsq = "lsq",
    AbsMax = "absmax",
    DoReFa = "dorefa"
);
names!(
    ActivationQuantizer,
    "activation quantizer",
    Auto = "auto",
    Lsq = "lsq",
    Pact = "pact",
    Ema = "ema"
);

/// Bits from which the automatic choice covers the whole range. There a step of the largest value over 127 or 255 rounds
/// finely enough, and a learned one clips: measured on CIFAR-10 and EuroSAT (docs/quantization.md, docs/results.md).
const COVERING_BITS: WeightBits = WeightBits::B8;

/// What quantization-aware training does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QatConfig {
    /// Bits per weight.
    pub weight_bits: WeightBits,
    /// Bits per activation; f32 to quantize weights alone.
    pub activation_bits: ActivationBits,
    /// Bits per weight of the first and the last layer (at least `weight_bits`).
    pub edge_bits: WeightBits,
    /// How weights become integers.
    pub quantizer: WeightQuantizer,
    /// How activations become integers.
    pub activation_quantizer: ActivationQuantizer,
    /// Whether rounding passes gradients. Without, latent weights learn through nothing but their scales: a mistake that
    /// published comparisons contain, kept to show what it costs.
    pub ste: bool,
}

impl QatConfig {
    /// `bits`-bit weights (8 at the edges), 8-bit activations.
    #[must_use]
    pub fn of(bits: WeightBits) -> Self {
        Self {
            weight_bits: bits,
            activation_bits: ActivationBits::B8,
            edge_bits: WeightBits::B8,
            quantizer: WeightQuantizer::default(),
            activation_quantizer: ActivationQuantizer::default(),
            ste: true,
        }
    }

    /// Whether weights alone are quantized.
    #[must_use]
    pub fn has_float_activations(&self) -> bool {
        self.activation_bits == ActivationBits::Float
    }

    /// The same, automatic choices made.
    #[must_use]
    pub fn chosen(self) -> Self {
        let quantizer = match self.quantizer {
            WeightQuantizer::Auto if self.weight_bits >= COVERING_BITS => WeightQuantizer::AbsMax,
            WeightQuantizer::Auto => WeightQuantizer::Lsq,
            chosen => chosen,
        };
        let covers =
            self.weight_bits >= COVERING_BITS && self.activation_bits >= ActivationBits::B8;
        let activation_quantizer = match self.activation_quantizer {
            ActivationQuantizer::Auto if covers => ActivationQuantizer::Ema,
            ActivationQuantizer::Auto => ActivationQuantizer::Lsq,
            chosen => chosen,
        };
        Self {
            quantizer,
            activation_quantizer,
            ..self
        }
    }

    /// Bits per weight of block `index`.
    pub(super) fn bits_of(&self, program: &Program, index: usize) -> WeightBits {
        if program.edges().contains(&index) {
            self.edge_bits.max(self.weight_bits)
        } else {
            self.weight_bits
        }
    }
}

/// Learning rate of the logarithms of steps, in those of the weights. Trained from scratch, weights and activations grow
/// many times over within an epoch; at the weights' own rate Adam moves a logarithm by 0.001 a step, the ranges lag behind
/// and clip. Measured on EuroSAT (docs/results.md).
const STEP_RATE: f32 = 10.0;

/// Steps tried when a scale is first chosen.
const CANDIDATES: u32 = 40;

/// The scale with the smallest squared rounding error among fractions of the one that just covers `largest`.
///
/// `quantized` rounds and clips one value at a scale.
fn best_scale(
    values: impl Iterator<Item = f32> + Clone,
    covering: f32,
    quantized: impl Fn(f32, f32) -> f32,
) -> f32 {
    let error = |scale: f32| -> f64 {
        let squares = values
            .clone()
            .map(|x| f64::from(quantized(x, scale) - x).powi(2));
        squares.sum()
    };
    let scales = (1..=CANDIDATES).map(|step| covering * step as f32 / CANDIDATES as f32);
    let best = scales
        .map(|scale| (error(scale), scale))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(covering, |(_, scale)| scale)
}
