//! Integers of 8, 4, 2 or 1 bits in bytes: the layout on disk.
//!
//! Row by row (a row is an output channel), each row filled up to whole bytes. The first element of a byte stands in its
//! lowest bits. 8, 4 and 2 bits hold two's complement; 1 bit holds the sign: 0 for +1, 1 for −1.

/// Bytes of one row of `elements`.
#[must_use]
pub fn packed_len(elements: usize, bits: u8) -> usize {
    (elements * usize::from(bits)).div_ceil(8)
}

/// Packs one row.
///
/// # Panics
/// If `bits` is not 8, 4, 2 or 1.
#[must_use]
pub fn pack_bits(row: &[i16], bits: u8) -> Vec<u8> {
    assert!([8, 4, 2, 1].contains(&bits), "8, 4, 2 or 1 bits");
    let per_byte = usize::from(8 / bits);
    let mask = 0xff_u8 >> (8 - bits);
    row.chunks(per_byte)
        .map(|group| {
            group.iter().enumerate().fold(0u8, |byte, (position, &q)| {
                let code = if bits == 1 {
                    u8::from(q < 0)
                } else {
                    q as u8 & mask
                };
                byte | code << (position as u8 * bits)
            })
        })
        .collect()
}

/// Unpacks one row of `elements`.
///
/// # Panics
/// If `bits` is not 8, 4, 2 or 1, or `bytes` is too short.
#[must_use]
pub fn unpack_bits(bytes: &[u8], elements: usize, bits: u8) -> Vec<i16> {
    assert!([8, 4, 2, 1].contains(&bits), "8, 4, 2 or 1 bits");
    let per_byte = usize::from(8 / bits);
    (0..elements)
        .map(|index| {
            let code = bytes[index / per_byte] >> (index % per_byte * usize::from(bits));
            match bits {
                1 => 1 - 2 * i16::from(code & 1),
                bits => i16::from((code << (8 - bits)) as i8 >> (8 - bits)),
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
        fn rows_survive_packing(bits in prop::sample::select(vec![8u8, 4, 2, 1]), row in prop::collection::vec(any::<i16>(), 0..70)) {
            let limit = crate::quant::quantizers::magnitude_max(bits);
            let row: Vec<i16> = row
                .iter()
                .map(|&q| match bits {
                    1 => if q < 0 { -1 } else { 1 },
                    _ => q.rem_euclid(2 * limit + 1) - limit,
                })
                .collect();
            let packed = pack_bits(&row, bits);
            prop_assert_eq!(packed.len(), packed_len(row.len(), bits));
            prop_assert_eq!(unpack_bits(&packed, row.len(), bits), row);
        }
    }

    #[test]
    fn the_first_element_stands_in_the_lowest_bits() {
        assert_eq!(pack_bits(&[1, -1, 7], 4), [0xf1, 0x07]);
        assert_eq!(pack_bits(&[1, -1, 0, 1, -1], 2), [0b01_00_11_01, 0b11]);
        assert_eq!(
            pack_bits(&[1, -1, -1, 1, 1, 1, 1, 1, -1], 1),
            [0b0000_0110, 1]
        );
    }
}
