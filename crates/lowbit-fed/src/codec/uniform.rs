//! A few bits a number: a scale per row, or per block of a rotation, and packed codes.

use super::dither::Dither;
use super::plain::exactly;
use super::{CodecError, Lengths, Rounding, grid, hadamard};

pub(super) fn encode(
    bits: u8,
    rounding: Rounding,
    values: &[f32],
    rows: impl Iterator<Item = usize>,
    dither: &mut Dither,
    out: &mut Vec<u8>,
) -> Lengths {
    let start = out.len();
    // What is not rotated has no mean over rotations.
    let rounding = match rounding {
        Rounding::NearestUnbiased => Rounding::Nearest,
        rounding => rounding,
    };
    let mut codes = Vec::with_capacity(values.len() * grid::code_bytes(bits));
    let mut left = values;
    for row in rows {
        let (row, rest) = left.split_at(row);
        let scale = grid::encode(bits, rounding, row, dither, &mut codes);
        out.extend(scale.to_le_bytes());
        left = rest;
    }
    finish(bits, start, &codes, out)
}

pub(super) fn encode_rotated(
    bits: u8,
    rounding: Rounding,
    values: &[f32],
    dither: &mut Dither,
    out: &mut Vec<u8>,
) -> Lengths {
    let start = out.len();
    let seed = dither.seed;
    out.extend(seed.to_le_bytes());
    let mut codes = Vec::with_capacity(values.len() * grid::code_bytes(bits));
    let mut scratch = [0.0f32; hadamard::BLOCK];
    let mut first = 0;
    for len in hadamard::blocks(values.len()) {
        let block = &mut scratch[..len];
        block.copy_from_slice(&values[first..][..len]);
        hadamard::rotate(seed, first, block);
        let rounding = match rounding {
            // What remains of the last block is not rotated.
            Rounding::NearestUnbiased if len < hadamard::SMALLEST => Rounding::Nearest,
            rounding => rounding,
        };
        let scale = grid::encode(bits, rounding, block, dither, &mut codes);
        out.extend(scale.to_le_bytes());
        first += len;
    }
    finish(bits, start, &codes, out)
}

fn finish(bits: u8, start: usize, codes: &[u8], out: &mut Vec<u8>) -> Lengths {
    let scales = out.len() - start;
    grid::pack(bits, codes, out);
    Lengths {
        scales,
        codes: out.len() - start - scales,
    }
}

pub(super) fn decode(
    bits: u8,
    body: &[u8],
    rows: impl Iterator<Item = usize> + Clone,
    values: &mut [f32],
) -> Result<Lengths, CodecError> {
    let (scales, codes) = parts(bits, body, rows.clone().count(), values.len())?;
    let mut first = 0;
    for (row, scale) in rows.zip(scales.as_chunks::<4>().0) {
        let scale = f32::from_le_bytes(*scale);
        grid::decode(bits, codes, first, scale, &mut values[first..][..row]);
        first += row;
    }
    Ok(Lengths {
        scales: scales.len(),
        codes: codes.len(),
    })
}

pub(super) fn decode_rotated(
    bits: u8,
    body: &[u8],
    values: &mut [f32],
) -> Result<Lengths, CodecError> {
    const SEED: usize = 8;
    let blocks = hadamard::blocks(values.len());
    let Some((seed, rest)) = body.split_first_chunk::<SEED>() else {
        return Err(CodecError::Length {
            found: body.len(),
            expected: SEED + 4 * blocks.count() + grid::packed_len(bits, values.len()),
        });
    };
    let seed = u64::from_le_bytes(*seed);
    let (scales, codes) = parts(bits, rest, blocks.clone().count(), values.len())?;
    let mut first = 0;
    for (len, scale) in blocks.zip(scales.as_chunks::<4>().0) {
        let block = &mut values[first..][..len];
        grid::decode(bits, codes, first, f32::from_le_bytes(*scale), block);
        hadamard::rotate_back(seed, first, block);
        first += len;
    }
    Ok(Lengths {
        scales: SEED + scales.len(),
        codes: codes.len(),
    })
}

/// Scales and codes, lengths and scales checked.
fn parts(
    bits: u8,
    body: &[u8],
    segments: usize,
    count: usize,
) -> Result<(&[u8], &[u8]), CodecError> {
    exactly(body, 4 * segments + grid::packed_len(bits, count))?;
    let (scales, codes) = body.split_at(4 * segments);
    // A scale so large that a level times it overflows is as bad as none.
    let largest = f32::MAX / (64.0 * grid::limit(bits).max(64.0));
    for (index, scale) in scales.as_chunks::<4>().0.iter().enumerate() {
        let value = f32::from_le_bytes(*scale);
        if !(0.0..=largest).contains(&value) {
            return Err(CodecError::NotFinite {
                what: "scale",
                index,
                value,
            });
        }
    }
    Ok((scales, codes))
}
