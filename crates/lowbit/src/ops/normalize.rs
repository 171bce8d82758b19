//! What each pixel's channels do together.

use super::{Nature, Operator};
use crate::shape::Shape;

pub(super) struct Softmax;

impl Operator for Softmax {
    fn nature(&self) -> Nature {
        Nature::NEVER_NEGATIVE
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }
}

/// Attributes of a layer norm (Ba et al. 2016) over the last axis: `(x − mean) / √(variance + eps)`, without factor and
/// summand, which are an operator of their own ([`Op::affine`](super::Op::affine)) or part of the product behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl Operator for LayerNorm {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match self.eps.is_finite() && self.eps > 0.0 {
            true => Ok(inputs[0]),
            false => Err("layer norm needs a positive eps".into()),
        }
    }
}
