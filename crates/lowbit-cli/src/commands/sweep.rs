//! `lowbit sweep`: one model per width.

use super::Context;
use super::analyze;
use crate::failure::Failure;
use lowbit_lab::analysis;
use lowbit_lab::experiments::sweep::{WIDTHS, sweep};

pub(super) fn run(context: &Context, widths: &[u8]) -> Result<(), Failure> {
    if let Some(width) = widths.iter().find(|width| !WIDTHS.contains(width)) {
        return Err(Failure::Input(format!(
            "--widths {width}: use 32, 16, 8, 4, 2 or 1"
        )));
    }
    let data = context.load_data(None)?;
    sweep(
        &context.config,
        widths,
        &data,
        context.isa,
        &context.progress,
    )?;
    context.progress.stop();
    let found = analysis::analyze(&context.config.out, analyze::MAX_DROP)?;
    analyze::write_and_report(context, &context.config.out, &found)
}
