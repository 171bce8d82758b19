//! What else belongs to a model's integers: for whoever writes it in another format.

use super::arithmetic::Arithmetic;
use super::requant::bias_steps;
use super::{ActivationParams, QuantizedModel};
use crate::graph::Pixels;

impl QuantizedModel {
    /// Returns what the integers of the image mean.
    #[must_use]
    pub fn image_params(&self) -> ActivationParams {
        self.pixels().params.params
    }

    /// Returns whether the integers of the image are its pixels; if not, each pixel is rounded to the image's grid.
    #[must_use]
    pub fn has_pixels_as_integers(&self) -> bool {
        self.pixels().stand_for_themselves()
    }

    pub(super) fn pixels(&self) -> Pixels {
        Pixels::of_model(&self.graph, self.activations.first().copied().flatten())
    }

    /// Returns by how many steps the image's zero point lies above the real zero: at most ½, and 0 where channels have a
    /// normalization of their own.
    #[must_use]
    pub fn image_residual(&self) -> f64 {
        self.pixels().params.residual
    }

    /// Returns a layer's biases in steps of input times weight, where they are such: of layers with 8-bit weights in a valid
    /// model with [`Arithmetic::IntegerBias`]. What the image's zero point moves is in them.
    #[must_use]
    pub fn bias_steps(&self, layer: usize) -> Option<Vec<i32>> {
        let quantized = self.layers.get(layer)?.as_ref()?;
        if self.arithmetic != Arithmetic::IntegerBias
            || !self.arithmetic.has_bias_steps(quantized.bits)
        {
            return None;
        }
        let program = self.graph.program().ok()?;
        let input = self.input_params(program.steps().get(layer)?.inputs[0])?;
        let channels = quantized.scale.iter().zip(&quantized.bias);
        let steps = channels
            .zip(self.weight_sums(layer))
            .map(|((&scale, &bias), sum)| bias_steps(bias, scale, sum, input) as i32);
        Some(steps.collect())
    }

    /// Returns what the image's zero point adds to a layer's biases, in real units; zeros for layers behind others.
    #[must_use]
    pub fn moved_bias(&self, layer: usize) -> Vec<f64> {
        let Some(quantized) = self.layers.get(layer).and_then(Option::as_ref) else {
            return Vec::new();
        };
        let program = self.graph.program();
        let reads_image = program.is_ok_and(|program| {
            let step = program.steps().get(layer);
            step.is_some_and(|step| step.inputs[0] == 0)
        });
        let residual = match reads_image {
            true => self.image_residual(),
            false => 0.0,
        };
        let s_x = f64::from(self.image_params().scale);
        let channels = quantized.scale.iter().zip(self.weight_sums(layer));
        channels
            .map(|(&scale, sum)| s_x * f64::from(scale) * residual * sum as f64)
            .collect()
    }

    /// Σ q_w per output channel.
    fn weight_sums(&self, layer: usize) -> Vec<i64> {
        let Some(quantized) = &self.layers[layer] else {
            return Vec::new();
        };
        let fan_in = (quantized.weights.len() / quantized.scale.len().max(1)).max(1);
        let channels = quantized.weights.chunks_exact(fan_in);
        channels
            .map(|weights| weights.iter().map(|&w| i64::from(w)).sum())
            .collect()
    }
}
