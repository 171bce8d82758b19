//! Bit widths, parsed once at the border: past it, a width that does not exist cannot be written down.

use lowbit_kernels::WeightWidth;
use serde::{Deserialize, Serialize};

/// A width that there is none of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}-bit {what}: use {allowed}")]
#[non_exhaustive]
pub struct BitsError {
    /// The width asked for.
    pub found: String,
    /// Weights or activations.
    pub what: &'static str,
    /// What there is.
    pub allowed: &'static str,
}

/// Bits of a packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum WeightBits {
    /// −1 and 1, by sign.
    B1,
    /// −1 to 1.
    B2,
    /// −7 to 7.
    B4,
    /// −127 to 127.
    B8,
    /// −32767 to 32767.
    B16,
}

impl WeightBits {
    /// Every width, widest first.
    pub const ALL: [Self; 5] = [Self::B16, Self::B8, Self::B4, Self::B2, Self::B1];

    /// Returns the number of bits.
    #[must_use]
    pub fn get(self) -> u8 {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
            Self::B16 => 16,
        }
    }

    /// Returns the largest magnitude of a signed symmetric integer: 127 for 8 bits; 1 for 2 and for 1 bit.
    #[must_use]
    pub fn magnitude_max(self) -> i16 {
        match self {
            Self::B1 => 1,
            wider => i16::MAX >> (16 - wider.get()),
        }
    }

    pub(crate) fn width(self) -> WeightWidth {
        match self {
            Self::B1 => WeightWidth::Bits1,
            Self::B2 => WeightWidth::Bits2,
            Self::B4 => WeightWidth::Bits4,
            Self::B8 => WeightWidth::Bits8,
            Self::B16 => WeightWidth::Bits16,
        }
    }
}

/// Bits of an activation between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum ActivationBits {
    /// 0 and 1.
    B1,
    /// 0 to 3.
    B2,
    /// 0 to 15.
    B4,
    /// 0 to 255.
    B8,
    /// f32: weights alone are quantized. Files write it as 32.
    Float,
}

impl ActivationBits {
    /// Every width, widest first.
    pub const ALL: [Self; 5] = [Self::Float, Self::B8, Self::B4, Self::B2, Self::B1];

    /// Returns the number of bits that files and tables give; 32 for f32.
    #[must_use]
    pub fn get(self) -> u8 {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
            Self::Float => 32,
        }
    }

    /// Returns the highest level of the unsigned integer: 255 for 8 bits, and for f32, which has none of its own.
    #[must_use]
    pub fn level_max(self) -> u8 {
        match self {
            Self::Float => u8::MAX,
            bits => u8::MAX >> (8 - bits.get()),
        }
    }
}

macro_rules! parsed {
    ($type:ident, $what:literal, $allowed:literal) => {
        impl TryFrom<u8> for $type {
            type Error = BitsError;
            fn try_from(bits: u8) -> Result<Self, BitsError> {
                let known = Self::ALL.into_iter().find(|known| known.get() == bits);
                known.ok_or_else(|| BitsError {
                    found: bits.to_string(),
                    what: $what,
                    allowed: $allowed,
                })
            }
        }

        impl From<$type> for u8 {
            fn from(bits: $type) -> u8 {
                bits.get()
            }
        }

        impl std::str::FromStr for $type {
            type Err = BitsError;
            fn from_str(text: &str) -> Result<Self, BitsError> {
                let known = Self::ALL
                    .into_iter()
                    .find(|known| known.to_string() == text);
                known.ok_or_else(|| BitsError {
                    found: text.to_owned(),
                    what: $what,
                    allowed: $allowed,
                })
            }
        }
    };
}

parsed!(WeightBits, "weights", "16, 8, 4, 2 or 1");
parsed!(ActivationBits, "activations", "8, 4, 2, 1 or float");

impl std::fmt::Display for WeightBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

impl std::fmt::Display for ActivationBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float => f.write_str("float"),
            bits => bits.get().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_that_exist_and_no_other() {
        let weights: Vec<u8> = (0..=255)
            .filter(|&n| WeightBits::try_from(n).is_ok())
            .collect();
        assert_eq!(weights, [1, 2, 4, 8, 16]);
        let activations: Vec<u8> = (0..=255)
            .filter(|&n| ActivationBits::try_from(n).is_ok())
            .collect();
        assert_eq!(activations, [1, 2, 4, 8, 32]);
        let error = WeightBits::try_from(3).unwrap_err().to_string();
        assert_eq!(error, "3-bit weights: use 16, 8, 4, 2 or 1");
    }

    #[test]
    fn names_and_numbers_round_trip() {
        for bits in ActivationBits::ALL {
            assert_eq!(bits.to_string().parse::<ActivationBits>().unwrap(), bits);
            let json = serde_json::to_string(&bits).unwrap();
            assert_eq!(json, bits.get().to_string());
            assert_eq!(serde_json::from_str::<ActivationBits>(&json).unwrap(), bits);
        }
        assert!("16.0".parse::<WeightBits>().is_err());
        assert!(serde_json::from_str::<ActivationBits>("7").is_err());
    }

    #[test]
    fn extremes_are_those_of_the_integers() {
        assert_eq!(
            WeightBits::ALL.map(WeightBits::magnitude_max),
            [32_767, 127, 7, 1, 1]
        );
        assert_eq!(
            ActivationBits::ALL.map(ActivationBits::level_max),
            [255, 255, 15, 3, 1]
        );
    }
}
