//! Levels: how the numbers of one segment become codes of a few bits, and back.
//!
//! 16, 8 and 4 bits have the integers −L … L with L = 2^(bits−1) − 1, times the scale. 2 and 1 bit have the odd integers
//! −3, −1, 1, 3 and −1, 1: a level at zero would cost a third of what two bits can say.

use super::Rounding;
use super::dither::{Dither, LANES};

/// Adding and subtracting it rounds an f32 below 2²² to the nearest integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Most by which the unbiased scale may exceed that of least error; π / 2 is what normal numbers have at 1 bit.
const MOST_SPREAD: f32 = 1.8;

/// The largest level.
pub(super) fn limit(bits: u8) -> f32 {
    match bits {
        1 => 1.0,
        2 => 3.0,
        _ => ((1u32 << (bits - 1)) - 1) as f32,
    }
}

/// Sums that decide a segment's scale.
struct Look {
    largest: f32,
    finite: bool,
}

fn look(values: &[f32]) -> Look {
    let mut largest = [0.0f32; LANES];
    // x · 0 is zero for every finite x, and NaN else.
    let mut zeros = [0.0f32; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let magnitude = chunk[lane].abs();
            largest[lane] = if magnitude > largest[lane] {
                magnitude
            } else {
                largest[lane]
            };
            zeros[lane] += chunk[lane] * 0.0;
        }
    }
    for &x in chunks.remainder() {
        largest[0] = largest[0].max(x.abs());
        zeros[0] += x * 0.0;
    }
    Look {
        largest: largest.into_iter().fold(0.0, f32::max),
        finite: zeros.iter().sum::<f32>() == 0.0,
    }
}

/// Sum of magnitudes, or of squares, in f32 lanes: the same on every machine.
fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] += of(chunk[lane]);
        }
    }
    for &x in chunks.remainder() {
        lanes[0] += of(x);
    }
    lanes.iter().sum()
}

/// Writes the codes of `values` and returns the scale; NaN if a number is not finite.
pub(super) fn encode(
    bits: u8,
    rounding: Rounding,
    values: &[f32],
    dither: &mut Dither,
    codes: &mut Vec<u8>,
) -> f32 {
    if bits <= 2 {
        return encode_odd(bits, rounding, values, dither, codes);
    }
    let Look { largest, finite } = look(values);
    if !finite {
        codes.resize(codes.len() + values.len() * code_bytes(bits), 0);
        return f32::NAN;
    }
    let limit = limit(bits);
    let scale = largest / limit;
    // A scale that underflowed says that nothing is worth saying.
    let inverse = if scale > f32::MIN_POSITIVE {
        1.0 / scale
    } else {
        0.0
    };
    let mut write = |chunk: &[f32], noise: &[f32; LANES]| {
        let mut rounded = [0i32; LANES];
        for lane in 0..chunk.len() {
            let level = (chunk[lane] * inverse + noise[lane]).clamp(-limit, limit);
            rounded[lane] = (level + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32;
        }
        match bits {
            16 => codes.extend(
                rounded[..chunk.len()]
                    .iter()
                    .flat_map(|&q| (q as i16).to_le_bytes()),
            ),
            8 => codes.extend_from_slice(&rounded.map(|q| q as i8 as u8)[..chunk.len()]),
            _ => codes.extend_from_slice(&rounded.map(|q| (q + 8) as u8)[..chunk.len()]),
        }
    };
    let mut chunks = values.chunks_exact(LANES);
    let mut noise = [0.0; LANES];
    for chunk in &mut chunks {
        if rounding == Rounding::Stochastic {
            noise = dither.next();
        }
        write(chunk, &noise);
    }
    if !chunks.remainder().is_empty() {
        if rounding == Rounding::Stochastic {
            noise = dither.next();
        }
        write(chunks.remainder(), &noise);
    }
    if inverse == 0.0 { 0.0 } else { scale }
}

fn encode_odd(
    bits: u8,
    rounding: Rounding,
    values: &[f32],
    dither: &mut Dither,
    codes: &mut Vec<u8>,
) -> f32 {
    let count = values.len() as f32;
    let start = codes.len();
    match (rounding, bits) {
        (Rounding::Nearest | Rounding::NearestUnbiased, 1) => {
            codes.extend(values.iter().map(|&x| u8::from(x >= 0.0)));
            scale(rounding, values, sum(values, f32::abs), count)
        }
        (Rounding::Nearest | Rounding::NearestUnbiased, _) => {
            // The best step for normal numbers, 0.9957 σ (Max 1960, table I, N = 4), is 2 scales.
            let border = 2.0 * 0.497_85 * (sum(values, |x| x * x) / count).sqrt();
            codes.extend(values.iter().map(|&x| {
                let outer = u8::from(x.abs() > border);
                // −3, −1, 1, 3 are codes 0 to 3.
                if x >= 0.0 { 2 + outer } else { 1 - outer }
            }));
            let product = sum(values, |x| {
                if x.abs() > border {
                    3.0 * x.abs()
                } else {
                    x.abs()
                }
            });
            let square = sum(values, |x| if x.abs() > border { 9.0 } else { 1.0 });
            scale(rounding, values, product, square)
        }
        (Rounding::Stochastic, _) => {
            let Look { largest, finite } = look(values);
            let limit = limit(bits);
            let scale = largest / limit;
            if !finite || scale <= f32::MIN_POSITIVE {
                codes.resize(start + values.len(), 0);
                return if finite { 0.0 } else { f32::NAN };
            }
            let inverse = 0.5 / scale;
            for chunk in values.chunks(LANES) {
                let noise = dither.next();
                for (&x, noise) in chunk.iter().zip(noise) {
                    // Code k stands for 2k − limit.
                    let level = (x * inverse + 0.5 * limit + noise).clamp(0.0, limit);
                    codes.push(((level + ROUNDER).to_bits() - ROUNDER.to_bits()) as u8);
                }
            }
            scale
        }
    }
}

/// The scale of levels of which ⟨x, levels⟩ and ⟨levels, levels⟩ are known: that of least error, or the unbiased one.
fn scale(rounding: Rounding, values: &[f32], product: f32, square: f32) -> f32 {
    let least_error = product / square;
    if rounding != Rounding::NearestUnbiased || product <= 0.0 {
        return least_error;
    }
    let unbiased = sum(values, |x| x * x) / product;
    // The squared error in that of the numbers is unbiased / least_error − 1: error feedback needs it below 1.
    match unbiased < MOST_SPREAD * least_error {
        true => unbiased,
        false => least_error,
    }
}

/// Bytes per code before packing.
pub(super) fn code_bytes(bits: u8) -> usize {
    if bits == 16 { 2 } else { 1 }
}

/// Bytes of `count` packed codes.
pub(super) fn packed_len(bits: u8, count: usize) -> usize {
    (count * usize::from(bits)).div_ceil(8)
}

/// Appends codes, several to a byte below 8 bits, the first in the lowest bits.
pub(super) fn pack(bits: u8, codes: &[u8], out: &mut Vec<u8>) {
    let per_byte = 8 / usize::from(bits.min(8));
    if per_byte == 1 {
        return out.extend_from_slice(codes);
    }
    out.reserve(codes.len().div_ceil(per_byte));
    let join = |codes: &[u8]| {
        let places = codes.iter().enumerate();
        places.fold(0u8, |byte, (place, code)| {
            byte | (code << (place * usize::from(bits)))
        })
    };
    // A known length lets the compiler unroll.
    match bits {
        4 => out.extend(codes.chunks_exact(2).map(join)),
        2 => out.extend(codes.chunks_exact(4).map(join)),
        _ => out.extend(codes.chunks_exact(8).map(|codes| {
            let codes: [u8; 8] = codes.try_into().expect("chunks of eight");
            // Eight bytes of 0 or 1 become eight bits by one product.
            (u64::from_le_bytes(codes).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
        })),
    }
    let rest = codes.len() % per_byte;
    if rest > 0 {
        out.push(join(&codes[codes.len() - rest..]));
    }
}

/// Code `index` of packed ones, as what it stands for in units of the scale.
#[inline(always)]
fn level(bits: u8, packed: &[u8], index: usize) -> f32 {
    match bits {
        16 => f32::from(i16::from_le_bytes([
            packed[2 * index],
            packed[2 * index + 1],
        ])),
        8 => f32::from(packed[index] as i8),
        4 => f32::from((packed[index / 2] >> (4 * (index % 2))) & 15) - 8.0,
        2 => 2.0 * f32::from((packed[index / 4] >> (2 * (index % 4))) & 3) - 3.0,
        _ => 2.0 * f32::from((packed[index / 8] >> (index % 8)) & 1) - 1.0,
    }
}

/// Writes what the codes from `first` on stand for.
pub(super) fn decode(bits: u8, packed: &[u8], first: usize, scale: f32, values: &mut [f32]) {
    // One loop for each width, so that the width is a constant in it.
    macro_rules! widths {
        ($($width:literal),*) => {
            match bits {
                $($width => {
                    for (index, value) in values.iter_mut().enumerate() {
                        *value = level($width, packed, first + index) * scale;
                    }
                })*
                8 => {
                    for (value, &code) in values.iter_mut().zip(&packed[first..]) {
                        *value = f32::from(code as i8) * scale;
                    }
                }
                _ => {
                    for (index, value) in values.iter_mut().enumerate() {
                        *value = level(1, packed, first + index) * scale;
                    }
                }
            }
        };
    }
    widths!(16, 4, 2);
}
