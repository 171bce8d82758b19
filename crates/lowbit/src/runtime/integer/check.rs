//! Whether a quantized model is one: everything that an executor relies on.

use crate::quant::{Method, QuantizedModel};
use crate::runtime::RuntimeError;
use crate::runtime::plan::Plan;
use lowbit_kernels::packed::WeightWidth;

/// Whether layers and activations are those of the graph.
pub(super) fn check(model: &QuantizedModel, plan: &Plan) -> Result<(), RuntimeError> {
    let blocks = plan.blocks.list();
    let wrong = |layer: &str, reason: String| RuntimeError::Quantization {
        layer: layer.to_owned(),
        reason,
    };
    if model.layers.len() != blocks.len() || model.activations.len() != blocks.len() + 1 {
        let reason = format!("{} layers for {} blocks", model.layers.len(), blocks.len());
        return Err(wrong(model.graph.name(), reason));
    }
    for (index, block) in blocks.iter().enumerate() {
        match (&model.layers[index], block.weight_shape()) {
            (None, None) => {}
            (Some(layer), Some(shape)) => {
                let channels = shape.out_channels;
                if layer.weights.len() != shape.len()
                    || layer.scale.len() != channels
                    || layer.bias.len() != channels
                {
                    return Err(wrong(&block.name, "weights of another shape".into()));
                }
                let width = WeightWidth::of_bits(layer.bits.into());
                let fits = |width: WeightWidth| {
                    layer
                        .weights
                        .chunks_exact(shape.fan_in())
                        .all(|channel| width.fits(channel))
                };
                if !width.is_some_and(fits) {
                    let reason = format!("weights that {} bits cannot hold", layer.bits);
                    return Err(wrong(&block.name, reason));
                }
                let scales = layer.scale.iter().all(|&s| s.is_finite() && s > 0.0);
                if !scales || layer.bias.iter().any(|b| !b.is_finite()) {
                    return Err(wrong(
                        &block.name,
                        "a scale or bias that is not finite".into(),
                    ));
                }
            }
            _ => {
                return Err(wrong(
                    &block.name,
                    "weights where none belong, or none".into(),
                ));
            }
        }
        let last = index + 1 == blocks.len();
        if let (Method::Static, false) = (model.method, last) {
            let valid = model.activations[index + 1]
                .is_some_and(|params| params.scale.is_finite() && params.scale > 0.0);
            if !valid {
                return Err(wrong(&block.name, "no valid activation scale".into()));
            }
        }
        if last && !block.has_weights() {
            return Err(RuntimeError::Unsupported {
                layer: block.name.clone(),
                reason: "the last layer must be a convolution or a linear layer".into(),
            });
        }
    }
    Ok(())
}

/// Whether everything that an executor relies on holds.
pub(crate) fn check_quantized(model: &QuantizedModel) -> Result<(), RuntimeError> {
    check(model, &Plan::new(model.graph.blocks()?)?)
}
