//! Whether a quantized model is one: everything that an executor and a file rely on.

use super::{ActivationQuant, QuantizedLayer, QuantizedModel, product};
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
        let is_float = self.activation_bits == ActivationBits::Float;
        for (index, step) in steps.iter().enumerate() {
            let wrong = |reason: String| QuantizedModelError::Layer {
                layer: step.name.clone(),
                reason,
            };
            check_layer(step, self.layers[index].as_ref()).map_err(wrong)?;
            if is_float && self.method != ActivationQuant::WeightOnly {
                return Err(wrong(format!("f32 activations in a {} model", self.method)));
            }
            let is_last = index + 1 == steps.len();
            if self.method == ActivationQuant::Static && !is_last {
                self.check_activation(index + 1).map_err(wrong)?;
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
