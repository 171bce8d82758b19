//! The flags of `lowbit doctor`.

use crate::settings::{Flags, of};
use crate::which_images::WhichImages;
use clap::{Args, ValueHint};
use std::path::PathBuf;

/// The flags of the command.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A model file, FP32 or quantized: ONNX, lowbit's, or the checkpoint of a training
    #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Time layers against their FP32 twins too (with --data)
    #[arg(long)]
    pub(crate) time: bool,
    #[command(flatten)]
    pub(crate) which: WhichImages,
    #[command(flatten)]
    pub(crate) settings: Flags<of::Doctor>,
}
