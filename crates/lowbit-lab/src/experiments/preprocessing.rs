//! Whether pixels become the input of somebody else's model as they did when it was trained: labelled images tell.

use super::inputs::Input;
use crate::evaluate::evaluate;
use crate::models::{Foreign, PREPROCESSINGS, open_onnx};
use crate::statistics::above_guessing;
use crate::{Config, LabError};
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::StoredModel;
use lowbit_data::Split;
use lowbit_kernels::Isa;

/// Images that tell one preprocessing from another.
const TRIED: usize = 200;

/// Labelled images that tell one preprocessing from another, and which accuracies are above chance.
struct Tried<'a> {
    foreign: &'a Foreign,
    config: &'a Config,
    isa: Isa,
    some: Split,
    classes: usize,
}

impl<'a> Tried<'a> {
    /// Takes some of the images, spread over all of them.
    fn new(
        foreign: &'a Foreign,
        (images, classes): (&Split, usize),
        config: &'a Config,
        isa: Isa,
    ) -> Self {
        let count = images.len().min(TRIED);
        let spread: Vec<usize> = (0..count).map(|i| i * images.len() / count).collect();
        Self {
            foreign,
            config,
            isa,
            some: images.take(&spread),
            classes,
        }
    }

    fn accuracy(&self, preprocess: &str) -> Result<f64, LabError> {
        let model = open_onnx(&self.foreign.file, self.config, preprocess)?;
        let model: Box<dyn Model> = match &model.stored {
            StoredModel::Float { graph, weights } => {
                Box::new(FloatModel::compile(graph, weights, self.isa)?)
            }
            StoredModel::Quantized(model) => Box::new(IntegerModel::compile(model, self.isa)?),
        };
        Ok(evaluate(&*model, &self.some)?.accuracy())
    }

    fn limit(&self) -> f64 {
        above_guessing(self.classes, self.some.len())
    }

    /// The accuracies of the preprocessings that have a name but this one.
    ///
    /// # Errors
    /// Why the model cannot be read with any of them.
    fn all_but(&self, given: &str) -> Result<Accuracies, LabError> {
        let names = PREPROCESSINGS.into_iter().filter(|&name| name != given);
        Accuracies::of(names, |name| self.accuracy(name))
    }
}

/// Accuracies under several preprocessings.
#[derive(Debug)]
struct Accuracies {
    /// The best first; at least one.
    found: Vec<(&'static str, f64)>,
    /// Those with which the model cannot be read, and why.
    skipped: Vec<(&'static str, LabError)>,
}

impl Accuracies {
    fn of(
        names: impl Iterator<Item = &'static str>,
        accuracy: impl Fn(&str) -> Result<f64, LabError>,
    ) -> Result<Self, LabError> {
        let (mut found, mut skipped) = (Vec::new(), Vec::new());
        for name in names {
            match accuracy(name) {
                Ok(accuracy) => found.push((name, accuracy)),
                Err(error) => skipped.push((name, error)),
            }
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        match skipped.pop() {
            Some((_, error)) if found.is_empty() => Err(error),
            last => {
                skipped.extend(last);
                Ok(Self { found, skipped })
            }
        }
    }

    fn best(&self) -> (&'static str, f64) {
        self.found[0]
    }

    fn describe(&self) -> String {
        let mut line = listed(&self.found);
        for (name, error) in &self.skipped {
            line += &format!("; not tried: {name}, since {error}");
        }
        line
    }
}

fn percent(accuracy: f64) -> String {
    format!("{:.1} %", 100.0 * accuracy)
}

fn listed(found: &[(&str, f64)]) -> String {
    let each = found
        .iter()
        .map(|(name, accuracy)| format!("{name} {}", percent(*accuracy)));
    each.collect::<Vec<_>>().join(", ")
}

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
    let data = &input.data;
    let labelled = (&data.test, data.class_names.len());
    let tried = Tried::new(foreign, labelled, config, isa);
    let (count, limit) = (tried.some.len(), tried.limit());
    let own = match given {
        "" if !foreign.has_preprocessing => None,
        given => Some(tried.accuracy(given)?),
    };
    if own.is_some_and(|own| own > limit) || count == 0 {
        return Ok(());
    }
    let found = tried.all_but(given)?;
    let (best, highest) = found.best();
    let file = foreign.file.display();
    let right = match given {
        "" => "is what its metadata say of preprocessing right?",
        _ => "is the preprocessing right?",
    };
    match own {
        Some(_) if highest <= limit => Ok(()),
        Some(own) => Err(LabError::Mismatch(format!(
            "{file}: {} of {count} images right, on {} classes: {right} With --preprocess {best} it would be {}",
            percent(own),
            tried.classes,
            percent(highest),
        ))),
        None => Err(LabError::Mismatch(format!(
            "{file}: say how pixels become its input, with --preprocess; of {count} images would be right with {}",
            found.describe(),
        ))),
    }
}

/// A preprocessing that labels chose.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundPreprocessing {
    /// Its name.
    pub name: String,
    /// All that were tried with their accuracies, the best first.
    pub tried: Vec<(&'static str, f64)>,
    /// Those with which the model cannot be read, with the reason.
    pub skipped: Vec<(&'static str, String)>,
    /// Images that chose.
    pub images: usize,
}

impl FoundPreprocessing {
    /// Says what was chosen, and by what margin.
    #[must_use]
    pub fn describe(&self) -> String {
        let margin = match &self.tried[..] {
            [best, next, ..] => format!("{:.1} points ahead", 100.0 * (best.1 - next.1)),
            _ => "which alone can be read".into(),
        };
        let skipped = self.skipped.iter();
        let skipped = skipped.map(|(name, reason)| format!("; not tried: {name}, since {reason}"));
        format!(
            "preprocessing found by {} labelled images: {}, {margin} ({}{}); --preprocess says another",
            self.images,
            self.name,
            listed(&self.tried),
            skipped.collect::<String>(),
        )
    }
}

/// Finds how pixels become the input of a foreign model: the preprocessing under which most of some labelled `images` are right,
/// of so many classes.
///
/// # Errors
/// [`LabError::Mismatch`] where all of them are at chance.
pub fn find_preprocessing(
    foreign: &Foreign,
    (images, classes): (&Split, usize),
    config: &Config,
    isa: Isa,
) -> Result<FoundPreprocessing, LabError> {
    let tried = Tried::new(foreign, (images, classes), config, isa);
    let found = tried.all_but("")?;
    if found.best().1 <= tried.limit() {
        return Err(LabError::Mismatch(format!(
            "{}: of {} images no more than chance are right, on {} classes, however pixels become its input ({}): are these its classes, in its order? See --labels and --preprocess",
            foreign.file.display(),
            tried.some.len(),
            tried.classes,
            found.describe(),
        )));
    }
    let reason = |(name, error): (&'static str, LabError)| (name, error.to_string());
    Ok(FoundPreprocessing {
        name: found.best().0.to_owned(),
        images: tried.some.len(),
        tried: found.found,
        skipped: found.skipped.into_iter().map(reason).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&'static str]) -> Result<Accuracies, LabError> {
        Accuracies::of(names.iter().copied(), |name| match name {
            "none:bgr" | "other" => Err(LabError::Mismatch(format!("no {name}"))),
            name => Ok(name.len() as f64 / 10.0),
        })
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_others_are_compared() {
        let found = of(&["half", "none:bgr", "unit1"]).unwrap();
        assert_eq!(found.best(), ("unit1", 0.5));
        let line = found.describe();
        assert_eq!(
            line,
            "unit1 50.0 %, half 40.0 %; not tried: none:bgr, since no none:bgr"
        );
        let error = of(&["none:bgr", "other"]).unwrap_err();
        assert_eq!(error.to_string(), "no other");
    }

    #[test]
    fn one_that_is_alone_has_no_margin() {
        let found = FoundPreprocessing {
            name: "none".into(),
            tried: vec![("none", 0.5)],
            skipped: vec![("none:bgr", "it is none".into())],
            images: 10,
        };
        let line = found.describe();
        assert!(
            line.contains(
                "which alone can be read (none 50.0 %; not tried: none:bgr, since it is none)"
            ),
            "{line}"
        );
    }
}
