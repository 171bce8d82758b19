//! f32 as it is, and its upper half.

use super::{CodecError, Lengths};

pub(super) fn encode(values: &[f32], out: &mut Vec<u8>) -> Lengths {
    out.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    Lengths {
        scales: 0,
        codes: 4 * values.len(),
    }
}

pub(super) fn decode(body: &[u8], values: &mut [f32]) -> Result<Lengths, CodecError> {
    exactly(body, 4 * values.len())?;
    for (x, bytes) in values.iter_mut().zip(body.chunks_exact(4)) {
        *x = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    finite(values)?;
    Ok(Lengths {
        scales: 0,
        codes: body.len(),
    })
}

pub(super) fn encode_half(values: &[f32], out: &mut Vec<u8>) -> Lengths {
    for x in values {
        let bits = x.to_bits();
        // To nearest, ties to even; a carry into the exponent is right, NaN stays one.
        let rounded = if x.is_nan() {
            0x7fc0
        } else {
            (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
        };
        out.extend(rounded.to_le_bytes());
    }
    Lengths {
        scales: 0,
        codes: 2 * values.len(),
    }
}

pub(super) fn decode_half(body: &[u8], values: &mut [f32]) -> Result<Lengths, CodecError> {
    exactly(body, 2 * values.len())?;
    for (x, bytes) in values.iter_mut().zip(body.chunks_exact(2)) {
        *x = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
    }
    finite(values)?;
    Ok(Lengths {
        scales: 0,
        codes: body.len(),
    })
}

pub(super) fn exactly(body: &[u8], expected: usize) -> Result<(), CodecError> {
    if body.len() == expected {
        return Ok(());
    }
    Err(CodecError::Length {
        found: body.len(),
        expected,
    })
}

fn finite(values: &[f32]) -> Result<(), CodecError> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(CodecError::NotFinite {
            what: "number",
            index,
            value: values[index],
        }),
    }
}
