//! `lowbit recommend`: which model to ship.

use super::{Context, describe};
use crate::failure::Failure;
use crate::output::bold;
use crate::recommend_args::Recommend;
use crate::table::table;
use lowbit::WeightBits;
use lowbit_lab::experiments::inputs::float_model;
use lowbit_lab::experiments::preprocessing::{check_preprocessing, find_preprocessing};
use lowbit_lab::experiments::recommend::{
    Candidate, FOLDER, FRONT, FineTuning, HEADER, Origin, Recommendation, Request, candidates,
    labelled_calibration, recommend, trained,
};
use lowbit_lab::experiments::unseen::{Measured, Purpose, images_for};
use lowbit_lab::{Config, plural};
use std::time::Instant;

pub(super) fn run(context: &Context, asked: &Recommend) -> Result<(), Failure> {
    let begun = Instant::now();
    let file = asked.file.as_path();
    if !(asked.max_drop > 0.0 && asked.max_drop <= 100.0) {
        return Err(Failure::Input(format!(
            "--max-drop {}: must lie above 0 and up to 100 points",
            asked.max_drop
        )));
    }
    let mut config = context.config.clone();
    let mut model = float_model(file, &config)?;
    context.refuse_said_again(file, Some(model.graph.input()))?;
    if asked.dry_run {
        let list = would_be_tried(asked, &config);
        return context.output.results(&list, || list.join("\n"));
    }
    context.describe_foreign(model.foreign.as_ref());
    let measured = Measured {
        file,
        graph: &model.graph,
        record: model.record.as_ref(),
        foreign: model.foreign.as_ref(),
    };
    let chosen = images_for(
        &measured,
        match asked.train {
            None => Purpose::Calibrate,
            Some(_) => Purpose::FineTune,
        },
        asked.which.into(),
        &config,
        &context.progress,
    )?;
    context.say(&describe(&chosen.input.data), &chosen.input.data);
    if let Some(foreign) = &model.foreign {
        if config.onnx.preprocess.is_empty() && !foreign.has_preprocessing {
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
        choice: asked.which.into(),
        max_drop: asked.max_drop,
        begun,
        time: asked.time,
        train: asked.train,
        target: asked.target(),
        batch: asked.images_per_call(),
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

/// What would be tried, a line each.
fn would_be_tried(asked: &Recommend, config: &Config) -> Vec<String> {
    let fixed = candidates();
    let origin = Origin {
        file: &asked.file,
        choice: asked.which.into(),
        config,
    };
    // A third of the training images at most: how many those are, the data tell.
    let calibration_images = config.calibration.calibration_images;
    let command = |candidate: &Candidate| origin.command(candidate, calibration_images, None);
    let line = |candidate: &Candidate| format!("{}: {}", candidate.name, command(candidate));
    let training = |bits: WeightBits| {
        let one = trained(bits, 0);
        // How many epochs fit, an epoch tells.
        let command = command(&one).replace("--epochs 0 ", "--epochs N ");
        format!(
            "{}: {command}, where no rounded model is shown to lose at most {}",
            one.name,
            plural::of(asked.max_drop, "point")
        )
    };
    let trainings = asked.train.map(|_| FineTuning::WIDTHS.map(training));
    let mixed = "mixed widths: with the bytes of 6 bits and of 4, and for less time, by what each layer loses";
    let fixed = fixed.iter().map(line);
    let all = fixed.chain([mixed.into()]);
    all.chain(trainings.into_iter().flatten()).collect()
}

fn text(found: &Recommendation) -> String {
    let mut text = format!(
        "\n{} on {}, {}\n{}\n\n",
        found.model,
        found.data,
        found.machine.summary(),
        found.conditions(),
    );
    text += &table(&HEADER, &found.cells());
    text += &format!("\n{FRONT}\n");
    for line in &found.skipped {
        text += &format!("not tried: {line}\n");
    }
    let shipped = found.rows.iter().find(|row| row.name == found.verdict.ship);
    text += &format!("\n{}\n", bold(&found.verdict.sentence));
    if let Some(next) = &found.verdict.next {
        text += &format!("{next}\n");
    }
    if let Some(row) = shipped.filter(|row| !row.command.is_empty()) {
        text += &row.command;
    }
    text
}
