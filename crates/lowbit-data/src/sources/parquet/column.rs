//! The values of one column chunk: pages, levels, dictionaries.
//!
//! Specification: apache/parquet-format, README.md (data pages) and Encodings.md (plain, RLE/bit-packed, dictionary).

use std::io::Read;

use super::footer::{Chunk, Codec, Physical};
use super::thrift::{Cursor, Value, structure};

const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const RLE_DICTIONARY: i64 = 8;

/// Snappy's densest copy makes 64 bytes of 3.
const SNAPPY_MAX_RATIO: usize = 22;
/// The largest page accepted.
const MAX_PAGE_BYTES: usize = 1 << 30;

/// One value of a column.
pub(crate) trait Plain: Sized + Clone {
    /// Reads one value stored plainly.
    fn read(cursor: &mut Cursor, physical: Physical) -> Option<Self>;
}

impl Plain for i64 {
    fn read(cursor: &mut Cursor, physical: Physical) -> Option<Self> {
        match physical {
            Physical::Int32 => cursor
                .take(4)
                .and_then(|bytes| Some(i32::from_le_bytes(bytes.try_into().ok()?).into())),
            Physical::Int64 => cursor
                .take(8)
                .and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?))),
            Physical::Bytes => None,
        }
    }
}

impl Plain for Vec<u8> {
    fn read(cursor: &mut Cursor, _: Physical) -> Option<Self> {
        let len = u32::from_le_bytes(cursor.take(4)?.try_into().ok()?);
        cursor.take(len as usize).map(<[u8]>::to_vec)
    }
}

/// All values of the chunk that `bytes` hold; a value that is absent is an error.
pub(crate) fn values<T: Plain>(bytes: &[u8], chunk: &Chunk) -> Result<Vec<T>, String> {
    let mut cursor = Cursor { rest: bytes };
    let mut dictionary: Vec<T> = Vec::new();
    let mut values: Vec<T> = Vec::new();
    while values.len() < chunk.values {
        let header = structure(&mut cursor).ok_or("a page's header is broken")?;
        let size = |field| {
            header
                .field(field)
                .count()
                .filter(|&size| size <= MAX_PAGE_BYTES)
        };
        let (packed, unpacked) = size(3)
            .zip(size(2))
            .ok_or("a page's size is out of range")?;
        let page = cursor.take(packed).ok_or("a page ends too early")?;
        match header.field(1).int() {
            Some(0) => {
                let page = unpack(page, unpacked, chunk.codec)?;
                let (levels, body) = levels_of_v1(&page, chunk, header.field(5))?;
                data(
                    levels,
                    body,
                    header.field(5),
                    2,
                    chunk,
                    &dictionary,
                    &mut values,
                )?;
            }
            Some(2) => {
                let count = header.field(7).field(1).count().unwrap_or(0);
                let page = unpack(page, unpacked, chunk.codec)?;
                let mut plain = Cursor { rest: &page };
                dictionary = (0..count)
                    .map_while(|_| T::read(&mut plain, chunk.physical))
                    .collect();
                if dictionary.len() != count {
                    return Err("a dictionary ends too early".into());
                }
            }
            Some(3) => {
                let head = header.field(8);
                let (levels, body) = levels_of_v2(page, unpacked, chunk, head)?;
                data(levels, &body, head, 4, chunk, &dictionary, &mut values)?;
            }
            _ => {}
        }
    }
    Ok(values)
}

fn unpack(page: &[u8], unpacked: usize, codec: Codec) -> Result<Vec<u8>, String> {
    let bytes = match codec {
        Codec::Plain => page.to_vec(),
        Codec::Snappy => {
            let claimed = snap::raw::decompress_len(page).map_err(|error| error.to_string())?;
            if claimed != unpacked || claimed / SNAPPY_MAX_RATIO > page.len() {
                return Err("a page's size is out of range".into());
            }
            snap::raw::Decoder::new()
                .decompress_vec(page)
                .map_err(|error| error.to_string())?
        }
        Codec::Gzip => {
            let mut bytes = Vec::new();
            flate2::read::MultiGzDecoder::new(page)
                .take(unpacked as u64 + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| error.to_string())?;
            bytes
        }
    };
    match bytes.len() == unpacked {
        true => Ok(bytes),
        false => Err("a page is not as long as it says".into()),
    }
}

/// The definition levels of a page of the first version, with their length before them, and what follows.
fn levels_of_v1<'a>(
    page: &'a [u8],
    chunk: &Chunk,
    header: &Value,
) -> Result<(&'a [u8], &'a [u8]), String> {
    if chunk.optional_levels == 0 {
        return Ok((&[], page));
    }
    if header.field(3).int() != Some(RLE) {
        return Err("a page's levels are in an unknown encoding".into());
    }
    let (len, rest) = page.split_at_checked(4).ok_or("a page ends too early")?;
    let len = len
        .iter()
        .rev()
        .fold(0usize, |len, &byte| len << 8 | usize::from(byte));
    rest.split_at_checked(len)
        .ok_or("a page ends too early".into())
}

/// The definition levels of a page of the second version, which stand uncompressed before the values.
fn levels_of_v2<'a>(
    page: &'a [u8],
    unpacked: usize,
    chunk: &Chunk,
    header: &Value,
) -> Result<(&'a [u8], Vec<u8>), String> {
    let len = header.field(5).count().unwrap_or(0);
    if header.field(6).count().unwrap_or(0) != 0 {
        return Err("a page has repeated values".into());
    }
    let (levels, body) = page.split_at_checked(len).ok_or("a page ends too early")?;
    let codec = match header.field(7) {
        Value::Bool(false) => Codec::Plain,
        _ => chunk.codec,
    };
    let unpacked = unpacked.checked_sub(len).ok_or("a page ends too early")?;
    Ok((levels, unpack(body, unpacked, codec)?))
}

/// Appends the values of one data page; `encoding` is the header's field for it.
fn data<T: Plain>(
    levels: &[u8],
    body: &[u8],
    header: &Value,
    encoding: i16,
    chunk: &Chunk,
    dictionary: &[T],
    values: &mut Vec<T>,
) -> Result<(), String> {
    let count = header
        .field(1)
        .count()
        .filter(|&count| count > 0 && count <= chunk.values - values.len())
        .ok_or("a page's number of values is out of range")?;
    if chunk.optional_levels > 0 {
        let width = u32::BITS - chunk.optional_levels.leading_zeros();
        let present = hybrid(levels, width, count).ok_or("a page's levels are broken")?;
        if let Some(at) = present
            .iter()
            .position(|&level| level != chunk.optional_levels)
        {
            return Err(format!("row {} is empty", values.len() + at));
        }
    }
    match header.field(encoding).int() {
        Some(PLAIN) => {
            let mut cursor = Cursor { rest: body };
            for _ in 0..count {
                let value = T::read(&mut cursor, chunk.physical).ok_or("a page ends too early")?;
                values.push(value);
            }
        }
        Some(PLAIN_DICTIONARY | RLE_DICTIONARY) => {
            let (&width, body) = body.split_first().ok_or("a page ends too early")?;
            let keys = hybrid(body, width.into(), count).ok_or("a page's keys are broken")?;
            for key in keys {
                let value = dictionary
                    .get(key as usize)
                    .ok_or("a key is not in the dictionary")?;
                values.push(value.clone());
            }
        }
        other => {
            return Err(format!(
                "a page's encoding is {}, known are PLAIN and RLE_DICTIONARY",
                other.unwrap_or(-1)
            ));
        }
    }
    Ok(())
}

/// `count` numbers of `width` bits in runs that are either repeated or packed in groups of eight.
fn hybrid(bytes: &[u8], width: u32, count: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut cursor = Cursor { rest: bytes };
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let header = cursor.varint()?;
        let missing = count - numbers.len();
        let run = usize::try_from(header >> 1).ok().filter(|&run| run > 0)?;
        if header & 1 == 0 {
            let value = cursor.take(width.div_ceil(8) as usize)?;
            let value = value
                .iter()
                .rev()
                .fold(0u32, |value, &byte| value << 8 | u32::from(byte));
            numbers.resize(numbers.len() + run.min(missing), value);
        } else {
            let packed = cursor.take(run.checked_mul(width as usize)?)?;
            let here = run.checked_mul(8)?.min(missing);
            numbers.extend((0..here).map(|index| bits(packed, index * width as usize, width)));
        }
    }
    Some(numbers)
}

/// `width` bits of `bytes` from bit `at`, the lowest first.
fn bits(bytes: &[u8], at: usize, width: u32) -> u32 {
    let word = bytes[(at / 8).min(bytes.len())..]
        .iter()
        .take(5)
        .rev()
        .fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    ((word >> (at % 8)) & ((1u64 << width) - 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_and_repeated_runs_alternate() {
        // The specification's example: 0 to 7 in three bits; then five times 6.
        let bytes = [0x03, 0x88, 0xC6, 0xFA, 0x0A, 0x06];
        let numbers = hybrid(&bytes, 3, 13).expect("reads");
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 6, 6, 6, 6, 6]);
        assert_eq!(hybrid(&bytes, 3, 14), None);
        assert_eq!(hybrid(&[0x03], 0, 8), Some(vec![0; 8]));
        assert_eq!(hybrid(&[0x00, 0x00], 1, 1), None);
    }

    #[test]
    fn a_long_run_makes_no_more_than_was_asked_for() {
        let bytes = [0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 1];
        assert_eq!(hybrid(&bytes, 1, 3), Some(vec![1; 3]));
    }
}
