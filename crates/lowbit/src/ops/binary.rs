//! Functions of two inputs' elements.

use super::Operator;
use crate::shape::Shape;

pub(super) struct Add;

impl Operator for Add {
    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match inputs[0] == inputs[1] {
            true => Ok(inputs[0]),
            false => Err(format!("it adds {} to {}", inputs[0], inputs[1])),
        }
    }
}

pub(super) struct Mul;

impl Operator for Mul {
    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let [a, b] = [inputs[0], inputs[1]];
        let is_per_channel = b.is_vector() && b.c() == a.c();
        match a == b || is_per_channel {
            true => Ok(a),
            false => Err(format!(
                "it multiplies {a} with {b}: use the same shape, or one factor per channel"
            )),
        }
    }
}
