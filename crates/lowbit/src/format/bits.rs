//! Integers of 16, 8, 4, 2 or 1 bit in bytes: the layout on disk.
//!
//! Row by row (a row is an output channel), each row filled up to whole bytes. The first element of a byte stands in its
//! lowest bits. 16 bits (little-endian), 8, 4 and 2 hold two's complement, of odd integers q that of (q − 1) / 2; 1 bit holds
//! the sign: 0 for +1, 1 for −1.

use crate::bits::WeightBits;

/// Returns the bytes of one row of `elements`.
#[must_use]
pub fn packed_len(elements: usize, bits: WeightBits) -> usize {
    (elements * usize::from(bits.get())).div_ceil(8)
}

/// Packs one row.
#[must_use]
pub fn pack_bits(row: &[i16], bits: WeightBits) -> Vec<u8> {
    if bits == WeightBits::B16 {
        return row.iter().flat_map(|q| q.to_le_bytes()).collect();
    }
    let width = bits.get();
    let mask = 0xff_u8 >> (8 - width);
    let code = |q: i16| match bits {
        WeightBits::B1 => u8::from(q < 0),
        WeightBits::B2 | WeightBits::Odd4 => (q >> 1) as u8 & mask,
        WeightBits::Ternary | WeightBits::B4 | WeightBits::B8 | WeightBits::B16 => q as u8 & mask,
    };
    let byte = |group: &[i16]| {
        let codes = group.iter().enumerate();
        codes.fold(0u8, |byte, (position, &q)| {
            byte | code(q) << (position as u8 * width)
        })
    };
    row.chunks(usize::from(8 / width)).map(byte).collect()
}

/// Unpacks one row of `elements`.
///
/// # Panics
/// If `bytes` is too short.
#[must_use]
pub fn unpack_bits(bytes: &[u8], elements: usize, bits: WeightBits) -> Vec<i16> {
    if bits == WeightBits::B16 {
        let pairs = bytes[..2 * elements].chunks_exact(2);
        return pairs
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
    }
    let width = bits.get();
    let per_byte = usize::from(8 / width);
    (0..elements)
        .map(|index| {
            let code = bytes[index / per_byte] >> (index % per_byte * usize::from(width));
            let signed = i16::from((code << (8 - width)) as i8 >> (8 - width));
            match bits {
                WeightBits::B1 => 1 - 2 * i16::from(code & 1),
                WeightBits::B2 | WeightBits::Odd4 => 2 * signed + 1,
                WeightBits::Ternary | WeightBits::B4 | WeightBits::B8 | WeightBits::B16 => signed,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_survive_packing(bits in prop::sample::select([&WeightBits::ALL[..], &[WeightBits::Odd4, WeightBits::Ternary]].concat()), row in prop::collection::vec(any::<i16>(), 0..70)) {
            let limit = i32::from(bits.magnitude_max());
            let row: Vec<i16> = row
                .iter()
                .map(|&q| match bits {
                    WeightBits::B1 => if q < 0 { -1 } else { 1 },
                    _ if bits.is_odd() => (i32::from(q).rem_euclid(limit + 1) * 2 - limit) as i16,
                    _ => (i32::from(q).rem_euclid(2 * limit + 1) - limit) as i16,
                })
                .collect();
            let packed = pack_bits(&row, bits);
            prop_assert_eq!(packed.len(), packed_len(row.len(), bits));
            prop_assert_eq!(unpack_bits(&packed, row.len(), bits), row);
        }
    }

    #[test]
    fn the_first_element_stands_in_the_lowest_bits() {
        assert_eq!(pack_bits(&[1, -1, 7], WeightBits::B4), [0xf1, 0x07]);
        assert_eq!(
            pack_bits(&[1, -1, 0, 1, -1], WeightBits::Ternary),
            [0b01_00_11_01, 0b11]
        );
        assert_eq!(
            pack_bits(&[1, -1, 3, -3, -1], WeightBits::B2),
            [0b10_01_11_00, 0b11]
        );
        assert_eq!(pack_bits(&[1, -15, 15], WeightBits::Odd4), [0x80, 0x07]);
        assert_eq!(
            pack_bits(&[1, -1, -1, 1, 1, 1, 1, 1, -1], WeightBits::B1),
            [0b0000_0110, 1]
        );
        assert_eq!(pack_bits(&[-2, 258], WeightBits::B16), [0xfe, 0xff, 2, 1]);
    }
}
