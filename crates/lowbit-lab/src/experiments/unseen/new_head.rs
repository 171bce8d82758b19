//! A model for other classes than it was trained for.

use super::fitted::fitted;
use super::{Choice, Chosen, Measured, Purpose, as_told, overlap, pixels_of, seen};
use crate::experiments::inputs::{FloatFile, Wanted};
use crate::{Config, LabError};
use lowbit::Weights;
use lowbit_data::Progress;
use std::path::Path;

/// Takes the images of this run's split, or of the one that `choice` names, and gives `model` a fresh last layer for their classes,
/// drawn by the run's seed.
///
/// # Errors
/// [`LabError`] where the images do not load or do not fit, the model has learned from test images and no split was named, it does
/// not end in a linear layer, or nobody says how pixels become its input: labels cannot tell.
pub fn images_for_new_head(
    file: &Path,
    model: FloatFile,
    choice: Choice,
    config: &Config,
    progress: &dyn Progress,
) -> Result<(FloatFile, Chosen), LabError> {
    if model
        .foreign
        .as_ref()
        .is_some_and(|foreign| !foreign.has_preprocessing)
    {
        return Err(LabError::Mismatch(format!(
            "{}: say how pixels become its input, with --preprocess: with a new head labels cannot tell which is right",
            file.display()
        )));
    }
    let before = Measured {
        file,
        graph: &model.graph,
        record: model.record.as_ref(),
        foreign: model.foreign.as_ref(),
    };
    let own = Wanted::by(config);
    let (image_size, resize) = pixels_of(&before, &own)?;
    let wanted = Wanted {
        seed: choice.split_seed.unwrap_or(own.seed),
        image_size,
        resize,
        exif: before.record.map_or(own.exif, |record| record.exif),
        ..own
    };
    let input = wanted.load(config, progress)?;
    let graph = model.graph.with_new_head(&input.data.class_names)?;
    let fresh = Weights::init(&graph, config.run.seed);
    let mut weights = Weights::new();
    for parameter in graph.parameters() {
        let kept = model.weights.get(&parameter.name);
        let kept = kept.filter(|tensor| tensor.shape() == parameter.shape);
        let is_head = graph
            .nodes()
            .last()
            .is_some_and(|head| parameter.name.starts_with(&format!("{}.", head.name)));
        let tensor = kept
            .filter(|_| !is_head)
            .or_else(|| fresh.get(&parameter.name));
        weights.insert(
            &parameter.name,
            tensor.expect("fresh weights are whole").clone(),
        );
    }
    let model = FloatFile {
        graph,
        weights,
        ..model
    };
    let measured = Measured {
        file,
        graph: &model.graph,
        record: model.record.as_ref(),
        foreign: model.foreign.as_ref(),
    };
    let chosen = as_told(&measured, fitted(&measured, input)?)?;
    if choice.split_seed.is_none()
        && let Some(found) = overlap(measured.record, file, &chosen.input.data.test)?
        && found.seen > 0
    {
        return Err(seen(&measured, &chosen.input, Purpose::FineTune, found));
    }
    Ok((model, chosen))
}
