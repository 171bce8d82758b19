//! `lowbit recommend`: which model to ship.

use super::Context;
use crate::args::WhichImages;
use crate::failure::Failure;
use crate::output::bold;
use crate::settings::{Flags, of};
use crate::table::table;
use clap::{Args, ValueHint};
use lowbit_lab::experiments::inputs::float_model;
use lowbit_lab::experiments::preprocessing::{check_preprocessing, find_preprocessing};
use lowbit_lab::experiments::recommend::{
    FOLDER, HEADER, Recommendation, Request, Target, candidates, labelled_calibration, recommend,
};
use lowbit_lab::experiments::unseen::{Measured, Purpose, images_for};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The flags of the command.
#[derive(Debug, Args)]
pub(crate) struct Recommend {
    /// A model file with FP32 weights, lowbit's or ONNX
    #[arg(value_name = "MODEL", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Points of accuracy that may be lost
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "POINTS",
        allow_negative_numbers = true
    )]
    max_drop: f64,
    /// How long trying may take: 90s, 5m, 1h
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = duration)]
    time: Duration,
    /// What the model should be best at
    #[arg(long, value_enum, default_value_t = What::Latency)]
    target: What,
    /// Images of a timed call, 1 to 4096 [default: 1; 64 with --target throughput]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Option<u16>,
    /// List what would be tried
    #[arg(long)]
    dry_run: bool,
    /// Take quantized models that an earlier run has made
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    which: WhichImages,
    #[command(flatten)]
    pub(crate) settings: Flags<of::Recommend>,
}

/// What the model to ship should be best at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Time of one call.
    Latency,
    /// Images per second in large batches.
    Throughput,
    /// Bytes of the file.
    Size,
}

impl What {
    /// Images of a timed call where nobody says how many.
    fn batch(self) -> usize {
        match self {
            Self::Throughput => 64,
            Self::Latency | Self::Size => 1,
        }
    }
}

impl From<What> for Target {
    fn from(what: What) -> Self {
        match what {
            What::Latency => Self::Latency,
            What::Throughput => Self::Throughput,
            What::Size => Self::Size,
        }
    }
}

pub(super) fn run(context: &Context, asked: &Recommend) -> Result<(), Failure> {
    let begun = Instant::now();
    let file = asked.file.as_path();
    if !(asked.max_drop > 0.0 && asked.max_drop <= 100.0) {
        return Err(Failure::Input(format!(
            "--max-drop {}: must lie above 0 and up to 100 points",
            asked.max_drop
        )));
    }
    if asked.dry_run {
        let list: Vec<String> = candidates()
            .iter()
            .map(|candidate| format!("{}: lowbit quantize {}", candidate.name, candidate.flags()))
            .collect();
        return context.output.results(&list, || list.join("\n"));
    }
    let mut config = context.config.clone();
    let mut model = float_model(file, &config)?;
    context.describe_foreign(model.foreign.as_ref());
    let measured = Measured {
        file,
        graph: &model.graph,
        record: model.record.as_ref(),
        foreign: model.foreign.as_ref(),
    };
    let chosen = images_for(
        &measured,
        Purpose::Calibrate,
        asked.which.into(),
        &config,
        &context.progress,
    )?;
    if let Some(foreign) = &model.foreign {
        if config.onnx.preprocess.is_empty() {
            let some = labelled_calibration(&chosen, &config);
            let labelled = (&some, chosen.input.data.class_names.len());
            let found = find_preprocessing(foreign, labelled, &config, context.isa)?;
            context.output.note(&found.describe());
            config.onnx.preprocess = found.name;
            model = float_model(file, &config)?;
        } else {
            check_preprocessing(foreign, &chosen.input, &config, context.isa)?;
        }
    }
    model.graph = model
        .graph
        .with_class_names(&chosen.input.data.class_names)?;
    let request = Request {
        file,
        model: &model,
        max_drop: asked.max_drop,
        begun,
        time: asked.time,
        target: asked.target.into(),
        batch: asked.batch.map_or(asked.target.batch(), usize::from),
        resume: context.resume,
    };
    let found = recommend(&config, &request, &chosen, context.isa, &context.progress)?;
    context.progress.stop();
    context.output.results(&found, || text(&found))?;
    context.output.written(&config.results.out.join(FOLDER))?;
    match found.verdict.fits {
        true => Ok(()),
        false => Err(Failure::Told(3)),
    }
}

fn text(found: &Recommendation) -> String {
    let [calibration, choosing, verdict] = found.images;
    let mut text = format!(
        "\n{} on {}, {}\n{calibration} images set ranges, {choosing} chose, {verdict} chose nothing; calls of {} on {} threads\n\n",
        found.model,
        found.data,
        found.machine.summary(),
        plural(found.batch),
        found.threads,
    );
    text += &table(&HEADER, &found.cells());
    text += "\n* no other row is better in accuracy, latency and bytes at once\n";
    for line in &found.skipped {
        text += &format!("not tried: {line}\n");
    }
    let shipped = found.rows.iter().find(|row| row.name == found.verdict.ship);
    text += &format!("\n{}\n", bold(&found.verdict.sentence));
    if let Some(row) = shipped.filter(|row| !row.command.is_empty()) {
        text += &row.command;
    }
    text
}

fn plural(images: usize) -> String {
    match images {
        1 => "1 image".into(),
        images => format!("{images} images"),
    }
}

/// `90s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len()),
    );
    let seconds = match unit {
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("use 90s, 5m or 1h".into()),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number * seconds <= 1e7 => {
            Ok(Duration::from_secs_f64(number * seconds))
        }
        _ => Err("use 90s, 5m or 1h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        let seconds = |text| duration(text).map(|time| time.as_secs_f64());
        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds("1.5m"), Ok(90.0));
        assert_eq!(seconds("2h"), Ok(7200.0));
        for wrong in ["", "m", "-5m", "5d", "0s", "1e9h", "5 m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
