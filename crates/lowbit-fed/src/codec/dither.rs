//! The noise of stochastic rounding: sixteen generators side by side, seeded from a counted stream.

use lowbit_kernels::random::{RngCore, stream};

/// Numbers that are drawn at once.
pub(super) const LANES: usize = 16;

/// Noise for one message.
#[derive(Clone, Debug)]
pub struct Dither {
    lanes: [u32; LANES],
    /// Of rotations.
    pub(super) seed: u64,
}

impl Dither {
    /// The noise of message `step` of `purpose`.
    #[must_use]
    pub fn new(seed: u64, purpose: &str, step: u64) -> Self {
        let mut rng = stream(seed, purpose, step);
        let seed = rng.next_u64();
        // Marsaglia's generator must not start at zero.
        let lanes = std::array::from_fn(|_| rng.next_u32() | 1);
        Self { lanes, seed }
    }

    /// Sixteen numbers, uniform in [−½, ½) (Marsaglia 2003, xorshift32 with shifts 13, 17, 5; the upper 23 bits).
    #[inline(always)]
    pub(super) fn next(&mut self) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        for (lane, out) in self.lanes.iter_mut().zip(&mut out) {
            let mut x = *lane;
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            *lane = x;
            *out = f32::from_bits((x >> 9) | 0x3f80_0000) - 1.5;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_uniform_around_zero_and_repeats() {
        let (mut a, mut b) = (Dither::new(1, "up", 3), Dither::new(1, "up", 3));
        let (mut sum, mut squares, n) = (0.0, 0.0, 100_000);
        for _ in 0..n {
            let noise = a.next();
            assert_eq!(noise, b.next());
            for x in noise {
                assert!((-0.5..0.5).contains(&x));
                sum += f64::from(x);
                squares += f64::from(x) * f64::from(x);
            }
        }
        let n = (n * LANES) as f64;
        // Standard errors: √(1/12n) = 0.00023 and √(1/180n) = 0.00006.
        assert!((sum / n).abs() < 0.001, "{}", sum / n);
        assert!((squares / n - 1.0 / 12.0).abs() < 0.0003);
        assert_ne!(
            Dither::new(1, "up", 4).next(),
            Dither::new(1, "up", 3).next()
        );
    }
}
