//! `lowbit sweep`: one model per width.

use super::Context;
use super::{analyze, bench};
use crate::failure::Failure;
use crate::sweep_progress::SweepProgress;
use lowbit::format::{self, StoredModel};
use lowbit_lab::analysis::runs::Runs;
use lowbit_lab::experiments::sweep::{WIDTHS, sweep};
use lowbit_lab::{Config, Events, roofline};

pub(super) fn run(context: &Context, widths: &[u8], jobs: u16) -> Result<(), Failure> {
    if let Some(width) = widths.iter().find(|width| !WIDTHS.contains(width)) {
        return Err(Failure::Input(format!(
            "--widths {width}: use 32, 16, 8, 4, 2 or 1"
        )));
    }
    let bits = context.config.widths.bits;
    if bits != Config::default().widths.bits {
        return Err(Failure::Input(format!(
            "bits {bits}: a sweep has a model per width; use --widths 32,{bits}"
        )));
    }
    let input = context.input()?;
    let shown = SweepProgress::new(&context.progress, usize::from(jobs));
    let finished = sweep(
        &context.config,
        widths,
        usize::from(jobs),
        &input,
        context.isa,
        &shown,
    )?;
    shown.stop();
    let out = &context.config.results.out;
    if let Some(run) = finished.iter().find(|run| !run.earlier)
        && let StoredModel::Float { graph, weights } =
            format::load(&run.folder.join("model_fp32.safetensors"))?
    {
        context.progress.stage("roofline");
        let found = roofline::measure(&graph, &weights, &WIDTHS, context.isa)?;
        bench::write_roofline(out, &found)?;
    }
    context.progress.stop();
    analyze::write_and_report(
        context,
        out,
        &Runs::of_call(&finished, out),
        analyze::MAX_DROP,
    )
}
