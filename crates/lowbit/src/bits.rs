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

/// Bits of a packed weight, and the integers that they stand for. Files write the number of bits, of odd integers `odd2` and
/// `odd4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum WeightBits {
    /// −1 and 1, by sign.
    B1,
    /// −1, 0 and 1: three of the four codes of two bits (what others wrote may have −2, too).
    Ternary,
    /// −3, −1, 1 and 3 half steps: all four codes of two bits, without a zero.
    B2,
    /// −7 to 7.
    B4,
    /// The sixteen odd numbers from −15 to 15, of half steps.
    Odd4,
    /// −127 to 127.
    B8,
    /// −32767 to 32767.
    B16,
}

impl WeightBits {
    /// Every number of bits, widest first.
    pub const ALL: [Self; 5] = [Self::B16, Self::B8, Self::B4, Self::B2, Self::B1];

    /// Returns the number of bits.
    #[must_use]
    pub fn get(self) -> u8 {
        match self {
            Self::B1 => 1,
            Self::Ternary | Self::B2 => 2,
            Self::B4 | Self::Odd4 => 4,
            Self::B8 => 8,
            Self::B16 => 16,
        }
    }

    /// Returns the same number of bits on another grid; where a width has but one, the same.
    #[must_use]
    pub fn on(self, grid: WeightGrid) -> Self {
        match (grid, self) {
            (WeightGrid::MidTread, Self::B2) => Self::Ternary,
            (WeightGrid::MidTread, Self::Odd4) => Self::B4,
            (WeightGrid::MidRise, Self::Ternary) => Self::B2,
            (WeightGrid::MidRise, Self::B4) => Self::Odd4,
            (WeightGrid::Auto | WeightGrid::MidTread | WeightGrid::MidRise, same) => same,
        }
    }

    /// Returns whether the integers are odd and two apart.
    #[must_use]
    pub fn is_odd(self) -> bool {
        match self {
            Self::B2 | Self::Odd4 => true,
            Self::B1 | Self::Ternary | Self::B4 | Self::B8 | Self::B16 => false,
        }
    }

    /// Returns the largest magnitude of an integer: 127 for 8 bits; 1 for 2 and for 1 bit; 3 for two odd ones.
    #[must_use]
    pub fn magnitude_max(self) -> i16 {
        match self {
            Self::B1 => 1,
            Self::B2 => 3,
            Self::Odd4 => 15,
            Self::Ternary | Self::B4 | Self::B8 | Self::B16 => i16::MAX >> (16 - self.get()),
        }
    }

    /// Returns the nearest integer to `x`; ties go to an even one, of odd ones to those of 4·n + 1. One bit is a sign.
    pub(crate) fn nearest(self, x: f64) -> f64 {
        // Added to a number below 2⁵¹ in magnitude, it leaves the nearest whole one: without SSE 4.1, which the compiler may not
        // assume, `round_ties_even` is a function call.
        const WHOLE: f64 = 6_755_399_441_055_744.0;
        let limit = f64::from(self.magnitude_max());
        let cut = x.clamp(-limit, limit);
        match self {
            Self::B1 if x < 0.0 => -1.0,
            Self::B1 => 1.0,
            Self::B2 | Self::Odd4 => 2.0 * (((cut - 1.0) / 2.0 + WHOLE) - WHOLE) + 1.0,
            Self::Ternary | Self::B4 | Self::B8 | Self::B16 => (cut + WHOLE) - WHOLE,
        }
    }

    pub(crate) fn width(self) -> WeightWidth {
        match self {
            Self::B1 => WeightWidth::Bits1,
            Self::Ternary => WeightWidth::Bits2,
            Self::B2 => WeightWidth::Odd2,
            Self::B4 => WeightWidth::Bits4,
            Self::Odd4 => WeightWidth::Odd4,
            Self::B8 => WeightWidth::Bits8,
            Self::B16 => WeightWidth::Bits16,
        }
    }
}

/// How a width's integers lie, where there is a choice: at 4 and 2 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WeightGrid {
    /// That which measured better (docs/quantization.md): at 2 bits without a zero, at 4 with one.
    #[default]
    Auto,
    /// Whole steps about zero, as many below it as above: three values at 2 bits, fifteen at 4.
    MidTread,
    /// Odd numbers of half steps, none of them zero: four values at 2 bits, sixteen at 4.
    MidRise,
}

impl WeightGrid {
    pub(crate) fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl std::fmt::Display for WeightGrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::MidTread => "mid-tread",
            Self::MidRise => "mid-rise",
        })
    }
}

impl std::str::FromStr for WeightGrid {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "mid-tread" => Ok(Self::MidTread),
            "mid-rise" => Ok(Self::MidRise),
            _ => Err(format!(
                "unknown grid {text}: use auto, mid-tread or mid-rise"
            )),
        }
    }
}

/// How files write a width.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Bits(u8),
    Name(String),
}

impl From<WeightBits> for Written {
    fn from(bits: WeightBits) -> Self {
        match bits {
            WeightBits::B2 => Self::Name("odd2".into()),
            WeightBits::Odd4 => Self::Name("odd4".into()),
            bits => Self::Bits(bits.get()),
        }
    }
}

impl TryFrom<Written> for WeightBits {
    type Error = BitsError;
    fn try_from(written: Written) -> Result<Self, BitsError> {
        match written {
            // A number was all that there was before there were odd ones.
            Written::Bits(bits) => Self::try_from(bits).map(|bits| bits.on(WeightGrid::MidTread)),
            Written::Name(name) if name == "odd2" => Ok(Self::B2),
            Written::Name(name) if name == "odd4" => Ok(Self::Odd4),
            Written::Name(found) => Err(BitsError {
                found,
                what: "weights",
                allowed: "16, 8, 4, 2, 1, odd4 or odd2",
            }),
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

/// Bits of a weight of a whole model: of one that is packed, or of the one in f32 that the others are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum ModelBits {
    /// Integers of so many bits; files and tables write the number alone.
    Packed(WeightBits),
    /// f32. Files and tables write 32.
    Fp32,
}

impl ModelBits {
    /// Every number of bits, widest first.
    pub const ALL: [Self; 6] = [
        Self::Fp32,
        Self::Packed(WeightBits::B16),
        Self::Packed(WeightBits::B8),
        Self::Packed(WeightBits::B4),
        Self::Packed(WeightBits::B2),
        Self::Packed(WeightBits::B1),
    ];

    /// Returns the number of bits; 32 for f32.
    #[must_use]
    pub fn get(self) -> u8 {
        match self {
            Self::Packed(bits) => bits.get(),
            Self::Fp32 => 32,
        }
    }

    /// Returns the weights' bits where they are packed.
    #[must_use]
    pub fn packed(self) -> Option<WeightBits> {
        match self {
            Self::Packed(bits) => Some(bits),
            Self::Fp32 => None,
        }
    }
}

impl From<WeightBits> for ModelBits {
    fn from(bits: WeightBits) -> Self {
        Self::Packed(bits)
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
parsed!(ModelBits, "weights", "32, 16, 8, 4, 2 or 1");

impl std::fmt::Display for WeightBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

impl std::fmt::Display for ModelBits {
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
        let models: Vec<u8> = (0..=255)
            .filter(|&n| ModelBits::try_from(n).is_ok())
            .collect();
        assert_eq!(models, [1, 2, 4, 8, 16, 32]);
        assert!(ModelBits::ALL.is_sorted_by(|wider, narrower| wider > narrower));
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
        for bits in ModelBits::ALL {
            assert_eq!(bits.to_string().parse::<ModelBits>().unwrap(), bits);
            let json = serde_json::to_string(&bits).unwrap();
            assert_eq!(json, bits.get().to_string());
            assert_eq!(serde_json::from_str::<ModelBits>(&json).unwrap(), bits);
        }
        let odd = [WeightBits::Ternary, WeightBits::Odd4];
        for bits in WeightBits::ALL.into_iter().chain(odd) {
            let json = serde_json::to_string(&bits).unwrap();
            assert_eq!(serde_json::from_str::<WeightBits>(&json).unwrap(), bits);
            assert!(odd.contains(&bits) || bits.to_string().parse() == Ok(bits));
        }
        assert_eq!(
            serde_json::from_str::<WeightBits>("2").unwrap(),
            WeightBits::Ternary
        );
        assert_eq!(serde_json::to_string(&WeightBits::B2).unwrap(), "\"odd2\"");
        assert!(serde_json::from_str::<WeightBits>("\"odd8\"").is_err());
        assert!("16.0".parse::<WeightBits>().is_err());
        assert!(serde_json::from_str::<ActivationBits>("7").is_err());
    }

    #[test]
    fn extremes_are_those_of_the_integers() {
        assert_eq!(
            WeightBits::ALL.map(WeightBits::magnitude_max),
            [32_767, 127, 7, 3, 1]
        );
        assert_eq!(
            ActivationBits::ALL.map(ActivationBits::level_max),
            [255, 255, 15, 3, 1]
        );
    }
}
