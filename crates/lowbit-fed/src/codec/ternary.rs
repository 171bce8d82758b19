//! The largest numbers alone: their positions, their signs, one magnitude (Sattler et al. 2019, STC, sections IV and V).

use super::{CodecError, Lengths};

/// Bytes before the bits: count, magnitude, Rice parameter.
const HEAD: usize = 9;

/// Largest Rice parameter.
const MOST: u8 = 31;

/// Bits that an ideal code takes for a number of which `share` are kept, sign included: H(share) + share.
#[must_use]
pub fn entropy_bits(share: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    term(share) + term(1.0 - share) + share
}

/// Bits, the first in the lowest bit of the first byte.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    bits: u64,
    count: u32,
}

impl Writer<'_> {
    /// At most 32 bits.
    fn put(&mut self, value: u32, count: u32) {
        self.bits |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    fn finish(self) {
        if self.count > 0 {
            self.out.push(self.bits as u8);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bit(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = (byte >> (self.at % 8)) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    fn bits(&mut self, count: u8) -> Option<u32> {
        let mut value = 0;
        for place in 0..count {
            value |= self.bit()? << place;
        }
        Some(value)
    }
}

pub(super) fn encode(share: f64, values: &[f32], out: &mut Vec<u8>) -> Lengths {
    let start = out.len();
    let wanted = ((share * values.len() as f64).round() as usize).clamp(1, values.len().max(1));
    let kept = largest(values, wanted);
    let sum: f64 = kept.iter().map(|&at| f64::from(values[at].abs())).sum();
    // Over the kept ones alone: the others are zero because they are not sent, not because they are small.
    let magnitude = (sum / kept.len().max(1) as f64) as f32;
    let gaps: Vec<u32> = kept
        .iter()
        .enumerate()
        .map(|(index, &at)| match index {
            0 => at as u32,
            _ => (at - kept[index - 1] - 1) as u32,
        })
        .collect();
    let cost = |rice: u8| {
        gaps.iter()
            .map(|&gap| u64::from(gap >> rice) + u64::from(rice))
            .sum::<u64>()
    };
    let rice = (0..=MOST).min_by_key(|&rice| cost(rice)).unwrap_or(0);
    out.extend((kept.len() as u32).to_le_bytes());
    out.extend(magnitude.to_le_bytes());
    out.push(rice);
    let mut writer = Writer {
        out,
        bits: 0,
        count: 0,
    };
    for (&at, &gap) in kept.iter().zip(&gaps) {
        for _ in 0..gap >> rice {
            writer.put(1, 1);
        }
        writer.put(0, 1);
        writer.put((u64::from(gap) & ((1 << rice) - 1)) as u32, u32::from(rice));
        writer.put(u32::from(values[at] < 0.0), 1);
    }
    writer.finish();
    Lengths {
        scales: HEAD,
        codes: out.len() - start - HEAD,
    }
}

/// Positions of the `wanted` largest magnitudes in rising order, the first of equal ones; one that is not a number counts
/// as the largest.
fn largest(values: &[f32], wanted: usize) -> Vec<usize> {
    if values.is_empty() {
        return Vec::new();
    }
    let magnitude = |x: f32| x.to_bits() & 0x7fff_ffff;
    let mut sorted: Vec<u32> = values.iter().map(|&x| magnitude(x)).collect();
    let place = sorted.len() - wanted;
    let (_, &mut border, above) = sorted.select_nth_unstable(place);
    let mut ties = wanted - above.iter().filter(|&&bits| bits > border).count();
    let keep = |&(_, &x): &(usize, &f32)| match magnitude(x).cmp(&border) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal if ties > 0 => {
            ties -= 1;
            true
        }
        _ => false,
    };
    values
        .iter()
        .enumerate()
        .filter(keep)
        .map(|(at, _)| at)
        .collect()
}

pub(super) fn decode(body: &[u8], values: &mut [f32]) -> Result<Lengths, CodecError> {
    let Some((head, bits)) = body.split_first_chunk::<HEAD>() else {
        return Err(CodecError::Length {
            found: body.len(),
            expected: HEAD,
        });
    };
    let count = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let magnitude = f32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let rice = head[8];
    if !(0.0..=f32::MAX).contains(&magnitude) {
        return Err(CodecError::NotFinite {
            what: "magnitude",
            index: 0,
            value: magnitude,
        });
    }
    if count > values.len() || rice > MOST {
        return Err(CodecError::Position { index: 0, count });
    }
    values.fill(0.0);
    let mut reader = Reader { bytes: bits, at: 0 };
    let mut next = 0u64;
    for index in 0..count {
        let cut = CodecError::Position { index, count };
        let at = position(&mut reader, rice, next, values.len()).ok_or(cut.clone())?;
        let negative = reader.bit().ok_or(cut)? == 1;
        values[at] = if negative { -magnitude } else { magnitude };
        next = at as u64 + 1;
    }
    let padding = bits.len() * 8 - reader.at;
    if padding >= 8 || (reader.at..bits.len() * 8).any(|at| bits[at / 8] >> (at % 8) & 1 == 1) {
        return Err(CodecError::Length {
            found: body.len(),
            expected: HEAD + reader.at.div_ceil(8),
        });
    }
    Ok(Lengths {
        scales: HEAD,
        codes: bits.len(),
    })
}

/// The next position, which must lie below `len`.
fn position(reader: &mut Reader<'_>, rice: u8, next: u64, len: usize) -> Option<usize> {
    let mut quotient = 0u64;
    while reader.bit()? == 1 {
        quotient += 1;
    }
    let rest = reader.bits(rice)?;
    let at = next + (quotient << rice) + u64::from(rest);
    (at < len as u64).then_some(at as usize)
}
