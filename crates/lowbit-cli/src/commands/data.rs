//! `lowbit data`: what a data set holds.

use super::Context;
use crate::failure::Failure;
use crate::table::table;
use lowbit::format::write_atomically;
use lowbit_data::contact_sheet;
use lowbit_lab::experiments::artifacts::refuse_own_input;
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
        refuse_own_input(sheet, &[Path::new(spec)])?;
    }
    let data = context.load_data(path)?;
    let classes = data.class_names.len();
    let (train, test) = (data.train.counts(classes), data.test.counts(classes));
    let rows = data.class_names.iter().zip(train.into_iter().zip(test));
    let results = Results {
        name: data.name.clone(),
        source: data.source.clone(),
        synthetic: data.synthetic,
        split: data.split.clone(),
        image_shape: [data.height, data.width, data.channels],
        classes: rows
            .map(|(name, (train, test))| ClassRow {
                name: name.clone(),
                train,
                test,
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
    let row = |name: &str, train: usize, test: usize| {
        vec![
            name.to_owned(),
            train.to_string(),
            test.to_string(),
            (train + test).to_string(),
        ]
    };
    let mut rows: Vec<_> = results
        .classes
        .iter()
        .map(|class| row(&class.name, class.train, class.test))
        .collect();
    let sum = |of: fn(&ClassRow) -> usize| results.classes.iter().map(of).sum();
    rows.push(row(
        "all",
        sum(|class| class.train),
        sum(|class| class.test),
    ));
    format!(
        "source: {}\n\n{}",
        results.source,
        table(&["class", "train", "test", "all"], &rows)
    )
}
