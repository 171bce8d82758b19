//! Shapes of activations.

use serde::{Deserialize, Serialize};

/// The extents of one image's activation, of rank 1 to 4, outermost first: `[c]`, `[w, c]`, `[h, w, c]` or `[d, h, w, c]`.
/// The batch is not part of it. Extents that a rank does not have count as 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ShapeInFile", into = "ShapeInFile")]
pub struct Shape {
    extents: [usize; 4],
    rank: usize,
}

/// Extents that make no shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a shape has 1 to 4 extents, found {0}")]
pub struct RankError(usize);

impl Shape {
    /// Returns the shape `[h, w, c]` of an image.
    #[must_use]
    pub fn new(h: usize, w: usize, c: usize) -> Self {
        Self {
            extents: [1, h, w, c],
            rank: 3,
        }
    }

    /// Returns the shape `[c]` of a vector of features.
    #[must_use]
    pub fn vector(c: usize) -> Self {
        Self {
            extents: [1, 1, 1, c],
            rank: 1,
        }
    }

    /// Returns the shape with these extents, outermost first.
    ///
    /// # Errors
    /// [`RankError`] when there are none, or more than 4.
    pub fn of(extents: &[usize]) -> Result<Self, RankError> {
        if extents.is_empty() || extents.len() > 4 {
            return Err(RankError(extents.len()));
        }
        let mut all = [1; 4];
        all[4 - extents.len()..].copy_from_slice(extents);
        Ok(Self {
            extents: all,
            rank: extents.len(),
        })
    }

    /// Returns the extents, outermost first.
    #[must_use]
    pub fn extents(&self) -> &[usize] {
        &self.extents[4 - self.rank..]
    }

    /// Returns the number of extents.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn h(&self) -> usize {
        self.extents[1]
    }

    /// Returns the number of columns.
    #[must_use]
    pub fn w(&self) -> usize {
        self.extents[2]
    }

    /// Returns the number of channels, the last extent.
    #[must_use]
    pub fn c(&self) -> usize {
        self.extents[3]
    }

    /// Returns the same shape with `c` channels.
    #[must_use]
    pub fn with_channels(mut self, c: usize) -> Self {
        self.extents[3] = c;
        self
    }

    /// Returns the number of elements; `usize::MAX` where that is more than can be counted.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.extents
            .iter()
            .fold(1, |len: usize, &extent| len.saturating_mul(extent))
    }

    /// Whether it has one pixel: a vector, whatever its rank.
    #[must_use]
    pub fn is_vector(&self) -> bool {
        self.len() == self.c()
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let extents: Vec<String> = self.extents().iter().map(usize::to_string).collect();
        f.write_str(&extents.join("×"))
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.extents().fmt(f)
    }
}

/// Images are written by the names of their extents, everything else as a list.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ShapeInFile {
    Image { h: usize, w: usize, c: usize },
    Extents(Vec<usize>),
}

impl From<Shape> for ShapeInFile {
    fn from(shape: Shape) -> Self {
        match shape.rank {
            3 => Self::Image {
                h: shape.h(),
                w: shape.w(),
                c: shape.c(),
            },
            _ => Self::Extents(shape.extents().to_vec()),
        }
    }
}

impl TryFrom<ShapeInFile> for Shape {
    type Error = RankError;
    fn try_from(shape: ShapeInFile) -> Result<Self, RankError> {
        match shape {
            ShapeInFile::Image { h, w, c } => Ok(Self::new(h, w, c)),
            ShapeInFile::Extents(extents) => Self::of(&extents),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_every_rank_know_their_extents_and_survive_json() {
        for (extents, text, json) in [
            (&[5][..], "5", "[5]"),
            (&[7, 5], "7×5", "[7,5]"),
            (&[9, 7, 5], "9×7×5", r#"{"h":9,"w":7,"c":5}"#),
            (&[2, 9, 7, 5], "2×9×7×5", "[2,9,7,5]"),
        ] {
            let shape = Shape::of(extents).unwrap();
            assert_eq!(shape.extents(), extents);
            assert_eq!(shape.c(), 5);
            assert_eq!(shape.len(), extents.iter().product::<usize>());
            assert_eq!(shape.to_string(), text);
            assert_eq!(serde_json::to_string(&shape).unwrap(), json);
            assert_eq!(serde_json::from_str::<Shape>(json).unwrap(), shape);
        }
        assert!(Shape::of(&[]).is_err());
        assert!(serde_json::from_str::<Shape>("[1,1,1,1,1]").is_err());
        assert_eq!(Shape::new(usize::MAX, 2, 1).len(), usize::MAX);
    }
}
