//! Pixels to real numbers.

use crate::Isa;
use crate::vectorize::vectorized;

/// `out = fma(x, scale, shift)`: pixels as the network sees them.
///
/// # Panics
/// If the lengths differ.
pub fn scale_u8(isa: Isa, input: &[u8], scale: f32, shift: f32, out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    vectorized!(isa, || for (real, &x) in out.iter_mut().zip(input) {
        *real = f32::from(x).mul_add(scale, shift);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_scaled_with_one_rounding() {
        let pixels: Vec<u8> = (0..=255).collect();
        for isa in Isa::available() {
            let mut out = [0.0; 256];
            scale_u8(isa, &pixels, 1.0 / 127.5, -1.0, &mut out);
            for (x, real) in out.iter().enumerate() {
                let exact = x as f64 * f64::from(1.0f32 / 127.5) - 1.0;
                assert_eq!(*real, exact as f32, "{isa}, {x}");
            }
        }
    }
}
