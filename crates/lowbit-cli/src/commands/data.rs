//! `lowbit data`: what a data set holds.

use super::Context;
use crate::failure::Failure;
use crate::table::table;
use lowbit::format::write_atomically;
use lowbit_data::contact_sheet;
use lowbit_lab::experiments::artifacts::check_output;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Results {
    name: String,
    source: String,
    synthetic: bool,
    split: String,
    image_shape: [usize; 3],
    classes: Vec<ClassRow>,
    /// What was left out, and why.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct ClassRow {
    name: String,
    train: usize,
    validation: usize,
    test: usize,
}

pub(super) fn run(
    context: &Context,
    path: Option<&str>,
    sheet: Option<&Path>,
    per_class: usize,
) -> Result<(), Failure> {
    if let Some(sheet) = sheet {
        let spec = path.unwrap_or(&context.config.images.data);
        check_output(sheet, &[Path::new(spec)])?;
    }
    let data = context.load_data(path)?;
    let classes = data.class_names.len();
    let [train, validation, test] =
        [&data.train, &data.validation, &data.test].map(|split| split.counts(classes));
    let rows = data.class_names.iter().enumerate();
    let results = Results {
        name: data.name.clone(),
        source: data.source.clone(),
        synthetic: data.synthetic,
        split: data.split.clone(),
        image_shape: [data.height, data.width, data.channels],
        classes: rows
            .map(|(class, name)| ClassRow {
                name: name.clone(),
                train: train[class],
                validation: validation[class],
                test: test[class],
            })
            .collect(),
        notes: data.notes.clone(),
    };
    if let Some(sheet) = sheet {
        write_atomically(sheet, &contact_sheet(&data, per_class)?)?;
        context
            .output
            .note(&format!("contact sheet in {}", sheet.display()));
    }
    context.output.results(&results, || report(&results))
}

fn report(results: &Results) -> String {
    let sum = |of: fn(&ClassRow) -> usize| results.classes.iter().map(of).sum();
    let all = ClassRow {
        name: "all".into(),
        train: sum(|class| class.train),
        validation: sum(|class| class.validation),
        test: sum(|class| class.test),
    };
    // A column of zeros tells nothing.
    let is_shown = |title: &&str| *title != "validation" || all.validation > 0;
    let row = |class: &ClassRow| {
        let &ClassRow {
            train,
            validation,
            test,
            ..
        } = class;
        let mut cells = vec![class.name.clone(), train.to_string()];
        if all.validation > 0 {
            cells.push(validation.to_string());
        }
        cells.extend([test.to_string(), (train + validation + test).to_string()]);
        cells
    };
    let rows: Vec<_> = results.classes.iter().chain([&all]).map(row).collect();
    let titles = ["class", "train", "validation", "test", "all"];
    let titles: Vec<&str> = titles.into_iter().filter(is_shown).collect();
    format!("source: {}\n\n{}", results.source, table(&titles, &rows))
}
