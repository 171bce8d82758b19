//! How many bits a weight has, what they mean and what they may sum up to.

#[cfg(target_arch = "x86_64")]
use crate::WeightShape;
use std::ops::RangeInclusive;

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightWidth {
    /// −1 and 1.
    Bits1,
    /// −2 to 1.
    Bits2,
    /// −3, −1, 1 and 3.
    Odd2,
    /// −8 to 7.
    Bits4,
    /// The odd numbers from −15 to 15.
    Odd4,
    /// −128 to 127.
    Bits8,
    /// −32768 to 32767.
    Bits16,
}

impl WeightWidth {
    /// The width of `bits` bits, in two's complement but for one bit, if there is one.
    #[must_use]
    pub fn of_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::Bits1),
            2 => Some(Self::Bits2),
            4 => Some(Self::Bits4),
            8 => Some(Self::Bits8),
            16 => Some(Self::Bits16),
            _ => None,
        }
    }

    /// Its bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits1 => 1,
            Self::Bits2 | Self::Odd2 => 2,
            Self::Bits4 | Self::Odd4 => 4,
            Self::Bits8 => 8,
            Self::Bits16 => 16,
        }
    }

    /// Whether all weights are odd numbers: none is zero, and the bits b stand for 2·b + 1, b in two's complement.
    #[must_use]
    pub fn is_odd(self) -> bool {
        match self {
            Self::Bits1 | Self::Odd2 | Self::Odd4 => true,
            Self::Bits2 | Self::Bits4 | Self::Bits8 | Self::Bits16 => false,
        }
    }

    /// Lowest and highest weight.
    #[must_use]
    pub fn range(self) -> RangeInclusive<i16> {
        match self {
            Self::Bits1 => -1..=1,
            Self::Bits2 => -2..=1,
            Self::Odd2 => -3..=3,
            Self::Bits4 => -8..=7,
            Self::Odd4 => -15..=15,
            Self::Bits8 => -128..=127,
            Self::Bits16 => i16::MIN..=i16::MAX,
        }
    }

    /// Largest Σ|w| of an output channel for which no product with u8 activations can overflow an accumulator. Only 16
    /// bits come near it (mean |w| of 10,527 at a fan-in of 800): there the scale must be chosen with it in mind.
    #[must_use]
    pub fn max_magnitude_sum(self) -> u64 {
        let accumulator_bits = match self {
            // Unpacked to the top of a byte: 8, 16, 32 and 64 times the weight.
            Self::Odd4 => 28,
            Self::Bits4 => 27,
            Self::Odd2 => 26,
            Self::Bits2 | Self::Bits1 => 25,
            Self::Bits16 | Self::Bits8 => 31,
        };
        ((1 << accumulator_bits) - 1) / 255
    }

    /// Whether the weights of one output channel can be packed at this width.
    #[must_use]
    pub fn fits(self, channel: &[i16]) -> bool {
        let range = self.range();
        let magnitudes: u64 = channel.iter().map(|w| u64::from(w.unsigned_abs())).sum();
        channel.iter().all(|w| range.contains(w))
            && magnitudes <= self.max_magnitude_sum()
            && (!self.is_odd() || channel.iter().all(|w| w % 2 != 0))
    }

    /// A weight's bits.
    pub(crate) fn code(self, weight: i16) -> u32 {
        let value = if self.is_odd() {
            (weight - 1) / 2
        } else {
            weight
        };
        value as u32 & ((1 << self.bits()) - 1)
    }

    /// The weight of some bits.
    pub(crate) fn weight(self, code: u32) -> i16 {
        let unused = 32 - self.bits();
        let value = ((code << unused) as i32 >> unused) as i16;
        if self.is_odd() { 2 * value + 1 } else { value }
    }

    /// The width in memory: odd numbers cannot store the zeros that pad a step of up to 4 taps.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn in_memory(self, shape: &WeightShape) -> Self {
        match self {
            _ if shape.in_channels.is_multiple_of(4) => self,
            Self::Bits1 => Self::Bits2,
            Self::Odd2 => Self::Bits4,
            Self::Odd4 => Self::Bits8,
            other => other,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const WIDTHS: [WeightWidth; 7] = [
        WeightWidth::Bits1,
        WeightWidth::Bits2,
        WeightWidth::Odd2,
        WeightWidth::Bits4,
        WeightWidth::Odd4,
        WeightWidth::Bits8,
        WeightWidth::Bits16,
    ];

    #[test]
    fn every_weight_of_every_width_comes_back_from_its_code() {
        for width in WIDTHS {
            for weight in width.range() {
                if !width.fits(&[weight]) {
                    continue;
                }
                let code = width.code(weight);
                assert!(u64::from(code) < 1 << width.bits());
                assert_eq!(width.weight(code), weight, "{width:?}");
            }
        }
    }

    #[test]
    fn a_channel_that_could_overflow_does_not_fit() {
        assert!(WeightWidth::Bits16.fits(&[32767; 257]));
        assert!(!WeightWidth::Bits16.fits(&[32767; 258]));
        assert!(WeightWidth::Bits4.fits(&[-8; 65_000]));
        assert!(!WeightWidth::Bits4.fits(&[-8; 66_000]));
        assert!(!WeightWidth::Bits4.fits(&[8]));
        assert!(!WeightWidth::Bits1.fits(&[1, 0, -1]));
        assert!(!WeightWidth::Odd2.fits(&[3, 2, -1]));
        assert!(WeightWidth::Odd2.fits(&[-3; 87_000]));
        assert!(!WeightWidth::Odd2.fits(&[-3; 88_000]));
        assert!(WeightWidth::Odd4.fits(&[-15; 70_000]));
        assert!(!WeightWidth::Odd4.fits(&[-15; 70_300]));
    }
}
