//! One column of one row group: from its pages to values.
//!
//! Pages of version 1 and 2, in every encoding that a writer chooses for these types. Each row has exactly one value, in a
//! list or not. Apache Parquet, parquet-format's "Data Pages" and "Encodings".

use super::codecs::unpack;
use super::delta;
use super::thrift::{self, Value};

/// A column chunk's bytes and what the footer says about them.
pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) codec: i64,
    /// The definition level of a value that is there; 0 where none can be missing.
    pub(super) max_definition: u32,
    /// Whether the values lie in lists.
    pub(super) listed: bool,
    /// Values that the row group has.
    pub(super) rows: usize,
}

/// Byte strings and the decompressed pages that they lie in.
pub(super) struct Binaries {
    pages: Vec<Vec<u8>>,
    values: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    page: u32,
    start: u32,
    len: u32,
}

impl Binaries {
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        let span = self.values.get(row)?;
        self.pages[span.page as usize]
            .get(span.start as usize..)?
            .get(..span.len as usize)
    }
}

/// How a page's values are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Runs,
    Delta,
    DeltaLengths,
    DeltaStrings,
    SplitBytes,
}

impl Encoding {
    fn of(number: i64) -> Result<Self, String> {
        Ok(match number {
            0 => Self::Plain,
            3 => Self::Runs,
            5 => Self::Delta,
            6 => Self::DeltaLengths,
            7 => Self::DeltaStrings,
            9 => Self::SplitBytes,
            other => return Err(format!("the encoding {other} is not read")),
        })
    }
}

const SEVERAL: &str = "a row has a list of several, where one is wanted";
const MISPLACED: &str = "an encoding that its values cannot have";

/// The byte strings of a `BYTE_ARRAY` column, one for each row.
pub(super) fn binaries(chunk: &Chunk) -> Result<Binaries, String> {
    let mut pages: Vec<Vec<u8>> = Vec::new();
    let values = values(chunk, |encoding, page, count| {
        let (page, ends) = match encoding {
            Encoding::Plain => {
                let spans = prefixed(&page, count)?;
                (page, spans)
            }
            Encoding::DeltaLengths => {
                let spans = delta::lengths(&page, count)?;
                (page, spans)
            }
            Encoding::DeltaStrings => delta::strings(&page, count)?,
            _ => return Err(MISPLACED.into()),
        };
        let place = pages.len() as u32;
        let spans = ends.into_iter().map(|(start, len)| Span {
            page: place,
            start,
            len,
        });
        let spans = spans.collect();
        pages.push(page);
        Ok(spans)
    })?;
    Ok(Binaries { pages, values })
}

/// Start and length of `count` strings that each stand behind their length.
fn prefixed(page: &[u8], count: usize) -> Result<Vec<(u32, u32)>, String> {
    let mut spans = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let len = word(page, at)?;
        let start = at + 4;
        at = start + len as usize;
        if at > page.len() {
            return Err("a value ends beyond its page".into());
        }
        spans.push((start as u32, len));
    }
    Ok(spans)
}

/// The type of a column of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Bool,
    I32,
    I64,
    F32,
    F64,
}

impl Number {
    fn width(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    fn of(self, bytes: &[u8]) -> Result<i64, String> {
        let four = || std::array::from_fn(|i| bytes[i]);
        let eight = || std::array::from_fn(|i| bytes[i]);
        let value = match self {
            Self::Bool => return Ok(i64::from(bytes[0])),
            Self::I32 => return Ok(i64::from(i32::from_le_bytes(four()))),
            Self::I64 => return Ok(i64::from_le_bytes(eight())),
            Self::F32 => f64::from(f32::from_le_bytes(four())),
            Self::F64 => f64::from_le_bytes(eight()),
        };
        match value.fract() == 0.0 && value.abs() < 1e9 {
            true => Ok(value as i64),
            false => Err(format!("{value} is no whole number")),
        }
    }
}

/// The whole numbers of a column, one for each row.
pub(super) fn numbers(chunk: &Chunk, kind: Number) -> Result<Vec<i64>, String> {
    let short = || "a page holds fewer values than it claims".to_string();
    values(chunk, |encoding, page, count| {
        let width = kind.width();
        let page = match (encoding, kind) {
            (Encoding::Plain, Number::Bool) => {
                let bit = |at: usize| packed_at(&page, at, 1).map(|bit| bit as u8);
                (0..count)
                    .map(bit)
                    .collect::<Option<_>>()
                    .ok_or_else(short)?
            }
            (Encoding::Runs, Number::Bool) => {
                let bits = hybrid(page.get(4..).ok_or_else(short)?, 1, count)?;
                bits.into_iter().map(|bit| bit as u8).collect()
            }
            (Encoding::Plain, _) => page,
            (Encoding::Delta, Number::I32 | Number::I64) => {
                let (values, _) = delta::integers(&page, count)?;
                let narrow = |value: i64| match kind {
                    Number::I32 => i64::from(value as i32),
                    _ => value,
                };
                return Ok(values.into_iter().map(narrow).collect());
            }
            (Encoding::SplitBytes, _) if kind != Number::Bool && page.len() >= count * width => {
                let planes = page.len() / width;
                let bytes = (0..count).flat_map(|at| (0..width).map(move |b| b * planes + at));
                bytes.map(|at| page[at]).collect()
            }
            _ => return Err(MISPLACED.into()),
        };
        if page.len() / width < count {
            return Err(short());
        }
        let values = page.chunks_exact(width).take(count);
        values.map(|bytes| kind.of(bytes)).collect()
    })
}

/// Reads all pages; `read` turns a page of that many values into them.
fn values<T: Copy>(
    chunk: &Chunk,
    mut read: impl FnMut(Encoding, Vec<u8>, usize) -> Result<Vec<T>, String>,
) -> Result<Vec<T>, String> {
    let mut rest = chunk.bytes;
    let mut dictionary = Vec::new();
    let mut values = Vec::new();
    while values.len() < chunk.rows {
        let (header, header_len) = thrift::read(rest).map_err(|e| format!("a page header: {e}"))?;
        rest = &rest[header_len..];
        let body_len = header.size(3).filter(|&len| len <= rest.len());
        let (body, after) = rest.split_at(body_len.ok_or("a page ends beyond its column")?);
        rest = after;
        match header.int(1) {
            Some(2) => {
                let about = header
                    .get(7)
                    .ok_or("a dictionary page without its header")?;
                let count = about.size(1).ok_or("a dictionary without a size")?;
                let page = unpack(chunk.codec, body, size_of_page(&header)?)?;
                dictionary = read(Encoding::Plain, page, count)?;
            }
            Some(0 | 3) => {
                let page = data_page(chunk, &header, body, chunk.rows - values.len())?;
                match page.encoding {
                    2 | 8 => values.extend(looked_up(&dictionary, &page)?),
                    other => values.extend(read(Encoding::of(other)?, page.values, page.count)?),
                }
            }
            Some(1) => {}
            other => return Err(format!("a page of the unknown kind {other:?}")),
        }
    }
    Ok(values)
}

struct DataPage {
    /// The values alone, without the levels before them.
    values: Vec<u8>,
    count: usize,
    encoding: i64,
}

fn data_page(chunk: &Chunk, header: &Value, body: &[u8], left: usize) -> Result<DataPage, String> {
    let size = size_of_page(header)?;
    let second = header.int(1) == Some(3);
    let about = header.get(if second { 8 } else { 5 });
    let about = about.ok_or("a data page without its header")?;
    let count = about.size(1).filter(|&count| count > 0 && count <= left);
    let count = count.ok_or(match chunk.listed {
        true => SEVERAL,
        false => "a page claims more values than the row group has",
    })?;
    let encoding = about.int(if second { 4 } else { 2 });
    let encoding = encoding.ok_or("a data page without an encoding")?;
    let values = if second {
        let repetition_len = about.size(6).unwrap_or(0);
        let level_len = about.size(5).unwrap_or(0);
        let levels_end = repetition_len.checked_add(level_len);
        let levels_end = levels_end.filter(|&end| end <= body.len() && end <= size);
        let levels_end = levels_end.ok_or("levels end beyond their page")?;
        one_each(chunk, &body[..repetition_len.min(levels_end)], count)?;
        all_defined(chunk, &body[repetition_len..levels_end], count)?;
        let codec = match about.bool(7) {
            Some(false) => 0,
            _ => chunk.codec,
        };
        unpack(codec, &body[levels_end..], size - levels_end)?
    } else {
        let mut page = unpack(chunk.codec, body, size)?;
        if chunk.listed {
            let len = one_each(chunk, leveled(&page)?, count)?;
            page.drain(..4 + len);
        }
        if chunk.max_definition > 0 {
            let len = all_defined(chunk, leveled(&page)?, count)?;
            page.drain(..4 + len);
        }
        page
    };
    Ok(DataPage {
        values,
        count,
        encoding,
    })
}

/// Levels that stand behind their length.
fn leveled(page: &[u8]) -> Result<&[u8], String> {
    let len = word(page, 0)? as usize;
    let levels = page.get(4..).and_then(|rest| rest.get(..len));
    levels.ok_or_else(|| "levels end beyond their page".into())
}

/// Refuses lists of several values; returns how many bytes the levels take.
fn one_each(chunk: &Chunk, levels: &[u8], count: usize) -> Result<usize, String> {
    if chunk.listed && hybrid(levels, 1, count)?.iter().any(|&level| level != 0) {
        return Err(SEVERAL.into());
    }
    Ok(levels.len())
}

/// Refuses missing values: an image without bytes or label is no use. Returns how many bytes the levels take.
fn all_defined(chunk: &Chunk, levels: &[u8], count: usize) -> Result<usize, String> {
    if chunk.max_definition == 0 {
        return Ok(levels.len());
    }
    let bits = 32 - chunk.max_definition.leading_zeros();
    let defined = hybrid(levels, bits, count)?;
    match defined.iter().all(|&level| level == chunk.max_definition) {
        true => Ok(levels.len()),
        false => Err("a value is missing (null)".into()),
    }
}

fn looked_up<T: Copy>(dictionary: &[T], page: &DataPage) -> Result<Vec<T>, String> {
    let (&bits, indices) = page.values.split_first().ok_or("an empty page")?;
    hybrid(indices, u32::from(bits), page.count)?
        .into_iter()
        .map(|index| dictionary.get(index as usize).copied())
        .collect::<Option<_>>()
        .ok_or_else(|| "an index beyond its dictionary".into())
}

/// `count` numbers of `bits` bits in parquet's hybrid of runs and bit-packed groups of eight.
fn hybrid(bytes: &[u8], bits: u32, count: usize) -> Result<Vec<u32>, String> {
    if bits > 32 {
        return Err(format!("numbers of {bits} bits"));
    }
    let early = || "a run ends beyond its page".to_string();
    let mut values = Vec::new();
    let mut rest = bytes;
    while values.len() < count {
        let (header, header_len) = varint(rest).ok_or_else(early)?;
        rest = &rest[header_len..];
        let left = count - values.len();
        if header & 1 == 1 {
            let groups = (header >> 1) as usize;
            let wanted = groups.saturating_mul(8).min(left);
            let len = groups.saturating_mul(bits as usize).min(rest.len());
            let (packed, after) = rest.split_at(len);
            rest = after;
            for index in 0..wanted {
                values.push(packed_at(packed, index * bits as usize, bits).ok_or_else(early)?);
            }
        } else {
            let width = bits.div_ceil(8) as usize;
            let value = rest.get(..width).ok_or_else(early)?;
            let value = (0..width).fold(0, |sum, i| sum | u32::from(value[i]) << (8 * i));
            rest = &rest[width..];
            let run = ((header >> 1) as usize).min(left);
            values.resize(values.len() + run, value);
        }
        if header >> 1 == 0 {
            return Err("an empty run".into());
        }
    }
    Ok(values)
}

/// The number of `bits` bits at bit `at`, least significant bit first.
fn packed_at(packed: &[u8], at: usize, bits: u32) -> Option<u32> {
    let (first, shift) = (at / 8, at % 8);
    let end = (at + bits as usize).div_ceil(8);
    let word = packed.get(first..end)?;
    let value = (0..word.len()).fold(0u64, |sum, i| sum | u64::from(word[i]) << (8 * i));
    Some(((value >> shift) & ((1 << bits) - 1)) as u32)
}

fn varint(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7F).checked_shl(7 * index as u32)?;
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Result<u32, String> {
    let bytes = bytes.get(at..).and_then(|rest| rest.get(..4));
    let bytes = bytes.ok_or("a page ends too early")?;
    Ok(u32::from_le_bytes(std::array::from_fn(|i| bytes[i])))
}

fn size_of_page(header: &Value) -> Result<usize, String> {
    let size = header.size(2).filter(|&size| size <= i32::MAX as usize);
    size.ok_or_else(|| "a page without a size".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packed_groups_are_read() {
        // Parquet's own example: 0..8 in 3 bits; then a run of three fives.
        let bytes = [0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010, 0x06, 5];
        let values = hybrid(&bytes, 3, 11).expect("reads");
        assert_eq!(values, [0, 1, 2, 3, 4, 5, 6, 7, 5, 5, 5]);
        assert_eq!(hybrid(&bytes, 3, 2).expect("reads"), [0, 1]);
        assert_eq!(hybrid(&[0x08], 0, 4).expect("reads"), [0; 4]);
        assert_eq!(hybrid(&[0x03], 0, 8).expect("reads"), [0; 8]);
        let wide = [0x03, 1, 2, 3, 4, 5, 6, 7, 8];
        assert!(hybrid(&wide, 32, 8).is_err());
        assert_eq!(hybrid(&wide, 32, 2).expect("reads")[0], 0x0403_0201);
    }

    #[test]
    fn runs_that_end_early_or_never_advance_are_errors() {
        for bytes in [&[][..], &[0x06], &[0x80], &[0, 0], &[1, 0]] {
            assert!(hybrid(bytes, 3, 8).is_err(), "{bytes:?}");
        }
        assert!(hybrid(&[0x06, 5], 40, 3).is_err());
    }
}
