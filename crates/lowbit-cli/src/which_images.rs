//! Which images a model is measured on, and which model a training begins with, as flags.

use crate::failure::Failure;
use clap::{Args, ValueHint};
use lowbit_lab::experiments::unseen::Choice;
use std::path::{Path, PathBuf};

/// Which images a model is measured on, where they are not those of its training.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct WhichImages {
    /// All images, training images too
    #[arg(long, conflicts_with = "split_seed")]
    all: bool,
    /// The split that this seed draws, even if the model has seen its test images
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
}

/// The same of the model that is given by `--from`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct WhichOfFrom {
    /// With --from: all images, training images too
    #[arg(long, conflicts_with = "split_seed")]
    all: bool,
    /// With --from: the split that this seed draws, even if the model has seen its test images
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
}

impl WhichOfFrom {
    /// The images that were asked for; without a model to measure there are none to choose.
    ///
    /// # Errors
    /// A line with the flag that is too many.
    pub(crate) fn of(self, model: Option<&Path>) -> Result<Choice, Failure> {
        let flag = match self {
            Self { all: true, .. } => "--all",
            Self {
                split_seed: Some(_),
                ..
            } => "--split-seed",
            _ => return Ok(Choice::default()),
        };
        match model {
            Some(_) => Ok(Choice {
                all: self.all,
                split_seed: self.split_seed,
            }),
            None => Err(Failure::Input(format!(
                "{flag}: which images a trained model is measured on; give the model with --from"
            ))),
        }
    }
}

/// The model that a training begins with.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Beginning {
    /// Go on from this trained FP32 model, lowbit's or ONNX, instead of fresh weights
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::FilePath)]
    pub(crate) from: Option<PathBuf>,
    /// With --from: a fresh last layer for the data's classes
    #[arg(long, requires = "from")]
    pub(crate) new_head: bool,
    /// With --from: the split that this seed draws, even if the model has seen its test images
    #[arg(long, value_name = "N", requires = "from")]
    split_seed: Option<u64>,
}

impl Beginning {
    /// Returns the split that was asked for.
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            all: false,
            split_seed: self.split_seed,
        }
    }
}

impl From<WhichImages> for Choice {
    fn from(which: WhichImages) -> Self {
        Self {
            all: which.all,
            split_seed: which.split_seed,
        }
    }
}
