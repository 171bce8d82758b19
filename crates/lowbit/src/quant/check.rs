//! Whether a quantized model is one: everything that an executor and a file rely on.

use super::arithmetic::steps_are_held;
use super::requant::bias_steps;
use super::{ActivationQuant, Arithmetic, FloatLayer, QuantizedLayer, QuantizedModel, product};
use crate::bits::ActivationBits;
use crate::graph::{GraphError, Step};

/// Why the parts of a quantized model do not make one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizedModelError {
    /// The graph itself is unusable.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Lists of other lengths than the graph needs.
    #[error(
        "model {model}: {layers} layers and {activations} activations, its graph needs {steps} and one more"
    )]
    Lengths {
        /// The graph's name.
        model: String,
        /// Layers found.
        layers: usize,
        /// Activations found.
        activations: usize,
        /// Steps of the graph's program.
        steps: usize,
    },
    /// A layer, or its result's parameters, that cannot be used.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// The layer's name.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl QuantizedModel {
    /// Checks that layers and activations are those of the graph, and every number is one that the executors take.
    ///
    /// # Errors
    /// [`QuantizedModelError`] naming the first layer that is not.
    pub fn validate(&self) -> Result<(), QuantizedModelError> {
        let program = self.graph.program()?;
        let steps = program.steps();
        if self.layers.len() != steps.len() || self.activations.len() != steps.len() + 1 {
            return Err(QuantizedModelError::Lengths {
                model: self.graph.name().to_owned(),
                layers: self.layers.len(),
                activations: self.activations.len(),
                steps: steps.len(),
            });
        }
        if self.activations[0].is_some() {
            let wrong = |reason: String| QuantizedModelError::Layer {
                layer: self.graph.nodes()[0].name.clone(),
                reason,
            };
            if self.method != ActivationQuant::Static {
                return Err(wrong(format!(
                    "an activation scale in a {} model",
                    self.method
                )));
            }
            self.check_activation(0).map_err(wrong)?;
        }
        let has_float_activations = self.activation_bits == ActivationBits::Float;
        let outside = self.float.layers.keys().any(|&layer| layer >= steps.len())
            // The image, value 0, is rounded or not by what reads it.
            || self.float.values.iter().any(|&value| value == 0 || value > steps.len());
        if outside {
            return Err(QuantizedModelError::Layer {
                layer: self.graph.name().to_owned(),
                reason: "f32 parts that its graph does not have".into(),
            });
        }
        for (index, step) in steps.iter().enumerate() {
            let wrong = |reason: String| QuantizedModelError::Layer {
                layer: step.name.clone(),
                reason,
            };
            match self.float.layers.get(&index) {
                Some(float) => check_float(step, self.layers[index].as_ref(), float),
                None => check_layer(step, self.layers[index].as_ref()),
            }
            .map_err(wrong)?;
            self.check_bias_steps(index, step).map_err(wrong)?;
            if has_float_activations && self.method != ActivationQuant::WeightOnly {
                return Err(wrong(format!("f32 activations in a {} model", self.method)));
            }
            let is_last = index + 1 == steps.len();
            let is_float = self.float.values.contains(&(index + 1));
            if is_float && (self.method != ActivationQuant::Static || is_last) {
                return Err(wrong(format!(
                    "an f32 value in a {} model, or f32 logits",
                    self.method
                )));
            }
            if is_float && self.activations[index + 1].is_some() {
                return Err(wrong("an activation scale of an f32 value".into()));
            }
            let scaled = self.activations[index + 1].is_some();
            if scaled && self.method != ActivationQuant::Static {
                let method = self.method;
                return Err(wrong(format!("an activation scale in a {method} model")));
            }
            if self.method == ActivationQuant::Static && !is_float && (scaled || !is_last) {
                self.check_activation(index + 1).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Whether biases that are whole steps fit the accumulators.
    fn check_bias_steps(&self, index: usize, step: &Step) -> Result<(), String> {
        if self.arithmetic == Arithmetic::IntegerBias && self.method != ActivationQuant::Static {
            return Err(format!("biases of whole steps in a {} model", self.method));
        }
        let Some(layer) = &self.layers[index] else {
            return Ok(());
        };
        // Without parameters of its input, the model is refused where that is checked.
        let (true, Some(input)) = (
            self.arithmetic.has_bias_steps(layer.bits),
            self.input_params(step.inputs[0]),
        ) else {
            return Ok(());
        };
        let fan_in = (layer.weights.len() / layer.scale.len().max(1)).max(1);
        for (c, weights) in layer.weights.chunks_exact(fan_in).enumerate() {
            let sum = weights.iter().map(|&w| i64::from(w)).sum();
            let steps = bias_steps(layer.bias[c], layer.scale[c], sum, input);
            if !steps_are_held(layer.bits, weights, steps) {
                return Err(format!(
                    "bias {} of channel {c} has {steps} steps, which no accumulator holds",
                    layer.bias[c]
                ));
            }
        }
        Ok(())
    }

    fn check_activation(&self, value: usize) -> Result<(), String> {
        let high = self.activation_bits.level_max();
        match self.activations[value] {
            None => Err("no activation scale".into()),
            Some(params) if !(params.scale.is_finite() && params.scale > 0.0) => Err(format!(
                "activation scale {}, expected a positive number",
                params.scale
            )),
            Some(params) if params.zero_point > high => Err(format!(
                "zero point {}, expected at most {high}",
                params.zero_point
            )),
            Some(_) => Ok(()),
        }
    }
}

fn check_float(
    step: &Step,
    layer: Option<&QuantizedLayer>,
    float: &FloatLayer,
) -> Result<(), String> {
    let Some(shape) = step.weight_shape() else {
        return Err("weights where none belong".into());
    };
    if layer.is_some() {
        return Err("weights of integers and of f32".into());
    }
    for (what, found, expected) in [
        ("weights", float.weights.len(), shape.len()),
        ("biases", float.bias.len(), shape.out_channels),
    ] {
        if found != expected {
            return Err(format!("{found} {what}, expected {expected}"));
        }
    }
    Ok(())
}

fn check_layer(step: &Step, layer: Option<&QuantizedLayer>) -> Result<(), String> {
    let (layer, shape) = match (layer, step.weight_shape()) {
        (None, None) => return Ok(()),
        (Some(layer), Some(shape)) => (layer, shape),
        (Some(_), None) => return Err("weights where none belong".into()),
        (None, Some(_)) => return Err("no weights".into()),
    };
    let channels = shape.out_channels;
    for (what, found, expected) in [
        ("weights", layer.weights.len(), shape.len()),
        ("scales", layer.scale.len(), channels),
        ("biases", layer.bias.len(), channels),
    ] {
        if found != expected {
            return Err(format!("{found} {what}, expected {expected}"));
        }
    }
    product::check(layer.bits, &layer.weights, shape)?;
    if let Some(c) = layer
        .scale
        .iter()
        .position(|&s| !(s.is_finite() && s > 0.0))
    {
        let scale = layer.scale[c];
        return Err(format!(
            "scale {scale} of channel {c}, expected a positive number"
        ));
    }
    if let Some(c) = layer.bias.iter().position(|b| !b.is_finite()) {
        return Err(format!(
            "bias {} of channel {c}, expected a finite number",
            layer.bias[c]
        ));
    }
    Ok(())
}
