//! Matrix product over the last axis.

use super::{MAX_ELEMENTS, Nature, OpParameter, Operator, ParameterKind};
use crate::shape::Shape;

/// Attributes of a linear layer, which maps the last axis of its input and leaves the others. Weights
/// `[out_features, in_features]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Output features.
    pub out_features: usize,
}

impl Operator for Linear {
    fn nature(&self) -> Nature {
        Nature::BIASED
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let elements = self.out_features.saturating_mul(inputs[0].c());
        if elements == 0 || elements > MAX_ELEMENTS {
            return Err(format!("its weights must have 1..{MAX_ELEMENTS} elements"));
        }
        Ok(inputs[0].with_channels(self.out_features))
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<OpParameter> {
        let fan_in = inputs[0].c();
        let of = |suffix, shape, kind| OpParameter {
            suffix,
            shape,
            kind,
            fan_in,
        };
        vec![
            of(
                "weight",
                vec![self.out_features, fan_in],
                ParameterKind::Weight,
            ),
            of("bias", vec![self.out_features], ParameterKind::Bias),
        ]
    }

    fn macs(&self, inputs: &[Shape], _output: Shape) -> u64 {
        (inputs[0].len() * self.out_features) as u64
    }
}
