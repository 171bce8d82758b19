//! Named, counted random streams: the same (seed, purpose, step) gives the same numbers on every machine and with any
//! number of threads. There is no shared generator.

use rand_chacha::ChaCha8Rng;
pub use rand_core::{RngCore, SeedableRng};

/// The stream of random numbers for one purpose (`"shuffle"`, `"init"`, ...) at one step.
#[must_use]
pub fn stream(seed: u64, purpose: &str, step: u64) -> ChaCha8Rng {
    // FNV-1a names the purpose; ChaCha does the mixing.
    let name = purpose
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&name.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(step);
    rng
}

/// A uniform number in `[0, 1)` with 24 random bits.
#[must_use]
pub fn uniform(rng: &mut impl RngCore) -> f32 {
    (rng.next_u32() >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// A uniform integer in `[0, bound)`, without bias (Lemire 2019, "Fast random integer generation in an interval").
///
/// # Panics
/// If `bound` is zero.
#[must_use]
pub fn below(rng: &mut impl RngCore, bound: u32) -> u32 {
    assert!(bound > 0, "an interval needs at least one member");
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let wide = u64::from(rng.next_u32()) * u64::from(bound);
        if wide as u32 >= threshold {
            return (wide >> 32) as u32;
        }
    }
}

/// A standard normal number (Box-Muller, the cosine branch).
#[must_use]
pub fn normal(rng: &mut impl RngCore) -> f32 {
    let radius = (-2.0 * f64::from(1.0 - uniform(rng)).ln()).sqrt();
    (radius * (std::f64::consts::TAU * f64::from(uniform(rng))).cos()) as f32
}

/// Shuffles in place (Fisher-Yates).
pub fn shuffle<T>(rng: &mut impl RngCore, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = below(rng, last as u32 + 1) as usize;
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_step_and_repeat_otherwise() {
        let first = stream(1, "shuffle", 0).next_u64();
        assert_eq!(first, stream(1, "shuffle", 0).next_u64());
        assert_ne!(first, stream(2, "shuffle", 0).next_u64());
        assert_ne!(first, stream(1, "init", 0).next_u64());
        assert_ne!(first, stream(1, "shuffle", 1).next_u64());
    }

    #[test]
    fn a_shuffle_keeps_every_item_once() {
        let mut items: Vec<u32> = (0..1000).collect();
        shuffle(&mut stream(7, "shuffle", 3), &mut items);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..1000));
    }
}
