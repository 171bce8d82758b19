//! How the learning rate falls.

use serde::{Deserialize, Serialize};

/// The learning rate over the steps of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// From the base to zero along half a cosine, step by step (Loshchilov & Hutter 2017, equation 5, one cycle).
    #[default]
    Cosine,
    /// The base throughout.
    Constant,
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of `total`.
    #[must_use]
    pub fn lr(self, base: f32, step: u64, total: u64) -> f32 {
        match self {
            Self::Constant => base,
            Self::Cosine => {
                let done = step as f64 / total.max(1) as f64;
                (f64::from(base) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())) as f32
            }
        }
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cosine => "cosine",
            Self::Constant => "constant",
        })
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cosine" => Ok(Self::Cosine),
            "constant" => Ok(Self::Constant),
            _ => Err(format!("unknown schedule {name}: use cosine or constant")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_starts_at_the_base_halves_in_the_middle_and_ends_at_zero() {
        let lr = |step| Schedule::Cosine.lr(0.4, step, 100);
        assert_eq!(lr(0), 0.4);
        assert!((lr(50) - 0.2).abs() < 1e-7);
        assert!(lr(100).abs() < 1e-7);
        assert_eq!(Schedule::Constant.lr(0.4, 99, 100), 0.4);
    }
}
