//! Whether pixels become the input of somebody else's model as they did when it was trained: labelled images tell.

use super::inputs::Input;
use crate::evaluate::evaluate;
use crate::models::{Foreign, PREPROCESSINGS, open_onnx};
use crate::{Config, LabError};
use lowbit::exec::FloatModel;
use lowbit::format::StoredModel;
use lowbit_kernels::Isa;

/// Images that tell one preprocessing from another.
const TRIED: usize = 200;

/// Refuses to go on where the preprocessing of a foreign model was not said or cannot be right: on some labelled images its
/// accuracy is at chance, and another's is not. Says which would do.
///
/// # Errors
/// [`LabError::Mismatch`] with the accuracies.
pub fn check_preprocessing(
    foreign: &Foreign,
    input: &Input,
    config: &Config,
    isa: Isa,
) -> Result<(), LabError> {
    let given = config.onnx.preprocess.as_str();
    let test = &input.data.test;
    let count = test.len().min(TRIED);
    let spread: Vec<usize> = (0..count).map(|i| i * test.len() / count).collect();
    let some = test.take(&spread);
    let classes = input.data.class_names.len();
    let accuracy = |preprocess: &str| -> Result<f64, LabError> {
        let model = open_onnx(&foreign.file, config, preprocess)?;
        let StoredModel::Float { graph, weights } = model.stored else {
            unreachable!("an imported model is one of floats");
        };
        Ok(evaluate(&FloatModel::compile(&graph, &weights, isa)?, &some).accuracy())
    };
    // Three standard deviations above guessing.
    let chance = 1.0 / classes as f64;
    let limit = chance + 3.0 * (chance * (1.0 - chance) / count.max(1) as f64).sqrt();
    let own = match given {
        "" => None,
        given => Some(accuracy(given)?),
    };
    if own.is_some_and(|own| own > limit) || count == 0 {
        return Ok(());
    }
    let mut found = Vec::new();
    for name in PREPROCESSINGS.iter().filter(|&&name| name != given) {
        found.push((*name, accuracy(name)?));
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (best, highest) = found[0];
    let file = foreign.file.display();
    let percent = |accuracy: f64| format!("{:.1} %", 100.0 * accuracy);
    match own {
        Some(_) if highest <= limit => Ok(()),
        Some(own) => Err(LabError::Mismatch(format!(
            "{file}: {} of {count} images right, on {classes} classes: is the preprocessing right? With --preprocess {best} it would be {}",
            percent(own),
            percent(highest),
        ))),
        None => {
            let all: Vec<String> = found
                .iter()
                .map(|(name, accuracy)| format!("{name} {}", percent(*accuracy)))
                .collect();
            Err(LabError::Mismatch(format!(
                "{file}: say how pixels become its input, with --preprocess; of {count} images would be right with {}",
                all.join(", "),
            )))
        }
    }
}
