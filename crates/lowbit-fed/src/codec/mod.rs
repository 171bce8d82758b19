//! How numbers become bytes: one file per codec, each with its bounds-checked reverse.
//!
//! A codec sees a flat slice and the lengths of its rows (output channels); it knows no model. docs/wire-format.md has the
//! bytes.

mod dither;
mod grid;
mod hadamard;
mod plain;
mod ternary;
mod uniform;

pub use dither::Dither;
pub use ternary::entropy_bits;

use std::fmt;
use std::str::FromStr;

/// How a message's differences are encoded: what `--up-bits` and `--down-bits` name.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MessageBits {
    /// f32, as they are.
    Float,
    /// 16, 8, 4, 2 or 1 bit a number.
    Uniform(u8),
    /// This share of the numbers, 0–1: position and sign, and one magnitude for all.
    Ternary(f64),
}

impl MessageBits {
    /// The difference between what was meant and what arrives; none for [`MessageBits::Float`].
    #[must_use]
    pub fn loses(self) -> bool {
        self != Self::Float
    }
}

impl fmt::Display for MessageBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => f.write_str("32"),
            Self::Uniform(bits) => write!(f, "{bits}"),
            Self::Ternary(share) => write!(f, "ternary:{}", 100.0 * share),
        }
    }
}

impl FromStr for MessageBits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "message bits {text}: use 32, 16, 8, 4, 2, 1, or ternary:P with 0 < P <= 50 percent, e.g. ternary:1"
            )
        };
        match text {
            "32" => Ok(Self::Float),
            "16" | "8" | "4" | "2" | "1" => Ok(Self::Uniform(text.parse().map_err(|_| refuse())?)),
            _ => {
                let percent = text.strip_prefix("ternary:");
                match percent.and_then(|percent| percent.parse::<f64>().ok()) {
                    Some(percent) if percent > 0.0 && percent <= 50.0 => {
                        Ok(Self::Ternary(percent / 100.0))
                    }
                    _ => Err(refuse()),
                }
            }
        }
    }
}

/// Where a number between two levels goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To either, so that the mean is the number: unbiased; the levels cover every number.
    Stochastic,
    /// To the nearer one. At 1 and 2 bits the step is the one of least squared error, and what lies beyond the levels is
    /// clipped: biased, but never further from the number than zero is, which error feedback needs.
    Nearest,
    /// To the nearer one, for messages that are averaged: at 1 and 2 bits the scale is ‖x‖² / ⟨x, levels⟩, so that what is lost
    /// lies at right angles to what was meant, and the mean over random rotations is the number (Vargaftik et al. 2021, "DRIVE:
    /// One-bit Distributed Mean Estimation", theorem 2; 2022, "EDEN", for more bits). A message alone is further from the
    /// number than by `Nearest` (0.57 against 0.36 of its square at 1 bit), but nothing of it shrinks, and errors of several
    /// senders cancel. Numbers that are not rotated, and blocks of which this would spoil most, are rounded as by `Nearest`.
    NearestUnbiased,
}

/// A codec and its settings, as an entry of a message names them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Codec {
    /// f32, little-endian.
    Plain,
    /// The upper half of an f32, rounded: 8 significant bits.
    Half,
    /// A scale per row, `bits` a number.
    Rows {
        /// 16, 8, 4, 2 or 1.
        bits: u8,
        /// How to round.
        rounding: Rounding,
    },
    /// The same after a randomized Hadamard rotation, with a scale per block.
    Rotated {
        /// 16, 8, 4, 2 or 1.
        bits: u8,
        /// How to round.
        rounding: Rounding,
    },
    /// Positions, signs and one magnitude of the largest ones.
    Ternary {
        /// Share that is kept, 0–1.
        share: f64,
    },
}

/// Bytes of an encoded slice, by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Scales, magnitudes, seeds of rotations.
    pub scales: usize,
    /// The numbers themselves.
    pub codes: usize,
}

/// Why bytes are not an encoded slice.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// No such codec.
    #[error("codec {codec} with {bits} bits is unknown")]
    Unknown {
        /// The codec's number.
        codec: u8,
        /// Its bits.
        bits: u8,
    },
    /// Too few or too many bytes.
    #[error("{found} bytes, expected {expected}")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes that so many numbers take.
        expected: usize,
    },
    /// A number or scale that is not finite, or a negative scale.
    #[error("{what} {index} is {value}")]
    NotFinite {
        /// "number", "scale" or "magnitude".
        what: &'static str,
        /// Which.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// Ternary positions that end outside or in the middle.
    #[error("position {index} of {count} is cut off or beyond the last number")]
    Position {
        /// Which.
        index: usize,
        /// How many were announced.
        count: usize,
    },
}

impl Codec {
    /// Number and bits, as an entry's header has them.
    #[must_use]
    pub fn id(self) -> (u8, u8) {
        match self {
            Self::Plain => (0, 32),
            Self::Rows { bits, .. } => (1, bits),
            Self::Rotated { bits, .. } => (2, bits),
            Self::Ternary { .. } => (3, 0),
            Self::Half => (4, 16),
        }
    }

    /// Appends `values`, whose rows have the lengths `rows`. Numbers that are not finite give bytes that [`decode`] refuses.
    pub fn encode(
        self,
        values: &[f32],
        rows: impl Iterator<Item = usize>,
        dither: &mut Dither,
        out: &mut Vec<u8>,
    ) -> Lengths {
        match self {
            Self::Plain => plain::encode(values, out),
            Self::Half => plain::encode_half(values, out),
            Self::Rows { bits, rounding } => {
                uniform::encode(bits, rounding, values, rows, dither, out)
            }
            Self::Rotated { bits, rounding } => {
                uniform::encode_rotated(bits, rounding, values, dither, out)
            }
            Self::Ternary { share } => ternary::encode(share, values, out),
        }
    }
}

/// Reads `values.len()` numbers whose rows have the lengths `rows`. Nothing is allocated but a bounded scratch.
///
/// # Errors
/// [`CodecError`] for bytes that no encoder wrote; `values` may then hold anything.
pub fn decode(
    (codec, bits): (u8, u8),
    body: &[u8],
    rows: impl Iterator<Item = usize> + Clone,
    values: &mut [f32],
) -> Result<Lengths, CodecError> {
    match (codec, bits) {
        (0, 32) => plain::decode(body, values),
        (4, 16) => plain::decode_half(body, values),
        (1, 16 | 8 | 4 | 2 | 1) => uniform::decode(bits, body, rows, values),
        (2, 16 | 8 | 4 | 2 | 1) => uniform::decode_rotated(bits, body, values),
        (3, 0) => ternary::decode(body, values),
        _ => Err(CodecError::Unknown { codec, bits }),
    }
}

#[cfg(test)]
mod tests;
