//! Functions of two inputs' elements.

use super::{Arity, Nature, Operator};
use crate::shape::Shape;

/// Whether `b` has one number for each channel of `a`.
fn is_per_channel(a: Shape, b: Shape) -> bool {
    b.is_vector() && b.c() == a.c()
}

pub(super) struct Add;

impl Operator for Add {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let [a, b] = [inputs[0], inputs[1]];
        match a == b || is_per_channel(a, b) {
            true => Ok(a),
            false => Err(format!(
                "it adds {b} to {a}: use the same shape, or one summand per channel behind the image"
            )),
        }
    }
}

pub(super) struct Mul;

impl Operator for Mul {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let [a, b] = [inputs[0], inputs[1]];
        match a == b || is_per_channel(a, b) {
            true => Ok(a),
            false => Err(format!(
                "it multiplies {a} with {b}: use the same shape, or one factor per channel"
            )),
        }
    }
}
