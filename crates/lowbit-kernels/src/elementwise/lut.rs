//! Any function of one u8 as a table of its 256 values.

use crate::Isa;
use crate::vectorize::vectorized;

/// `out = table[x]`: sigmoid, hard-swish, clip or a change of scale, as whoever fills the table defines it. Equal on every
/// ISA, since nothing is computed here.
///
/// # Panics
/// If the lengths differ.
pub fn lut_u8(isa: Isa, table: &[u8; 256], input: &[u8], out: &mut [u8]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    vectorized!(isa, || for (q, &x) in out.iter_mut().zip(input) {
        *q = table[usize::from(x)];
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{below, stream};

    #[test]
    fn every_input_finds_its_entry_on_every_isa_and_at_every_length() {
        let mut rng = stream(41, "lut", 0);
        let table: [u8; 256] = std::array::from_fn(|_| below(&mut rng, 256) as u8);
        for isa in Isa::available() {
            for len in [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 1000] {
                let input: Vec<u8> = (0..len).map(|i| (i * 151 + 7) as u8).collect();
                let mut out = vec![1; len];
                lut_u8(isa, &table, &input, &mut out);
                for (&x, &q) in input.iter().zip(&out) {
                    assert_eq!(q, table[usize::from(x)], "{isa}, {len} values, {x}");
                }
            }
        }
    }

    #[test]
    #[should_panic = "one result per input"]
    fn lengths_that_differ_are_refused() {
        lut_u8(Isa::best(), &[0; 256], &[1, 2, 3], &mut [0; 2]);
    }
}
