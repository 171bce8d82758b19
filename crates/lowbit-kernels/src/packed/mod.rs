//! Weights narrower than a byte, and wider: how their bits lie in memory.
//!
//! A weight of b bits is stored as its two's complement in b bits; one bit stores the sign of ±1 (set for −1). Kernels
//! unpack in registers, right before the product, so that memory and caches carry b bits a weight:
//!
//! | ISA | order |
//! |---|---|
//! | portable | per output channel, OHWI, lowest bits of a byte first, each channel starting at a byte |
//! | AVX-512 | per vector and step 64 weights `[16 channels, 4 taps]`; weight i of 64 in byte `i mod 8b`, bits from `b·⌊i/8b⌋` on |
//! | AVX-VNNI | per vector and block of 8/b steps 32 bytes `[8 channels, 4 taps]`, step s in bits from `b·s` on |
//! | AVX2 | per vector and block of 16/b steps eight 32-bit words `[8 channels]`, the first tap of a step in the low half, the second in the high half, step s in bits from `b·s` on |
//!
//! Steps and vectors that a layer does not fill are padded with zeros. One bit has no zero: layers whose input channels
//! are no multiple of 4 (where a step needs padding) keep 2 bits in memory.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avxvnni;
#[cfg(test)]
mod tests;

use crate::WeightShape;
#[cfg(target_arch = "x86_64")]
use crate::tiles::Slot;
use std::ops::RangeInclusive;

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightWidth {
    /// −1 and 1.
    Bits1,
    /// −2 to 1.
    Bits2,
    /// −8 to 7.
    Bits4,
    /// −128 to 127.
    Bits8,
    /// −32768 to 32767.
    Bits16,
}

impl WeightWidth {
    /// The width of `bits` bits, if there is one.
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
            Self::Bits2 => 2,
            Self::Bits4 => 4,
            Self::Bits8 => 8,
            Self::Bits16 => 16,
        }
    }

    /// Lowest and highest weight; one bit has nothing between.
    #[must_use]
    pub fn range(self) -> RangeInclusive<i16> {
        match self {
            Self::Bits1 => -1..=1,
            Self::Bits2 => -2..=1,
            Self::Bits4 => -8..=7,
            Self::Bits8 => -128..=127,
            Self::Bits16 => i16::MIN..=i16::MAX,
        }
    }

    /// Largest Σ|w| of an output channel for which no product with u8 activations can overflow an accumulator. Only 16
    /// bits come near it (mean |w| of 10,527 at a fan-in of 800): there the scale must be chosen with it in mind.
    #[must_use]
    pub fn max_magnitude_sum(self) -> u64 {
        let accumulator_bits = match self {
            // Unpacked to the top of a byte: 16 and 64 times the weight.
            Self::Bits4 => 27,
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
            && (self != Self::Bits1 || !channel.contains(&0))
    }

    /// A weight's bits.
    fn code(self, weight: i16) -> u32 {
        match self {
            Self::Bits1 => u32::from(weight < 0),
            _ => weight as u32 & ((1 << self.bits()) - 1),
        }
    }

    /// The weight of some bits.
    fn weight(self, code: u32) -> i16 {
        if self == Self::Bits1 {
            return 1 - 2 * code as i16;
        }
        let unused = 32 - self.bits();
        ((code << unused) as i32 >> unused) as i16
    }

    /// The width in memory where steps take `step_taps` taps: one bit cannot store the zeros that pad a step.
    #[cfg(target_arch = "x86_64")]
    fn in_memory(self, shape: &WeightShape) -> Self {
        if self == Self::Bits1 && !shape.in_channels.is_multiple_of(4) {
            Self::Bits2
        } else {
            self
        }
    }
}

/// Writes a weight as i16 into its slot of a step of two taps.
#[cfg(target_arch = "x86_64")]
pub(crate) fn put_i16(panels: &mut [u8], slot: Slot, weight: i16) {
    let at = slot.block + 4 * slot.lane + 2 * slot.tap;
    panels[at..at + 2].copy_from_slice(&weight.to_ne_bytes());
}

/// Weights packed without gaps in OHWI order, each output channel starting at a byte.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    width: WeightWidth,
    fan_in: usize,
    bytes: Vec<u8>,
}

impl Codes {
    pub(crate) fn pack(width: WeightWidth, weights: &[i16], shape: WeightShape) -> Self {
        let mut codes = Self {
            width,
            fan_in: shape.fan_in(),
            bytes: Vec::new(),
        };
        let bits = width.bits() as usize;
        codes.bytes = vec![0; shape.out_channels * codes.channel_bytes()];
        for (channel, filter) in weights.chunks_exact(codes.fan_in.max(1)).enumerate() {
            for (index, &weight) in filter.iter().enumerate() {
                let code = width.code(weight);
                let at = channel * codes.channel_bytes() + index * bits / 8;
                if bits == 16 {
                    codes.bytes[at..at + 2].copy_from_slice(&(code as u16).to_le_bytes());
                } else {
                    codes.bytes[at] |= (code << (index * bits % 8)) as u8;
                }
            }
        }
        codes
    }

    fn channel_bytes(&self) -> usize {
        (self.fan_in * self.width.bits() as usize).div_ceil(8)
    }

    /// Unpacks the weights of one output channel.
    pub(crate) fn channel(&self, channel: usize, weights: &mut Vec<i16>) {
        let bytes = &self.bytes[channel * self.channel_bytes()..][..self.channel_bytes()];
        let bits = self.width.bits() as usize;
        weights.clear();
        weights.extend((0..self.fan_in).map(|index| {
            let at = index * bits / 8;
            let code = if bits == 16 {
                u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
            } else {
                let mask = (1 << bits) - 1;
                u32::from(bytes[at]) >> (index * bits % 8) & mask
            };
            self.width.weight(code)
        }));
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}
