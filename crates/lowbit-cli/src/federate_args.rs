//! `lowbit federate` beyond its settings, and which settings a sweep takes with `--federated` alone.

use crate::failure::Failure;
use crate::settings::{Flags, of};
use clap::Args;
use lowbit::ModelBits;
use lowbit_lab::Config;
use lowbit_lab::config::{Area, areas::Federating};

/// What makes a federation.
#[derive(Debug, Args)]
pub(crate) struct Federate {
    /// Bits per weight of the model that clients train and the server deploys: 32, 16, 8, 4, 2 or 1 [default: 8]
    #[arg(long, value_name = "N", help_heading = "Federation")]
    pub(crate) bits: Option<ModelBits>,
    /// Go on with a run that was stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// Show how many images of each class each client has, and stop
    #[arg(long)]
    pub(crate) show_partitions: bool,
    #[command(flatten)]
    pub(crate) settings: Flags<of::Federate>,
}

/// The bits of a federation's model: of the flag, or as a file says them for all commands.
pub(crate) fn bits(flag: Option<ModelBits>, config: &Config) -> ModelBits {
    flag.unwrap_or(config.widths.bits.into())
}

/// The settings of a federation: a sweep takes their flags with `--federated` alone.
pub(crate) fn only_federated(arg: clap::Arg) -> clap::Arg {
    match arg.get_help_heading() == Some(Federating::GROUP.heading) {
        true => arg.requires("federated"),
        false => arg,
    }
}

/// The keys of those settings.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    Federating::GROUP.settings.iter().map(|setting| setting.key)
}

/// What a sweep without a federation says to one of them.
pub(crate) fn needs_federated(key: &str) -> Failure {
    Failure::Input(format!(
        "{key}: a setting of a federation; add --federated, or leave it out"
    ))
}
