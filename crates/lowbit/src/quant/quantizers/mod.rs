//! Weight quantizers: one file each. A quantizer turns one channel (or tensor) of real weights into integers and a scale.

mod absmax;
mod binary;

pub use absmax::absmax;
pub use binary::binary;

/// The largest magnitude of a signed symmetric integer of `bits` bits: 127 for 8; 1 for 2 and for 1 bit.
#[must_use]
pub fn magnitude_max(bits: u8) -> i16 {
    match bits {
        0 | 1 => 1,
        bits => i16::MAX >> (16 - bits.min(16)),
    }
}

/// Quantizes one channel with the default quantizer of its width: [`binary`] for 1 bit, [`absmax`] above.
///
/// Returns the step size; the integers go to `out`, which is as long as `weights`.
pub fn quantize_channel(weights: &[f32], bits: u8, out: &mut [i16]) -> f32 {
    if bits == 1 {
        binary(weights, out)
    } else {
        absmax(weights, bits, out)
    }
}
