//! Checksums by which the same things are known again: FNV-1a, 64 bits.

use lowbit::Weights;

/// Where a checksum begins.
pub(crate) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on with `bytes` from `start`.
pub(crate) fn fnv(start: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(start, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Goes on with all tensors, their names and values.
pub(crate) fn of_weights(start: u64, weights: &Weights) -> u64 {
    let bytes = weights.iter().flat_map(|(name, tensor)| {
        let values = tensor.data().iter().flat_map(|x| x.to_le_bytes());
        name.bytes().chain(values)
    });
    fnv(start, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_published_for_fnv_1a() {
        // The empty string and "a" (Noll's test vectors).
        assert_eq!(fnv(FNV_START, [].into_iter()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(FNV_START, b"a".iter().copied()), 0xaf63_dc4c_8601_ec8c);
    }
}
