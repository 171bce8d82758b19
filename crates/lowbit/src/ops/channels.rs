//! Operators that move channels and compute nothing.

use super::{Arity, Nature, Operator};
use crate::shape::Shape;

pub(super) struct Concat;

impl Operator for Concat {
    fn nature(&self) -> Nature {
        Nature::MOVES
    }

    fn arity(&self) -> Arity {
        Arity::AtLeast(1)
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let first = inputs[0];
        let other = inputs
            .iter()
            .find(|input| input.with_channels(first.c()) != first);
        if let Some(other) = other {
            return Err(format!(
                "it concatenates the channels of {first} and {other}: all other extents must be the same"
            ));
        }
        let channels = inputs
            .iter()
            .fold(0, |sum: usize, input| sum.saturating_add(input.c()));
        Ok(first.with_channels(channels))
    }
}

/// Attributes of a channel shuffle (Zhang et al. 2018): the channels as a matrix of `groups` rows, transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelShuffle {
    /// Parts of the channels of which each gives every `groups`-th one.
    pub groups: usize,
}

impl ChannelShuffle {
    /// Returns the input channel that becomes channel `channel` of `channels`.
    #[must_use]
    pub fn source(&self, channel: usize, channels: usize) -> usize {
        channel % self.groups * (channels / self.groups) + channel / self.groups
    }
}

impl Operator for ChannelShuffle {
    fn nature(&self) -> Nature {
        Nature::MOVES
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let (c, groups) = (inputs[0].c(), self.groups);
        match groups > 0 && c.is_multiple_of(groups) {
            true => Ok(inputs[0]),
            false => Err(format!("{groups} groups do not divide {c} channels")),
        }
    }
}

/// Attributes of a slice of the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first channel that is kept.
    pub first: usize,
    /// How many are kept.
    pub channels: usize,
}

impl Operator for Slice {
    fn nature(&self) -> Nature {
        Nature::MOVES
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let (c, Self { first, channels }) = (inputs[0].c(), *self);
        match channels > 0 && first.checked_add(channels).is_some_and(|end| end <= c) {
            true => Ok(inputs[0].with_channels(channels)),
            false => Err(format!(
                "it takes {channels} channels from channel {first} on, of {c}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_add_up_and_other_extents_must_agree() {
        let of = |h, w, c| Shape::new(h, w, c);
        let inputs = [of(4, 3, 5), of(4, 3, 1), of(4, 3, 7)];
        assert_eq!(Concat.infer(&inputs), Ok(of(4, 3, 13)));
        let error = Concat.infer(&[of(4, 3, 5), of(3, 4, 5)]).unwrap_err();
        assert!(error.contains("4×3×5 and 3×4×5"), "{error}");
        assert!(Concat.infer(&[of(1, 1, 5), Shape::vector(5)]).is_err());
    }

    #[test]
    fn a_shuffle_is_a_transposed_matrix_of_channels() {
        let shuffle = ChannelShuffle { groups: 2 };
        let sources: Vec<usize> = (0..6).map(|c| shuffle.source(c, 6)).collect();
        assert_eq!(sources, [0, 3, 1, 4, 2, 5]);
        let shuffle = ChannelShuffle { groups: 3 };
        let sources: Vec<usize> = (0..6).map(|c| shuffle.source(c, 6)).collect();
        assert_eq!(sources, [0, 2, 4, 1, 3, 5]);
        let input = [Shape::new(2, 2, 6)];
        assert_eq!(shuffle.infer(&input), Ok(input[0]));
        assert!(ChannelShuffle { groups: 4 }.infer(&input).is_err());
        assert!(ChannelShuffle { groups: 0 }.infer(&input).is_err());
    }

    #[test]
    fn a_slice_lies_within_the_channels() {
        let input = [Shape::new(2, 2, 6)];
        let slice = |first, channels| Slice { first, channels }.infer(&input);
        assert_eq!(slice(2, 4), Ok(Shape::new(2, 2, 4)));
        for (first, channels) in [(3, 4), (0, 0), (usize::MAX, 2), (6, 1)] {
            assert!(slice(first, channels).unwrap_err().contains("of 6"));
        }
    }
}
