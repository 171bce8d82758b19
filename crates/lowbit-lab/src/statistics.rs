//! Medians, spreads and intervals.

use serde::{Deserialize, Serialize};

/// A sample's middle and its spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Middle of the sample.
    pub median: f64,
    /// A quarter lies below.
    pub quartile_1: f64,
    /// A quarter lies above.
    pub quartile_3: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Size of the sample.
    pub runs: usize,
}

impl Summary {
    /// Summarizes a sample (quantiles by linear interpolation, Hyndman & Fan 1996, type 7).
    ///
    /// # Panics
    /// If the sample is empty.
    #[must_use]
    pub fn of(sample: &[f64]) -> Self {
        assert!(!sample.is_empty(), "a sample has at least one member");
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let at = share * (sorted.len() - 1) as f64;
            let (low, rest) = (at.floor() as usize, at.fract());
            sorted[low] + rest * (sorted[(low + 1).min(sorted.len() - 1)] - sorted[low])
        };
        Self {
            median: quantile(0.5),
            quartile_1: quantile(0.25),
            quartile_3: quantile(0.75),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            runs: sorted.len(),
        }
    }
}

/// A difference and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Best estimate.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// The difference of two accuracies on the same images, `a − b`, with its 95 % interval.
///
/// The interval is Wald's for matched pairs with half an observation added to each cell (Agresti & Min 2005, "Simple
/// improved confidence intervals for comparing matched proportions", section 3), which keeps its level for the few
/// discordant pairs that quantization leaves. The value is the plain difference.
///
/// # Panics
/// If the slices differ in length or are empty.
#[must_use]
pub fn paired_difference(a: &[bool], b: &[bool]) -> Difference {
    assert!(
        a.len() == b.len() && !a.is_empty(),
        "the same images, and at least one"
    );
    let count =
        |of: fn(bool, bool) -> bool| a.iter().zip(b).filter(|&(&a, &b)| of(a, b)).count() as f64;
    let (only_a, only_b) = (count(|a, b| a && !b), count(|a, b| !a && b));
    let n = a.len() as f64;
    let (x, y, m) = (only_a + 0.5, only_b + 0.5, n + 2.0);
    let center = (x - y) / m;
    let half = 1.959_964 * ((x + y) - (x - y) * (x - y) / m).sqrt() / m;
    Difference {
        value: (only_a - only_b) / n,
        low: center - half,
        high: center + half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let summary = Summary::of(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!(
            (summary.median, summary.quartile_1, summary.quartile_3),
            (2.5, 1.75, 3.25)
        );
        assert_eq!((summary.min, summary.max, summary.runs), (1.0, 4.0, 4));
    }

    #[test]
    fn paired_intervals_match_a_hand_computed_case() {
        // 100 images: 10 right only in a, 4 right only in b. (10.5 − 4.5)/102 ± 1.96·√(15 − 36/102)/102.
        let a: Vec<bool> = (0..100).map(|i| i < 90).collect();
        let b: Vec<bool> = (0..100).map(|i| (10..90).contains(&i) || i >= 96).collect();
        let difference = paired_difference(&a, &b);
        assert!((difference.value - 0.06).abs() < 1e-12);
        assert!(
            (difference.low - (0.058_824 - 0.073_541)).abs() < 1e-4,
            "{difference:?}"
        );
        assert!(
            (difference.high - (0.058_824 + 0.073_541)).abs() < 1e-4,
            "{difference:?}"
        );
    }

    #[test]
    fn equal_predictions_still_have_an_interval() {
        let difference = paired_difference(&[true; 50], &[true; 50]);
        assert_eq!(difference.value, 0.0);
        assert!(difference.low < 0.0 && difference.high > 0.0);
    }
}
