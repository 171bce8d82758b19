//! Batch normalization.

use super::{Nature, OpParameter, Operator, ParameterKind};
use crate::shape::Shape;

/// Attributes of a batch-norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Weight of a new batch in the running statistics.
    pub momentum: f32,
}

impl Default for BatchNorm {
    /// PyTorch's values: 1e-5 and 0.1.
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
        }
    }
}

impl Operator for BatchNorm {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        if !(self.eps.is_finite() && self.eps > 0.0 && (0.0..=1.0).contains(&self.momentum)) {
            return Err("batch-norm needs a positive eps and a momentum in 0..1".into());
        }
        Ok(inputs[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<OpParameter> {
        let of = |suffix, kind| OpParameter {
            suffix,
            shape: vec![inputs[0].c()],
            kind,
            fan_in: 1,
        };
        vec![
            of("weight", ParameterKind::Scale),
            of("bias", ParameterKind::Shift),
            of("running_mean", ParameterKind::RunningMean),
            of("running_var", ParameterKind::RunningVariance),
        ]
    }
}
