//! What becomes of an integer accumulator: the constants of each channel and the one rounding rule.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

/// How accumulators become u8. All slices are `[out_channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// Where each accumulator starts: `-zero_point_in · Σ w`.
    pub acc_offset: &'a [i32],
    /// Scale of the accumulator in output steps; not negative.
    pub multiplier: &'a [f32],
    /// Bias in output steps.
    pub bias: &'a [f32],
    /// The output's zero point.
    pub zero_point: i32,
    /// Lowest result; the zero point where a ReLU is fused.
    pub low: u8,
    /// Highest result.
    pub high: u8,
}

/// How accumulators become f32. All slices are `[out_channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Dequantize<'a> {
    /// Where each accumulator starts: `-zero_point_in · Σ w`.
    pub acc_offset: &'a [i32],
    /// Scale of the accumulator; not negative where the geometry pools.
    pub multiplier: &'a [f32],
    /// Bias in real units.
    pub bias: &'a [f32],
    /// Whether negative results become zero.
    pub relu: bool,
}

impl Requantize<'_> {
    /// Asserts that there are constants for each of `channels` channels, and bounds with something between.
    pub(crate) fn check(&self, channels: usize) {
        self.check_windows(channels, 1);
    }

    /// The same with a start for each channel of each window.
    pub(crate) fn check_windows(&self, channels: usize, windows: usize) {
        assert!(self.low <= self.high, "low must not exceed high");
        let starts = self.acc_offset.len();
        check_lengths(starts, windows, [self.multiplier, self.bias], channels);
    }

    /// Whether the rounding rule may cut at the bounds before it rounds, and add the zero point last: nothing can become NaN,
    /// and the zero point is a byte.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_ordinary(&self, channels: Range<usize>) -> bool {
        // Without a branch, so that it becomes vectors.
        let finite = |values: &[f32]| {
            let values = values[channels.clone()].iter();
            values.fold(true, |all, x| all & x.is_finite())
        };
        (0..=255).contains(&self.zero_point) && finite(self.multiplier) && finite(self.bias)
    }

    /// The rounding rule, for one accumulator of channel `c`.
    #[must_use]
    pub fn apply(&self, acc: i32, c: usize) -> u8 {
        let real = (acc as f32).mul_add(self.multiplier[c], self.bias[c]);
        let level = real.round_ties_even() + self.zero_point as f32;
        level.clamp(f32::from(self.low), f32::from(self.high)) as u8
    }
}

impl Dequantize<'_> {
    /// Asserts that there are constants for each of `channels` channels.
    pub(crate) fn check(&self, channels: usize) {
        self.check_windows(channels, 1);
    }

    /// The same with a start for each channel of each window.
    pub(crate) fn check_windows(&self, channels: usize, windows: usize) {
        let starts = self.acc_offset.len();
        check_lengths(starts, windows, [self.multiplier, self.bias], channels);
    }

    /// The result for one accumulator of channel `c`.
    #[must_use]
    pub fn apply(&self, acc: i32, c: usize) -> f32 {
        let real = (acc as f32).mul_add(self.multiplier[c], self.bias[c]);
        // Not `max`, which may return either zero.
        if !self.relu || real > 0.0 { real } else { 0.0 }
    }
}

fn check_lengths(starts: usize, windows: usize, constants: [&[f32]; 2], channels: usize) {
    assert!(
        windows.checked_mul(channels) == Some(starts)
            && constants.iter().all(|values| values.len() == channels),
        "one offset, multiplier and bias per output channel"
    );
}
