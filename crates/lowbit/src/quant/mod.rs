//! Quantization: schemes, observers, quantizers and the passes that make a [`QuantizedModel`] of trained weights.
//!
//! The integer definition of a layer, which post-training quantization, quantization-aware training, evaluation and
//! deployment share, is that of `lowbit_kernels::u8i8`: unsigned asymmetric activations per tensor, signed symmetric
//! weights per output channel, i32 accumulators. With input `x = s_x·(q_x − z_x)` and weights `w[c] = s_w[c]·q_w`,
//!
//! `q_y = clamp(round_ties_even(fma(Σ(q_x − z_x)·q_w, s_x·s_w[c]/s_y, b[c]/s_y)) + z_y)`
//!
//! (Jacob et al. 2018, equations 1–4, with a float multiplier instead of a fixed-point one).

mod calibrate;
mod observers;
mod ptq;
pub mod quantizers;

pub use calibrate::{Calibration, calibrate};
pub use observers::Observer;
pub(crate) use ptq::edges;
pub use ptq::{PtqConfig, QuantError, fold_batch_norm, quantize};

use crate::graph::Graph;
use serde::{Deserialize, Serialize};

/// How many scales a tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// One for the whole tensor.
    PerTensor,
    /// One per output channel.
    PerChannel,
}

/// Width and shape of a quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuantScheme {
    /// Bits per element.
    pub bits: u8,
    /// Scales per tensor.
    pub granularity: Granularity,
    /// Whether the zero point is fixed to zero.
    pub symmetric: bool,
}

impl QuantScheme {
    /// Signed symmetric weights per output channel.
    #[must_use]
    pub fn weights(bits: u8) -> Self {
        Self {
            bits,
            granularity: Granularity::PerChannel,
            symmetric: true,
        }
    }

    /// Unsigned asymmetric activations per tensor.
    #[must_use]
    pub fn activations(bits: u8) -> Self {
        Self {
            bits,
            granularity: Granularity::PerTensor,
            symmetric: false,
        }
    }
}

/// When activation ranges are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Before deployment, from calibration images: integers flow between the layers.
    #[default]
    Static,
    /// At run time, per batch: floats flow between the layers.
    Dynamic,
    /// Never: activations stay f32, and the packed weights are widened to f32 when the model is loaded.
    WeightOnly,
}

/// Bits per activation of [`Method::WeightOnly`].
pub const FLOAT_ACTIVATIONS: u8 = 32;

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
            Self::WeightOnly => "weight-only",
        })
    }
}

impl std::str::FromStr for Method {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "static" => Ok(Self::Static),
            "dynamic" => Ok(Self::Dynamic),
            _ => Err(format!("unknown method {name}: use static or dynamic")),
        }
    }
}

impl QuantizedLayer {
    /// `scale · q`, `[out, kernel_h, kernel_w, in]`.
    #[must_use]
    pub fn dequantized(&self) -> Vec<f32> {
        let fan_in = self.weights.len() / self.scale.len().max(1);
        let channels = self.weights.chunks_exact(fan_in.max(1)).zip(&self.scale);
        channels
            .flat_map(|(weights, &scale)| weights.iter().map(move |&q| f32::from(q) * scale))
            .collect()
    }
}

/// `real = scale · (q − zero_point)` for a u8 `q`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationParams {
    /// Size of a step.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: u8,
}

impl ActivationParams {
    /// The parameters that cover `[low, high]` and zero with the levels of `bits` bits.
    #[must_use]
    pub fn covering(low: f32, high: f32, bits: u8) -> Self {
        let levels = f32::from(level_max(bits));
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / levels).max(f32::MIN_POSITIVE * 1e6);
        let zero_point = (-low / scale).round_ties_even().clamp(0.0, levels) as u8;
        Self { scale, zero_point }
    }
}

/// The highest level of an unsigned integer of `bits` (1 to 8) bits.
#[must_use]
pub fn level_max(bits: u8) -> u8 {
    (u8::MAX) >> (8 - bits.clamp(1, 8))
}

/// The quantized weights of one convolution or linear layer, batch-norm folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// Bits per weight: 16, 8, 4, 2 or 1.
    pub bits: u8,
    /// Integers, `[out, kernel_h, kernel_w, in]`.
    pub weights: Vec<i16>,
    /// Size of a step per output channel; positive.
    pub scale: Vec<f32>,
    /// Bias per output channel in real units.
    pub bias: Vec<f32>,
}

/// A model of packed integers: what is stored, run and shipped.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedModel {
    /// What it computes.
    pub graph: Graph,
    /// When activation ranges are found.
    pub method: Method,
    /// One per block of the graph; none for blocks without weights.
    pub layers: Vec<Option<QuantizedLayer>>,
    /// One per value (the image first); none for the image, the logits, and everything in a dynamic or weight-only model.
    pub activations: Vec<Option<ActivationParams>>,
    /// Bits per activation; [`FLOAT_ACTIVATIONS`] in a weight-only model.
    pub activation_bits: u8,
    /// How it came about, for people: quantizer, observer, calibration images, ...
    pub provenance: std::collections::BTreeMap<String, String>,
}
