//! What the server does with the clients' mean update: one file per strategy.
//!
//! Formulas are Flower 1.41's (`flwr.serverapp.strategy`), with updates for models: its `aggregate − current` is the mean
//! update here.

mod fedadam;
mod fedavg;
mod fedavgm;
mod fedprox;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the mean update changes the global model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Strategy {
    /// Adds it (McMahan et al. 2017).
    #[default]
    FedAvg,
    /// Adds it; clients are pulled towards the model that they received (Li et al. 2020).
    FedProx {
        /// Weight μ of half the squared distance in the client's loss.
        mu: f32,
    },
    /// With momentum at the server (Hsu et al. 2019).
    FedAvgM {
        /// Share of the last step that is kept.
        momentum: f32,
    },
    /// Adam at the server (Reddi et al. 2021).
    FedAdam {
        /// The server's learning rate η.
        eta: f32,
    },
}

/// What a strategy remembers from round to round: empty where it needs nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Momentum, or the first moment.
    pub first: Vec<f32>,
    /// The second moment.
    pub second: Vec<f32>,
}

impl Strategy {
    /// Changes what gradients train by the mean `update`; `round` counts from 1.
    pub fn step(self, round: u32, update: &[f64], memory: &mut Memory, global: &mut [f32]) {
        match self {
            Self::FedAvg | Self::FedProx { .. } => fedavg::step(update, global),
            Self::FedAvgM { momentum } => {
                fedavgm::step(momentum, update, &mut memory.first, global)
            }
            Self::FedAdam { eta } => fedadam::step(eta, round, update, memory, global),
        }
    }

    /// μ of the clients' proximal term; 0 for none.
    #[must_use]
    pub fn proximal(self) -> f32 {
        fedprox::mu(self)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FedAvg => f.write_str("fedavg"),
            Self::FedProx { mu } => write!(f, "fedprox:{mu}"),
            Self::FedAvgM { momentum } => write!(f, "fedavgm:{momentum}"),
            Self::FedAdam { eta } => write!(f, "fedadam:{eta}"),
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .map_or((text, None), |(n, v)| (n, Some(v)));
        let number = |default: f32, below: f32| match value.map(str::parse::<f32>) {
            None => Ok(default),
            Some(Ok(value)) if value > 0.0 && value < below => Ok(value),
            Some(_) => Err(format!(
                "strategy {text}: the number after the colon must lie between 0 and {below}"
            )),
        };
        match (name, value) {
            ("fedavg", None) => Ok(Self::FedAvg),
            ("fedprox", _) => Ok(Self::FedProx {
                mu: number(0.01, 100.0)?,
            }),
            ("fedavgm", _) => Ok(Self::FedAvgM {
                momentum: number(0.9, 1.0)?,
            }),
            ("fedadam", _) => Ok(Self::FedAdam {
                eta: number(0.01, 10.0)?,
            }),
            _ => Err(format!(
                "unknown strategy {text}: use fedavg, fedprox:0.01, fedavgm:0.9 or fedadam:0.01"
            )),
        }
    }
}

impl From<Strategy> for String {
    fn from(strategy: Strategy) -> Self {
        strategy.to_string()
    }
}

impl TryFrom<String> for Strategy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(strategy: Strategy, updates: &[[f64; 2]]) -> Vec<f32> {
        let (mut memory, mut global) = (Memory::default(), vec![1.0, -2.0]);
        for (round, update) in updates.iter().enumerate() {
            strategy.step(round as u32 + 1, update, &mut memory, &mut global);
        }
        global
    }

    fn close(found: &[f32], expected: &[f64]) {
        for (&found, &expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(found) - expected).abs() < 2e-6,
                "{found} for {expected}"
            );
        }
    }

    #[test]
    fn fedavg_adds_the_mean_update() {
        close(
            &after(Strategy::FedAvg, &[[0.5, 1.0], [0.25, -1.0]]),
            &[1.75, -2.0],
        );
        close(
            &after(Strategy::FedProx { mu: 0.1 }, &[[0.5, 1.0]]),
            &[1.5, -1.0],
        );
    }

    #[test]
    fn momentum_by_hand() {
        // Steps 0.5, then 0.9 · 0.5 + 0.25 = 0.7; 1, then 0.9 − 1 = −0.1.
        let found = after(
            Strategy::FedAvgM { momentum: 0.9 },
            &[[0.5, 1.0], [0.25, -1.0]],
        );
        close(&found, &[2.2, -1.1]);
    }

    /// Computed with numpy by the lines of `flwr` 1.41.0's `fedadam.py` (β₁ 0.9, β₂ 0.99, τ 0.001, η 0.1).
    #[test]
    fn adam_as_flower_computes_it() {
        let found = after(Strategy::FedAdam { eta: 0.1 }, &[[0.5, 1.0], [0.25, -1.0]]);
        close(&found, FLOWER);
    }

    const FLOWER: &[f64] = &[1.151_332_27, -1.930_965_46];

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["fedavg", "fedprox:0.01", "fedavgm:0.9", "fedadam:0.01"] {
            assert_eq!(text.parse::<Strategy>().unwrap().to_string(), text);
        }
        assert_eq!(
            "fedavgm".parse::<Strategy>().unwrap().to_string(),
            "fedavgm:0.9"
        );
        for text in [
            "fedsgd",
            "fedavg:1",
            "fedprox:-1",
            "fedavgm:1",
            "fedadam:x",
            "",
            "fedprox:",
        ] {
            assert!(text.parse::<Strategy>().is_err(), "{text}");
        }
    }
}
