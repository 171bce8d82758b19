//! What a quantized model is made of.

use super::Arithmetic;
use crate::bits::{ActivationBits, WeightBits};
use crate::graph::{Graph, Program};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many scales a tensor of weights has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Granularity {
    /// One for the whole tensor.
    PerTensor,
    /// One per output channel.
    #[default]
    PerChannel,
}

/// When activation ranges are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationQuant {
    /// Before deployment, from calibration images: integers flow between the layers.
    #[default]
    Static,
    /// At run time, per batch: floats flow between the layers.
    Dynamic,
    /// Never: activations stay f32, and the packed weights are widened to f32 when the model is loaded.
    WeightOnly,
}

/// A name that is none of [`ActivationQuant`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown method {0}: use static, dynamic or weight-only")]
pub struct ActivationQuantError(String);

impl std::fmt::Display for ActivationQuant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
            Self::WeightOnly => "weight-only",
        })
    }
}

impl std::str::FromStr for ActivationQuant {
    type Err = ActivationQuantError;
    fn from_str(name: &str) -> Result<Self, ActivationQuantError> {
        let all = [Self::Static, Self::Dynamic, Self::WeightOnly];
        let known = all.into_iter().find(|known| known.to_string() == name);
        known.ok_or_else(|| ActivationQuantError(name.to_owned()))
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
    /// Returns the parameters that cover `[low, high]` and zero with the levels `0..=level_max`.
    #[must_use]
    pub fn covering(low: f32, high: f32, level_max: u8) -> Self {
        let levels = f32::from(level_max);
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / levels).max(f32::MIN_POSITIVE * 1e6);
        let zero_point = (-low / scale).round_ties_even().clamp(0.0, levels) as u8;
        Self { scale, zero_point }
    }

    /// The level that stands for a real number, cut to a byte.
    pub(crate) fn level(self, real: f32) -> u8 {
        let steps = (f64::from(real) / f64::from(self.scale)).round_ties_even();
        (steps + f64::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }
}

/// The quantized weights of one convolution or linear layer, batch-norm folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// Bits per weight.
    pub bits: WeightBits,
    /// Integers, `[out, kernel_h, kernel_w, in]`.
    pub weights: Vec<i16>,
    /// Size of a step per output channel; positive.
    pub scale: Vec<f32>,
    /// Bias per output channel in real units.
    pub bias: Vec<f32>,
}

impl QuantizedLayer {
    /// Returns `scale · q`, `[out, kernel_h, kernel_w, in]`.
    #[must_use]
    pub fn dequantized(&self) -> Vec<f32> {
        let fan_in = self.weights.len() / self.scale.len().max(1);
        let channels = self.weights.chunks_exact(fan_in.max(1)).zip(&self.scale);
        channels
            .flat_map(|(weights, &scale)| weights.iter().map(move |&q| f32::from(q) * scale))
            .collect()
    }
}

/// A convolution or linear layer that stays f32, batch-norm folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatLayer {
    /// Weights, `[out, kernel_h, kernel_w, in]`.
    pub weights: Vec<f32>,
    /// Bias per output channel.
    pub bias: Vec<f32>,
}

/// What of a quantized model stays f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatParts {
    /// Layers with weights of f32, by their step; [`QuantizedModel::layers`] has none there.
    pub layers: BTreeMap<usize, FloatLayer>,
    /// Values of a static model that are not rounded: [`QuantizedModel::activations`] has none there.
    pub values: BTreeSet<usize>,
}

impl FloatParts {
    /// Returns whether everything is quantized.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.values.is_empty()
    }
}

/// A model of packed integers: what is stored, run and shipped.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedModel {
    /// What it computes.
    pub graph: Graph,
    /// When activation ranges are found.
    pub method: ActivationQuant,
    /// How accumulators become a result's steps.
    pub arithmetic: Arithmetic,
    /// One per block of the graph; none for blocks without weights.
    pub layers: Vec<Option<QuantizedLayer>>,
    /// One per value (the image first); none for the logits, for everything in a dynamic or weight-only model, and for the
    /// image where its grid is that of the graph's normalization.
    pub activations: Vec<Option<ActivationParams>>,
    /// Bits per activation.
    pub activation_bits: ActivationBits,
    /// What stays f32.
    pub float: FloatParts,
    /// How it came about, for people: quantizer, observer, calibration images, ...
    pub provenance: BTreeMap<String, String>,
}

impl QuantizedModel {
    /// Weights and bias of a layer as f32, whether it is quantized or not; none where there are no weights.
    #[must_use]
    pub fn real_layer(&self, layer: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        if let Some(float) = self.float.layers.get(&layer) {
            return Some((float.weights.clone(), float.bias.clone()));
        }
        let quantized = self.layers.get(layer)?.as_ref()?;
        Some((quantized.dequantized(), quantized.bias.clone()))
    }

    /// Returns whether the image is rounded to a grid: it is but where layers of f32 alone read it.
    #[must_use]
    pub fn rounds_image(&self, program: &Program) -> bool {
        let mut steps = program.steps().iter().enumerate();
        let is_static = self.method == ActivationQuant::Static;
        is_static
            && steps.any(|(index, step)| {
                step.inputs.contains(&0) && !self.float.layers.contains_key(&index)
            })
    }

    /// Whether a value of a static model is rounded to a grid.
    pub(crate) fn rounds(&self, program: &Program, value: usize) -> bool {
        match value {
            0 => self.rounds_image(program),
            value => !self.float.values.contains(&value),
        }
    }
}
