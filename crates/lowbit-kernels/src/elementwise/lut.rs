//! Any function of one u8 as a table of its 256 values.

use crate::Isa;

/// `out = table[x]`: sigmoid, hard-swish, clip or a change of scale, as whoever fills the table defines it. Equal on every
/// ISA, since nothing is computed here.
///
/// # Panics
/// If the lengths differ.
pub fn lut_u8(isa: Isa, table: &[u8; 256], input: &[u8], out: &mut [u8]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    #[cfg(target_arch = "x86_64")]
    if isa.avx2().is_some() {
        // SAFETY: the proof.
        unsafe { lut_avx2(table, input, out) };
        return;
    }
    let _ = isa;
    look_up(table, input, out);
}

fn look_up(table: &[u8; 256], input: &[u8], out: &mut [u8]) {
    for (q, &x) in out.iter_mut().zip(input) {
        *q = table[usize::from(x)];
    }
}

/// 64 values at a time: each sixteen entries of the table are looked up for all of them, and give zero for those that it
/// does not hold (a shuffle gives zero for a byte above 127, and `x − 16·n + 112`, saturated, is below 128 for sixteen `x`).
///
/// # Safety
/// AVX2 is available.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn lut_avx2(table: &[u8; 256], input: &[u8], out: &mut [u8]) {
    use std::arch::x86_64::*;
    let (whole, rest) = input.as_chunks::<64>();
    let (whole_out, rest_out) = out.as_chunks_mut::<64>();
    let (parts, _) = table.as_chunks::<16>();
    let (sixteen, offset) = (_mm256_set1_epi8(16), _mm256_set1_epi8(112));
    for (x, q) in whole.iter().zip(whole_out) {
        // SAFETY: both have 64 bytes, each part of the table sixteen.
        unsafe {
            let at = |half: usize| _mm256_loadu_si256(x.as_ptr().add(32 * half).cast());
            let mut x = [at(0), at(1)];
            let mut found = [_mm256_setzero_si256(); 2];
            for part in parts {
                let part = _mm256_broadcastsi128_si256(_mm_loadu_si128(part.as_ptr().cast()));
                for (x, found) in x.iter_mut().zip(&mut found) {
                    let within = _mm256_shuffle_epi8(part, _mm256_adds_epu8(*x, offset));
                    *found = _mm256_or_si256(*found, within);
                    *x = _mm256_sub_epi8(*x, sixteen);
                }
            }
            for (half, found) in found.into_iter().enumerate() {
                _mm256_storeu_si256(q.as_mut_ptr().add(32 * half).cast(), found);
            }
        }
    }
    look_up(table, rest, rest_out);
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
