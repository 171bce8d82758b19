//! How several updates become one: one file per aggregator. All compute in f64 and in the clients' order.

mod krum;
mod mean;
mod median;
mod trimmed;

pub use mean::WeightedMean;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How several updates become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Aggregator {
    /// The mean, weighted by training images.
    #[default]
    Mean,
    /// The median of each number (Yin et al. 2018).
    Median,
    /// The mean of each number without this share of the largest and of the smallest (Yin et al. 2018).
    TrimmedMean {
        /// Share that is cut at either end, below 0.5.
        share: f64,
    },
    /// The one update that is nearest to most others (Blanchard et al. 2017).
    Krum {
        /// Updates that may be malicious.
        malicious: u32,
    },
}

impl Aggregator {
    /// Combines `updates`, all of the same length; not for [`Aggregator::Mean`], which needs no more than one at a time
    /// ([`WeightedMean`]).
    #[must_use]
    pub fn combine(self, updates: &[Vec<f32>]) -> Vec<f64> {
        match self {
            Self::Mean => {
                let mut mean = WeightedMean::new(updates.first().map_or(0, Vec::len));
                updates.iter().for_each(|update| mean.add(update, 1));
                mean.finish()
            }
            Self::Median => median::combine(updates),
            Self::TrimmedMean { share } => trimmed::combine(share, updates),
            Self::Krum { malicious } => krum::combine(malicious as usize, updates),
        }
    }
}

/// Number by number: `of` sees the values of all updates, which it may reorder.
fn by_number(updates: &[Vec<f32>], of: impl Fn(&mut [f32]) -> f64) -> Vec<f64> {
    let mut values = vec![0.0; updates.len()];
    (0..updates.first().map_or(0, Vec::len))
        .map(|at| {
            for (value, update) in values.iter_mut().zip(updates) {
                *value = update[at];
            }
            of(&mut values)
        })
        .collect()
}

impl fmt::Display for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean => f.write_str("mean"),
            Self::Median => f.write_str("median"),
            Self::TrimmedMean { share } => write!(f, "trimmed-mean:{share}"),
            Self::Krum { malicious } => write!(f, "krum:{malicious}"),
        }
    }
}

impl FromStr for Aggregator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .map_or((text, None), |(n, v)| (n, Some(v)));
        let refuse = || {
            format!(
                "unknown aggregator {text}: use mean, median, trimmed-mean:0.1 (below 0.5) or krum:1"
            )
        };
        match (name, value) {
            ("mean", None) => Ok(Self::Mean),
            ("median", None) => Ok(Self::Median),
            ("trimmed-mean", value) => match value.unwrap_or("0.1").parse() {
                Ok(share) if (0.0..0.5).contains(&share) => Ok(Self::TrimmedMean { share }),
                _ => Err(refuse()),
            },
            ("krum", value) => match value.unwrap_or("1").parse() {
                Ok(malicious) => Ok(Self::Krum { malicious }),
                Err(_) => Err(refuse()),
            },
            _ => Err(refuse()),
        }
    }
}

impl From<Aggregator> for String {
    fn from(aggregator: Aggregator) -> Self {
        aggregator.to_string()
    }
}

impl TryFrom<String> for Aggregator {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates() -> Vec<Vec<f32>> {
        vec![
            vec![1.0, 10.0],
            vec![2.0, -4.0],
            vec![4.0, 1.0],
            vec![100.0, 2.0],
            vec![3.0, 3.0],
        ]
    }

    #[test]
    fn the_mean_weighs_by_images() {
        // Flower's stock test: 1 + (1 · 0.5 + 3 · 2) / 4 per round, 5.875 after three.
        let mut model = 1.0;
        for _ in 0..3 {
            let mut mean = WeightedMean::new(1);
            mean.add(&[0.5], 1);
            mean.add(&[2.0], 3);
            model += mean.finish()[0];
        }
        assert_eq!(model, 5.875);
    }

    #[test]
    fn values_by_hand() {
        assert_eq!(Aggregator::Median.combine(&updates()), [3.0, 2.0]);
        assert_eq!(Aggregator::Median.combine(&updates()[..4]), [3.0, 1.5]);
        // One of five is cut at either end: (2 + 3 + 4) / 3 and (1 + 2 + 3) / 3.
        assert_eq!(
            Aggregator::TrimmedMean { share: 0.2 }.combine(&updates()),
            [3.0, 2.0]
        );
        // 0.1 · 5 rounds down to none, as in SciPy and Flower.
        assert_eq!(
            Aggregator::TrimmedMean { share: 0.1 }.combine(&updates()),
            [22.0, 2.4]
        );
    }

    /// Squared distances: between 3 (4, 1) and 5 (3, 3) 5, 2 and 5 50, 2 and 3 29, 1 and 5 53, 1 and 3 90, 1 and 2 197.
    /// With one malicious, two neighbors count: 5 + 50 for the last, 5 + 29 for the third, which is the least.
    #[test]
    fn krum_takes_the_update_with_the_nearest_neighbors() {
        assert_eq!(
            Aggregator::Krum { malicious: 1 }.combine(&updates()),
            [4.0, 1.0]
        );
        assert_eq!(
            Aggregator::Krum { malicious: 9 }.combine(&updates()[..1]),
            [1.0, 10.0]
        );
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["mean", "median", "trimmed-mean:0.1", "krum:1"] {
            assert_eq!(text.parse::<Aggregator>().unwrap().to_string(), text);
        }
        for text in [
            "average",
            "trimmed-mean:0.5",
            "krum:-1",
            "mean:2",
            "",
            "trimmed-mean:NaN",
        ] {
            assert!(text.parse::<Aggregator>().is_err(), "{text}");
        }
    }
}
