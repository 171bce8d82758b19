//! A model for other classes than it was trained for.

use super::fitted::brought_to;
use super::{Choice, Chosen, Measured, Purpose, as_told, overlap, pixels_of, seen};
use crate::experiments::inputs::{FloatFile, Wanted};
use crate::{Config, LabError};
use lowbit::graph::GraphError;
use lowbit::{Graph, Weights};
use lowbit_data::Progress;
use std::path::Path;

/// Gives a network a fresh last layer for the classes `names`, drawn by `seed`; all other tensors stay as they are.
///
/// # Errors
/// [`GraphError`] where it does not end in a linear layer.
pub fn new_head(
    graph: &Graph,
    weights: &Weights,
    names: &[String],
    seed: u64,
) -> Result<(Graph, Weights), GraphError> {
    let graph = graph.with_new_head(names)?;
    let fresh = Weights::init(&graph, seed);
    let head = graph
        .nodes()
        .last()
        .map_or(String::new(), |head| format!("{}.", head.name));
    let mut made = Weights::new();
    for parameter in graph.parameters() {
        let name = &parameter.name;
        let kept = weights
            .get(name)
            .filter(|tensor| tensor.shape() == parameter.shape && !name.starts_with(&head));
        let tensor = kept.or_else(|| fresh.get(name));
        made.insert(name, tensor.expect("fresh weights are whole").clone());
    }
    Ok((graph, made))
}

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
    let (graph, weights) = new_head(
        &model.graph,
        &model.weights,
        &input.data.class_names,
        config.run.seed,
    )?;
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
    let chosen = as_told(&measured, brought_to(&measured, input)?)?;
    if choice.split_seed.is_none()
        && let Some(found) = overlap(measured.record, file, &chosen.input.data.test)?
        && found.seen > 0
    {
        return Err(seen(&measured, &chosen.input, Purpose::FineTune, found));
    }
    Ok((model, chosen))
}
