//! Batch-norm folded into the layer before it.

use super::Step;
use crate::Weights;

/// A step's weights and bias with its batch-norm (running statistics) folded in: `w·γ/σ` and `(b − μ)·γ/σ + β`.
///
/// # Panics
/// If the step has no weights, or they were not checked against the graph.
#[must_use]
pub fn fold_batch_norm(step: &Step, weights: &Weights) -> (Vec<f32>, Vec<f32>) {
    let shape = step
        .weight_shape()
        .expect("only steps with weights are folded");
    let channels = shape.out_channels;
    let mut kernel = weights.slice(&format!("{}.weight", step.name)).to_vec();
    let mut bias = if step.has_bias() {
        weights.slice(&format!("{}.bias", step.name)).to_vec()
    } else {
        vec![0.0; channels]
    };
    if let Some(norm) = &step.epilogue.batch_norm {
        let of = |suffix: &str| weights.slice(&format!("{}.{suffix}", norm.name));
        let (gamma, beta) = (of("weight"), of("bias"));
        let (mean, var) = (of("running_mean"), of("running_var"));
        for c in 0..channels {
            let factor = f64::from(gamma[c]) / (f64::from(var[c]) + f64::from(norm.eps)).sqrt();
            for w in &mut kernel[c * shape.fan_in()..][..shape.fan_in()] {
                *w = (f64::from(*w) * factor) as f32;
            }
            let shifted = (f64::from(bias[c]) - f64::from(mean[c])) * factor;
            bias[c] = (shifted + f64::from(beta[c])) as f32;
        }
    }
    (kernel, bias)
}
