//! Weights as bits without gaps, as the scalar twin reads them.
//!
//! A weight of b bits is stored as its two's complement in b bits; of odd weights w it is (w − 1) / 2, so that one bit is the
//! sign of ±1 (set for −1). Kernels
//! unpack in registers, right before the product, so that memory and caches carry b bits a weight:
//!
//! | ISA | order |
//! |---|---|
//! | portable | per output channel, OHWI, lowest bits of a byte first, each channel starting at a byte |
//! | AVX-512 | per vector and step 64 weights `[16 channels, 4 taps]`; weight i of 64 in byte `i mod 8b`, bits from `b·⌊i/8b⌋` on |
//! | AVX-VNNI | per vector and block of 8/b steps 32 bytes `[8 channels, 4 taps]`, step s in bits from `b·s` on |
//! | AVX2 | per vector and block of 16/b steps eight 32-bit words `[8 channels]`, the first tap of a step in the low half, the second in the high half, step s in bits from `b·s` on |
//!
//! Steps and vectors that a layer does not fill are padded with zeros. Odd weights have no zero: layers whose input channels
//! are no multiple of 4 (where a step needs padding) keep the next width in memory.

use crate::{WeightShape, WeightWidth};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{below, stream};
    use crate::width::tests::WIDTHS;

    #[test]
    fn codes_hold_their_bits_a_weight_and_come_back() {
        let shape = WeightShape {
            out_channels: 5,
            kernel_h: 3,
            kernel_w: 3,
            in_channels: 7,
        };
        let mut rng = stream(21, "codes", 0);
        for width in WIDTHS {
            let (low, high) = (*width.range().start(), *width.range().end());
            let span = (i32::from(high) - i32::from(low) + 1) as u32;
            let weights: Vec<i16> = (0..shape.len())
                .map(|_| (i32::from(low) + below(&mut rng, span) as i32) as i16)
                .map(|w| if !width.fits(&[w]) { 1 } else { w })
                .collect();
            let codes = Codes::pack(width, &weights, shape);
            let bits = shape.fan_in() * width.bits() as usize;
            assert_eq!(codes.bytes(), shape.out_channels * bits.div_ceil(8));
            let mut channel = Vec::new();
            for c in 0..shape.out_channels {
                codes.channel(c, &mut channel);
                assert_eq!(channel, weights[c * shape.fan_in()..][..shape.fan_in()]);
            }
        }
    }
}
