//! Layer norm: what each pixel's channels do together.

use crate::Isa;
use crate::vectorize::vectorized;

/// Sums of a vector: channels are added to them in turns, and in the end the sums are added in halves.
const LANES: usize = 8;

/// `out = (x − mean) / √(variance + eps)` over the `channels` of each pixel (Ba, Kiros and Hinton, *Layer Normalization*, 2016,
/// equation 4, without gain and bias). Sums are in f64 and do not depend on the ISA.
///
/// # Panics
/// If `channels` is 0, the lengths differ, or they are no whole number of pixels.
pub fn layer_norm_f32(isa: Isa, channels: usize, eps: f32, input: &[f32], out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "one result per input");
    assert_eq!(input.len() % channels, 0, "whole pixels");
    vectorized!(isa, || {
        let pixels = input.chunks_exact(channels);
        for (x, y) in pixels.zip(out.chunks_exact_mut(channels)) {
            layer_norm(eps, x, y);
        }
    });
}

#[inline(always)]
fn layer_norm(eps: f32, x: &[f32], y: &mut [f32]) {
    let count = x.len() as f64;
    let mean = sum(x, |x| x) / count;
    let squares = sum(x, |x| (x - mean) * (x - mean));
    let factor = 1.0 / (squares / count + f64::from(eps)).sqrt();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = ((f64::from(x) - mean) * factor) as f32;
    }
}

#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    // Two vectors of 512 bits: the next sum need not wait for the one before it. More would take longer to be added up.
    let [mut sums, mut others] = [[0.0f64; LANES]; 2];
    let add = |sums: &mut [f64; LANES], part: &[f32; LANES]| {
        for (sum, &x) in sums.iter_mut().zip(part) {
            *sum += term(f64::from(x));
        }
    };
    let (parts, rest) = x.as_chunks::<LANES>();
    let (pairs, last) = parts.as_chunks::<2>();
    for [a, b] in pairs {
        add(&mut sums, a);
        add(&mut others, b);
    }
    last.iter().for_each(|part| add(&mut sums, part));
    for (sum, &x) in others.iter_mut().zip(rest) {
        *sum += term(f64::from(x));
    }
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
    for half in [4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isa_gives_the_bits_of_sums_in_order_to_a_rounding() {
        for channels in [1, 7, 16, 40, 192] {
            let input: Vec<f32> = (0..3 * channels)
                .map(|i| ((i * 7919) % 1013) as f32 * 0.01 - 3.0)
                .collect();
            let run = |isa| {
                let mut out = vec![9.0; input.len()];
                layer_norm_f32(isa, channels, 1e-5, &input, &mut out);
                out
            };
            let portable = run(Isa::PORTABLE);
            for isa in Isa::available() {
                assert_eq!(run(isa), portable, "{isa}, {channels}");
            }
            for (x, y) in input
                .chunks_exact(channels)
                .zip(portable.chunks_exact(channels))
            {
                let x = x.iter().map(|&x| f64::from(x));
                let mean = x.clone().sum::<f64>() / channels as f64;
                let squares = x.clone().map(|x| (x - mean).powi(2)).sum::<f64>();
                let deviation = (squares / channels as f64 + f64::from(1e-5f32)).sqrt();
                for (x, &y) in x.zip(y) {
                    let expected = (x - mean) / deviation;
                    assert!((f64::from(y) - expected).abs() <= 1e-7 * expected.abs().max(1e-3));
                }
            }
        }
    }
}
