//! Observers: from the values seen in calibration to the range that the integers cover.

use super::ActivationParams;
use serde::{Deserialize, Serialize};

/// Bins of the histograms that [`Observer::Percentile`] and [`Observer::Mse`] read.
pub(crate) const BINS: usize = 4096;

/// How the range of an activation is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Observer {
    /// From the smallest to the largest value seen.
    #[default]
    MinMax,
    /// So that the given share of the values (in percent, e.g. 99.99) lies inside, cut equally at both ends.
    Percentile(f64),
    /// The range, cut in from both ends alike, with the smallest squared error of rounding and clipping.
    Mse,
}

impl std::fmt::Display for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::Percentile(share) => write!(f, "percentile:{share}"),
            Self::Mse => f.write_str("mse"),
        }
    }
}

/// A text that names no [`Observer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObserverError {
    /// No observer of that name.
    #[error("unknown observer {0}: use minmax, percentile, percentile:99.9 or mse")]
    Unknown(String),
    /// A share that is none.
    #[error("percentile {0}: must lie above 50 and up to 100")]
    Share(String),
}

impl std::str::FromStr for Observer {
    type Err = ObserverError;
    fn from_str(name: &str) -> Result<Self, ObserverError> {
        match name.split_once(':') {
            None if name == "minmax" => Ok(Self::MinMax),
            None if name == "mse" => Ok(Self::Mse),
            None if name == "percentile" => Ok(Self::Percentile(99.99)),
            Some(("percentile", share)) => match share.parse::<f64>() {
                Ok(share) if share > 50.0 && share <= 100.0 => Ok(Self::Percentile(share)),
                _ => Err(ObserverError::Share(share.to_owned())),
            },
            _ => Err(ObserverError::Unknown(name.to_owned())),
        }
    }
}

/// What was seen of one activation.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) low: f32,
    pub(crate) high: f32,
    /// Counts over `BINS` equal bins of `[low, high]`; empty for min-max.
    pub(crate) histogram: Vec<u64>,
}

impl Observer {
    pub(crate) fn params(self, seen: &Seen, level_max: u8) -> ActivationParams {
        let (low, high) = match self {
            Self::MinMax => (seen.low, seen.high),
            Self::Percentile(share) => percentile_range(seen, share),
            Self::Mse => mse_range(seen, level_max),
        };
        ActivationParams::covering(low, high, level_max)
    }
}

fn percentile_range(seen: &Seen, share: f64) -> (f32, f32) {
    let total: u64 = seen.histogram.iter().sum();
    let cut = ((1.0 - share / 100.0) * 0.5 * total as f64) as u64;
    let width = (seen.high - seen.low) / BINS as f32;
    let skipped = |counts: &mut dyn Iterator<Item = &u64>| {
        let mut below = 0;
        counts
            .take_while(|&&count| {
                below += count;
                below <= cut
            })
            .count()
    };
    let from_low = skipped(&mut seen.histogram.iter());
    let from_high = skipped(&mut seen.histogram.iter().rev());
    (
        seen.low + width * from_low as f32,
        seen.high - width * from_high as f32,
    )
}

/// Tries 100 ranges; a bin's values are taken to lie at its center.
fn mse_range(seen: &Seen, level_max: u8) -> (f32, f32) {
    let width = (seen.high - seen.low) / BINS as f32;
    let levels = f32::from(level_max);
    let mut best = (f64::INFINITY, (seen.low, seen.high));
    for step in 0..100 {
        let keep = 1.0 - 0.01 * step as f32;
        let (low, high) = (seen.low * keep, seen.high * keep);
        let params = ActivationParams::covering(low, high, level_max);
        let zero = f32::from(params.zero_point);
        let error: f64 = seen
            .histogram
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count > 0)
            .map(|(bin, &count)| {
                let x = seen.low + width * (bin as f32 + 0.5);
                let q = ((x / params.scale).round_ties_even() + zero).clamp(0.0, levels);
                let error = f64::from(params.scale * (q - zero) - x);
                error * error * count as f64
            })
            .sum();
        if error < best.0 {
            best = (error, (low, high));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Almost everything below 1, one value at 100.
    fn outlier() -> Seen {
        let mut histogram = vec![0; BINS];
        for bin in 0..BINS / 100 {
            histogram[bin] = 2_500_000;
        }
        histogram[BINS - 1] = 1;
        Seen {
            low: 0.0,
            high: 100.0,
            histogram,
        }
    }

    #[test]
    fn min_max_keeps_the_outlier_and_the_others_cut_it_off() {
        let seen = outlier();
        assert!((Observer::MinMax.params(&seen, 255).scale - 100.0 / 255.0).abs() < 1e-6);
        assert!(Observer::Percentile(99.99).params(&seen, 255).scale < 2.0 / 255.0);
        assert!(Observer::Mse.params(&seen, 255).scale < 20.0 / 255.0);
    }

    #[test]
    fn ranges_always_hold_zero_exactly() {
        let params = ActivationParams::covering(3.0, 7.0, 255);
        assert_eq!(params.zero_point, 0);
        assert!((params.scale - 7.0 / 255.0).abs() < 1e-7);
        let params = ActivationParams::covering(-1.0, 1.0, 255);
        assert!((127..=128).contains(&params.zero_point));
    }

    #[test]
    fn names_round_trip() {
        for name in ["minmax", "mse", "percentile:99.9"] {
            assert_eq!(name.parse::<Observer>().unwrap().to_string(), name);
        }
        assert!("percentile:12".parse::<Observer>().is_err());
        assert!("entropy".parse::<Observer>().is_err());
    }
}
