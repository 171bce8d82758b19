//! Images as a model takes them: in its channels, with its numbers for the classes.

use super::Measured;
use crate::LabError;
use crate::experiments::inputs::Input;
use lowbit_data::Dataset;

/// The images in the model's classes and channels.
pub(super) fn fitted(model: &Measured<'_>, input: Input) -> Result<Input, LabError> {
    not_made_up(model, &input.data)?;
    brought_to(model, input)
}

/// The same of images that a model need not know, for a new head.
pub(super) fn brought_to(model: &Measured<'_>, mut input: Input) -> Result<Input, LabError> {
    let graph = model.graph;
    let before = (input.data.channels, input.data.class_names.clone());
    input.data = input.data.with_channels(graph.input().c());
    if graph.input() != input.shape() {
        return Err(LabError::Mismatch(format!(
            "{}: takes {} images, the data have {}: use --image-size or other data",
            model.file.display(),
            graph.input(),
            input.shape(),
        )));
    }
    in_classes(model, &mut input.data)?;
    if before != (input.data.channels, input.data.class_names.clone()) {
        input.identity = input.data.identity()?;
    }
    Ok(input)
}

/// Refuses images that are made where none are given, if the model has learned from others: its classes may have the same names.
fn not_made_up(model: &Measured<'_>, data: &Dataset) -> Result<(), LabError> {
    if let Some(record) = model.record.filter(|record| record.data != data.name)
        && data.synthetic
    {
        return Err(LabError::Mismatch(format!(
            "{}: was trained on {}, and {} has synthetic images: say with --data where its images are",
            model.file.display(),
            record.data,
            data.name,
        )));
    }
    Ok(())
}

/// Gives the labels the numbers that the model has for their names; classes that the data lack have no images.
fn in_classes(model: &Measured<'_>, data: &mut Dataset) -> Result<(), LabError> {
    let names = model.graph.class_names();
    if names == data.class_names {
        return Ok(());
    }
    if model
        .foreign
        .is_some_and(|foreign| !foreign.has_class_names)
    {
        let (known, found) = (names.len(), data.class_names.len());
        return match known == found {
            // The order of sorted names, as most loaders have it.
            true => Ok(()),
            false => Err(LabError::Mismatch(format!(
                "{}: has {known} classes, which it does not name, {} has {found}: give --labels a file with the model's classes, or other data, or train --from it with --new-head",
                model.file.display(),
                data.name,
            ))),
        };
    }
    let place = |name: &String| names.iter().position(|known| known == name);
    let unknown: Vec<&str> = data
        .class_names
        .iter()
        .filter(|name| place(name).is_none())
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let trained = model.record.map_or(String::new(), |record| {
            format!(" (it was trained on {}: see --data)", record.data)
        });
        return Err(LabError::Mismatch(format!(
            "{}: has the classes {}, and not {} of {}{trained}",
            model.file.display(),
            listed(names),
            unknown.join(", "),
            data.name,
        )));
    }
    let to: Vec<u32> = data
        .class_names
        .iter()
        .filter_map(|name| place(name).map(|index| index as u32))
        .collect();
    for split in [&mut data.train, &mut data.validation, &mut data.test] {
        let labels = split.labels().iter().map(|&label| to[label as usize]);
        let labels: Vec<u32> = labels.collect();
        split.relabel(&labels);
    }
    data.class_names = names.to_vec();
    Ok(())
}

/// The first names, and how many there are.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    if names.len() <= SHOWN {
        return names.join(", ");
    }
    format!("{}, … ({} in all)", names[..SHOWN].join(", "), names.len())
}
