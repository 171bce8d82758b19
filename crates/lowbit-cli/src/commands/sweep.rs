//! `lowbit sweep`: one model per width.

use super::Context;
use super::{analyze, bench};
use crate::args::Part;
use crate::failure::Failure;
use crate::inside;
use crate::output::tell;
use crate::sweep_progress::SweepProgress;
use crate::which_images::Beginning;
use lowbit::ModelBits;
use lowbit::format::{self, StoredModel};
use lowbit_lab::analysis::runs::Runs;
use lowbit_lab::experiments::sweep::{Failed, Subject, Swept, measure, sweep, train_widths};
use lowbit_lab::tensorboard::TensorBoard;
use lowbit_lab::{Config, Events, roofline};

/// Refuses bits of one model.
pub(super) fn check_bits(config: &Config) -> Result<(), Failure> {
    let bits = config.widths.bits;
    match bits == Config::default().widths.bits {
        true => Ok(()),
        false => Err(Failure::Input(format!(
            "bits {bits}: a sweep has a model per width; use --widths 32,{bits}"
        ))),
    }
}

pub(super) fn run(
    context: &Context,
    widths: &[ModelBits],
    jobs: u16,
    part: Option<(Part, Option<u64>)>,
    beginning: &Beginning,
) -> Result<(), Failure> {
    check_bits(&context.config)?;
    let input;
    let subject = match context.beginning(beginning)? {
        Some((model, chosen)) => {
            input = chosen.input;
            Subject::trained(model, &input, chosen.evaluated)
        }
        None => {
            input = context.input()?;
            Subject::named(&context.config, &input)?
        }
    };
    let shown = SweepProgress::new(&context.progress, usize::from(jobs));
    let (config, isa) = (&context.config, context.isa);
    let board = TensorBoard::of(config)?;
    let logged = board.as_ref().map(|board| board.sweep(&shown));
    let events = logged.as_deref().unwrap_or(&shown);
    let jobs = usize::from(jobs);
    let Swept { finished, failed } = match part {
        None => sweep(config, widths, jobs, &subject, isa, events)?,
        Some((Part::Train, seed)) => {
            let runs = train_widths(config, widths, seed, jobs, &subject, isa, events)?;
            inside::made(&runs.finished, &config.results.out)?;
            runs
        }
        Some((Part::Measure, _)) => Swept {
            finished: measure(config, widths, &subject, isa, events)?,
            failed: vec![],
        },
    };
    let part = part.map(|(part, _)| part);
    shown.stop();
    if part == Some(Part::Train) || finished.is_empty() {
        return all_or(&failed, finished.len());
    }
    let out = &config.results.out;
    if let Some(run) = finished
        .iter()
        .find(|run| !run.earlier || part == Some(Part::Measure))
        && let StoredModel::Float { graph, weights } =
            format::load(&run.folder.join("model_fp32.safetensors"))?
    {
        context.progress.stage("roofline");
        let found = roofline::measure(&graph, &weights, &ModelBits::ALL, context.isa)?;
        bench::write_roofline(out, &found)?;
    }
    context.progress.stop();
    if part == Some(Part::Measure) {
        return Ok(());
    }
    analyze::write_and_report(
        context,
        out,
        &Runs::of_call(&finished, out),
        analyze::Terms::default(),
    )?;
    all_or(&failed, finished.len())
}

/// Says of each run that failed why, where any did.
fn all_or(failed: &[Failed], finished: usize) -> Result<(), Failure> {
    let line = |one: &Failed| format!("{}: {}", one.run.named(), one.why);
    match failed {
        [] => Ok(()),
        [one] => Err(Failure::Run(line(one))),
        several => {
            several.iter().for_each(|one| tell(&line(one)));
            let all = several.len() + finished;
            Err(Failure::Run(format!(
                "{} of {all} runs failed",
                several.len()
            )))
        }
    }
}
