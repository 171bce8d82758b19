//! `lowbit federate`: clients train, a server averages, bytes are counted.

use super::{Context, analyze};
use crate::args::Part;
use crate::failure::Failure;
use crate::federate_args::{Federate, bits};
use crate::federate_progress::{FederateProgress, megabytes, round_line};
use crate::table::table;
use lowbit::ModelBits;
use lowbit_data::{Dataset, labels_per_client};
use lowbit_lab::analysis::runs;
use lowbit_lab::decisive::recipe;
use lowbit_lab::experiments::federate::{self, FederateConfig, Federated, Resume, deal, federate};
use lowbit_lab::plural::grouped;
use lowbit_lab::tensorboard::TensorBoard;
use lowbit_lab::{Config, plural};

pub(super) fn run(context: &Context, args: &Federate) -> Result<(), Failure> {
    let config = &context.config;
    check(config)?;
    let input = context.input()?;
    say_unused(context, &input.data);
    let resume = match args.resume {
        // The first attempt of a task has nothing to go on from, and others may be at work beside it.
        true if crate::inside::is_here() => Resume::IfStopped,
        true => Resume::Expected,
        false => Resume::No,
    };
    let federation = FederateConfig::of(config, bits(args.bits, config), resume);
    federation
        .settings
        .check()
        .map_err(lowbit_lab::LabError::from)?;
    if args.show_partitions {
        return show_partitions(context, &federation, &input.data);
    }
    let shown = FederateProgress::new(
        &context.progress,
        federation.rounds,
        federation.settings.clients,
    );
    let board = TensorBoard::of(config)?;
    let logged = board
        .as_ref()
        .map(|board| board.federation("federate", &shown));
    let events = logged.as_deref().unwrap_or(&shown);
    let done = federate(config, &federation, &input, context.isa, events);
    shown.stop();
    let done = done?;
    if done.earlier {
        context
            .output
            .note("finished in an earlier call: nothing was run again");
    }
    let value = federate::json(&done);
    context.output.results(&value, || summary(&done))?;
    context.output.written(&done.folder)
}

/// Says that no round is chosen by validation images.
fn say_unused(context: &Context, data: &Dataset) {
    let count = data.validation.len();
    if count > 0 {
        context.output.note(&format!(
            "note: a federation leaves the {count} validation images alone: its last round's model is what it ends with"
        ));
    }
}

/// Refuses settings that no federation has.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let default = Config::default().training;
    if config.training.epochs != default.epochs {
        return Err(Failure::Input(
            "epochs: a federation has --rounds and --local-epochs".into(),
        ));
    }
    if let Some((key, value)) = recipe(&config.recipe).first() {
        return Err(Failure::Input(format!(
            "{key} = {value}: clients of a federation train without a recipe's settings; leave it out"
        )));
    }
    if config.qat.freeze_bn_epochs != 0 {
        return Err(Failure::Input(
            "freeze_bn_epochs: clients of a federation never freeze batch-norm; leave it out"
                .into(),
        ));
    }
    if config.chain.warm_start {
        return Err(Failure::Input(
            "warm_start: a federation begins with the fresh weights of its seed; leave it out"
                .into(),
        ));
    }
    if !config.recipe.start_from.as_os_str().is_empty() {
        return Err(Failure::Input(
            "start_from: a federation begins with the fresh weights of its seed; leave it out"
                .into(),
        ));
    }
    Ok(())
}

/// Every width in the federation, then the page and the tables of `lowbit analyze`.
///
/// With `part`, the trainings alone, of all seeds or of one, on the images that the first seed draws for all.
pub(crate) fn sweep(
    context: &Context,
    widths: &[ModelBits],
    part: Option<(Part, Option<u64>)>,
) -> Result<(), Failure> {
    check(&context.config)?;
    super::sweep::check_bits(&context.config)?;
    let input = context.input()?;
    say_unused(context, &input.data);
    let first = context.config.run.seed;
    let all = first..first + context.config.repeats.seeds as u64;
    let wanted = part.and_then(|(_, seed)| seed);
    let board = TensorBoard::of(&context.config)?;
    for seed in all.filter(|seed| wanted.is_none_or(|wanted| wanted == *seed)) {
        for &bits in widths {
            let mut config = context.config.clone();
            config.run.seed = seed;
            context
                .output
                .note(&format!("{}, seed {seed}", plural::bits(bits)));
            let federation = FederateConfig::of(&config, bits, Resume::IfStopped);
            let shown = FederateProgress::new(
                &context.progress,
                federation.rounds,
                federation.settings.clients,
            );
            let name = format!("{bits}bit_seed{seed}");
            let logged = board.as_ref().map(|board| board.federation(&name, &shown));
            let events = logged.as_deref().unwrap_or(&shown);
            let done = federate(&config, &federation, &input, context.isa, events);
            shown.stop();
            let done = done?;
            if done.earlier {
                context
                    .output
                    .note("finished in an earlier call: nothing was run again");
            }
        }
    }
    if part.is_some() {
        return Ok(());
    }
    let out = &context.config.results.out;
    analyze::write_and_report(context, out, &runs::read(out)?, analyze::Terms::default())
}

/// The table of images per client and class.
fn show_partitions(
    context: &Context,
    federation: &FederateConfig,
    data: &Dataset,
) -> Result<(), Failure> {
    let clients = deal(&context.config, federation, data)?;
    let counts = labels_per_client(data.train.labels(), data.class_names.len(), &clients);
    let people = || partition_table(&data.class_names, &counts);
    context.output.results(&counts, people)
}

fn partition_table(classes: &[String], counts: &[Vec<usize>]) -> String {
    let mut header = vec!["client"];
    header.extend(classes.iter().map(String::as_str));
    header.push("images");
    let cell = |count: &usize| match count {
        0 => "·".to_owned(),
        count => count.to_string(),
    };
    let row = |(client, row): (usize, &Vec<usize>)| {
        let mut cells = vec![client.to_string()];
        cells.extend(row.iter().map(cell));
        cells.push(row.iter().sum::<usize>().to_string());
        cells
    };
    let rows: Vec<Vec<String>> = counts.iter().enumerate().map(row).collect();
    table(&header, &rows)
}

fn summary(done: &Federated) -> String {
    let Federated {
        results,
        rounds,
        federation,
        ..
    } = done;
    let mut lines: Vec<String> = rounds
        .iter()
        .map(|round| round_line(round, rounds.len()))
        .collect();
    let parts = &federation.parts;
    let total = federation.bytes_up + federation.bytes_down;
    let per_client = rounds.last().and_then(|round| round.test_per_client);
    lines.push(format!(
        "\n{} of {} on {}: {:.2} % test accuracy after {} rounds",
        results.model,
        lowbit_lab::plural::bits(results.bit_width),
        results.data,
        100.0 * results.final_test_accuracy,
        rounds.len(),
    ));
    lines.extend(per_client.map(|each| {
        format!(
            "the mean of the clients' own models, each with its batch-norm: {:.2} to {:.2} %; {} did not train",
            100.0 * each.min,
            100.0 * each.max,
            each.untrained
        )
    }));
    lines.push(format!(
        "{} bytes sent: {} up, {} down",
        grouped(total),
        megabytes(federation.bytes_up),
        megabytes(federation.bytes_down),
    ));
    lines.push(format!(
        "codes {}, scales {}, vectors {}, statistics {}, headers {}",
        megabytes(parts.codes),
        megabytes(parts.scales),
        megabytes(parts.vectors),
        megabytes(parts.statistics),
        megabytes(parts.headers),
    ));
    if federation.failures > 0 {
        lines.push(format!("{} answers did not count:", federation.failures));
        for round in rounds {
            for failed in &round.failures {
                lines.push(format!(
                    "  round {}, client {}: {}",
                    round.round, failed.client, failed.failure
                ));
            }
        }
    }
    lines.push(format!(
        "{:.1} % of the time was neither training nor measuring",
        100.0 * federation.overhead
    ));
    lines.join("\n")
}
