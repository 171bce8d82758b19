//! What commands do when nothing is said, where that is not what all do.

use crate::args::Command;
use lowbit::train::Schedule;
use lowbit_lab::Config;

impl Command {
    /// What the command does when nothing is said.
    pub(crate) fn defaults(&self) -> Config {
        let mut config = Config::default();
        if let Self::Federate(_)
        | Self::Sweep {
            federated: true, ..
        } = self
        {
            federated_defaults(&mut config);
        }
        if let Self::Sweep { quick, .. } = self {
            sweep_defaults(&mut config, *quick);
        }
        config
    }
}

/// What a sweep does when nothing is said.
pub(crate) fn sweep_defaults(config: &mut Config, quick: bool) {
    config.repeats.seeds = SWEEP_SEEDS;
    if quick {
        config.training.epochs = 3;
        config.images.limit = 1500;
    }
}

/// What a federation does when nothing is said.
pub(crate) fn federated_defaults(config: &mut Config) {
    config.training.schedule = Schedule::Constant;
}

/// Seeds of a sweep: every one is a training per width.
const SWEEP_SEEDS: usize = 1;
