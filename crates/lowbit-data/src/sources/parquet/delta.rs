//! Delta encodings: numbers as differences in packed blocks, and strings by such numbers.
//!
//! Apache Parquet, parquet-format's "Encodings": DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY.

/// The most bytes that the strings of one page may make.
const MAX_PAGE_BYTES: usize = 1 << 30;

const EARLY: &str = "a delta-encoded page ends too early";

/// `count` numbers, and how many bytes they took.
pub(super) fn integers(page: &[u8], count: usize) -> Result<(Vec<i64>, usize), String> {
    let mut at = 0;
    let block = varint(page, &mut at)? as usize;
    let minis = varint(page, &mut at)? as usize;
    let total = varint(page, &mut at)? as usize;
    let first = zigzag(page, &mut at)?;
    if total != count
        || minis == 0
        || minis > 1 << 10
        || block > 1 << 20
        || !block.is_multiple_of(minis)
    {
        return Err("the head of a delta-encoded page is damaged".into());
    }
    let per_mini = block / minis;
    if per_mini == 0 || !per_mini.is_multiple_of(8) {
        return Err("the head of a delta-encoded page is damaged".into());
    }
    let mut values = Vec::new();
    let mut last = first;
    if count > 0 {
        values.push(first);
    }
    while values.len() < count {
        let least = zigzag(page, &mut at)?;
        let widths = page.get(at..at + minis).ok_or(EARLY)?;
        at += minis;
        for &bits in widths {
            if values.len() == count {
                break;
            }
            let bits = usize::from(bits);
            if bits > 64 {
                return Err(format!("differences of {bits} bits"));
            }
            let packed = page.get(at..at + per_mini * bits / 8).ok_or(EARLY)?;
            at += packed.len();
            for index in 0..per_mini.min(count - values.len()) {
                let step = least.wrapping_add(packed_at(packed, index * bits, bits) as i64);
                last = last.wrapping_add(step);
                values.push(last);
            }
        }
    }
    Ok((values, at))
}

/// Start and length of `count` strings that stand behind all their lengths.
pub(super) fn lengths(page: &[u8], count: usize) -> Result<Vec<(u32, u32)>, String> {
    let (lengths, mut at) = integers(page, count)?;
    let mut spans = Vec::with_capacity(count);
    for len in lengths {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| at.checked_add(len));
        let end = end.filter(|&end| end <= page.len()).ok_or(EARLY)?;
        spans.push((at as u32, len as u32));
        at = end;
    }
    Ok(spans)
}

/// `count` strings that each begin as the one before did: all of them, and start and length of each.
#[allow(clippy::type_complexity)] // Bytes, and where each string lies in them.
pub(super) fn strings(page: &[u8], count: usize) -> Result<(Vec<u8>, Vec<(u32, u32)>), String> {
    let (prefixes, at) = integers(page, count)?;
    let suffixes = &page[at..];
    let (mut all, mut spans) = (Vec::new(), Vec::with_capacity(count));
    let mut last = 0..0;
    for (prefix, (start, len)) in prefixes.into_iter().zip(lengths(suffixes, count)?) {
        let prefix = usize::try_from(prefix)
            .ok()
            .filter(|&prefix| prefix <= last.len());
        let prefix = prefix.ok_or("a string begins with more than the one before has")?;
        let begin = all.len();
        if begin + prefix + len as usize > MAX_PAGE_BYTES {
            return Err(format!(
                "the strings of a page take more than {MAX_PAGE_BYTES} bytes"
            ));
        }
        all.extend_from_within(last.start..last.start + prefix);
        all.extend_from_slice(&suffixes[start as usize..][..len as usize]);
        last = begin..all.len();
        spans.push((begin as u32, last.len() as u32));
    }
    Ok((all, spans))
}

/// The number of `bits` bits (at most 64) at bit `at`, least significant bit first.
fn packed_at(packed: &[u8], at: usize, bits: usize) -> u64 {
    let bytes = &packed[at / 8..(at + bits).div_ceil(8)];
    let word = (0..bytes.len()).fold(0u128, |sum, i| sum | u128::from(bytes[i]) << (8 * i));
    (word >> (at % 8) & ((1 << bits) - 1)) as u64
}

fn varint(page: &[u8], at: &mut usize) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *page.get(*at).ok_or(EARLY)?;
        *at += 1;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number of too many bytes".into())
}

fn zigzag(page: &[u8], at: &mut usize) -> Result<i64, String> {
    let value = varint(page, at)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_read() {
        // 7, 5, 3, 1, 2, 3, 4, 5: deltas -2 -2 -2 1 1 1 1, least -2, so 0 0 0 3 3 3 3 in two bits.
        let page = [
            128,
            1,
            4,
            8,
            14,
            3,
            2,
            0,
            0,
            0,
            0b1100_0000,
            0b0011_1111,
            0,
            0,
            0,
            0,
            0,
            0,
            99,
        ];
        let (values, len) = integers(&page, 8).expect("reads");
        assert_eq!(values, [7, 5, 3, 1, 2, 3, 4, 5]);
        assert_eq!(len, 18);
    }

    #[test]
    fn strings_share_their_beginnings() {
        // "ab", "abc", "b": prefixes 0 2 0, suffixes "ab" "c" "b".
        let numbers = |values: [u8; 3]| {
            // Steps of 0, 2 and -2 and so on as zigzag bytes relative to a least step of -2, in four bits.
            let step = |a: u8, b: u8| (i16::from(b) - i16::from(a) + 2) as u8;
            let packed = step(values[0], values[1]) | step(values[1], values[2]) << 4;
            let mut bytes = vec![8, 1, 3, 2 * values[0], 3, 4, packed];
            bytes.extend([0; 3]);
            bytes
        };
        let page = [numbers([0, 2, 0]), numbers([2, 1, 1]), b"abcb".to_vec()].concat();
        let (all, spans) = strings(&page, 3).expect("reads");
        let found = spans
            .iter()
            .map(|&(start, len)| &all[start as usize..][..len as usize]);
        assert_eq!(found.collect::<Vec<_>>(), [&b"ab"[..], b"abc", b"b"]);
    }

    #[test]
    fn wild_claims_are_errors() {
        for page in [
            &[][..],
            &[0, 0, 3, 0],
            &[128, 1, 0, 3, 0],
            &[128, 1, 4, 3, 0, 0, 255, 0, 0, 0],
        ] {
            assert!(integers(page, 3).is_err(), "{page:?}");
            assert!(strings(page, 3).is_err(), "{page:?}");
        }
    }
}
