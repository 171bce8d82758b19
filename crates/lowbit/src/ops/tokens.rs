//! Operators that move pixels and compute nothing: what vision transformers and mixers need around their products.

use super::{Nature, Operator};
use crate::shape::Shape;

/// Attributes of a reshape: the elements in the same order as an image of these extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Operator for Reshape {
    fn nature(&self) -> Nature {
        Nature::MOVES
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let shape = Shape::new(self.h, self.w, self.c);
        match shape.len() == inputs[0].len() && inputs[0].rank() <= 3 {
            true => Ok(shape),
            false => Err(format!("it makes {shape} of {}", inputs[0])),
        }
    }
}

/// Attributes of a prefix: `[h, w, c]` to `[1, tokens + h·w, c]`, the pixels in row order behind tokens of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Tokens in front.
    pub tokens: usize,
}

impl Operator for Prefix {
    fn nature(&self) -> Nature {
        Nature::MOVES
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let image = inputs[0];
        if image.rank() > 3 {
            return Err("a prefix stands before the pixels of an image".into());
        }
        let pixels = image.h().saturating_mul(image.w());
        Ok(Shape::new(1, self.tokens.saturating_add(pixels), image.c()))
    }
}

/// `[h, w, c]` to `[1, c, h·w]`.
pub(super) struct Transpose;

impl Operator for Transpose {
    fn nature(&self) -> Nature {
        Nature::MOVES
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let image = inputs[0];
        match image.rank() {
            ..=3 => Ok(Shape::new(1, image.c(), image.h() * image.w())),
            _ => Err("an image alone is transposed".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_as_many_as_they_are() {
        let input = [Shape::new(2, 3, 4)];
        let reshape = |h, w, c| Reshape { h, w, c }.infer(&input);
        assert_eq!(reshape(1, 6, 4), Ok(Shape::new(1, 6, 4)));
        assert!(reshape(1, 6, 5).unwrap_err().contains("1×6×5 of 2×3×4"));
        assert!(reshape(0, 6, 4).is_err());
        assert!(reshape(usize::MAX, 2, 1).is_err());
        assert_eq!(Transpose.infer(&input), Ok(Shape::new(1, 4, 6)));
        let prefix = |tokens| Prefix { tokens }.infer(&input).unwrap();
        assert_eq!(prefix(2), Shape::new(1, 8, 4));
        // The graph refuses what has too many elements.
        assert_eq!(prefix(usize::MAX).len(), usize::MAX);
    }
}
