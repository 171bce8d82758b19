//! Which images a trained model may be measured on: those that it has not learned from.
//!
//! A model's file says what it was trained on. Where the data are the same, they are split as they were in training, whatever
//! the seed of this run. Where they are others, all of them are measured, unless some were training images: then a person
//! must say what is wanted.

mod evaluated;
mod fitted;
mod new_head;

use super::inputs::{Input, Wanted};
use crate::models::Foreign;
use crate::{Config, LabError};
pub use evaluated::{Evaluated, Which};
use fitted::fitted;
use lowbit::format::{FormatError, TrainingRecord};
use lowbit::{Graph, Shape};
use lowbit_data::{Dataset, Overlap, Progress, Resize, Sketch, Split, SplitRule};
pub use new_head::{images_for_new_head, new_head};
use std::path::Path;

/// What a person says about the images to measure on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// All images, seen or not.
    pub all: bool,
    /// The test part of the split that this seed draws, seen or not.
    pub split_seed: Option<u64>,
}

/// What the images are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Test images are measured, and training images not used.
    Evaluate,
    /// Training images are used, and test images not measured.
    Calibrate,
    /// Training images set the activation ranges, test images are measured.
    CalibrateAndEvaluate,
    /// Training goes on with the training images, test images are measured.
    FineTune,
}

/// The model that images are wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// Its file.
    pub file: &'a Path,
    /// What it computes.
    pub graph: &'a Graph,
    /// What it was trained on; none where its file does not say.
    pub record: Option<&'a TrainingRecord>,
    /// What is known of it if another program made it.
    pub foreign: Option<&'a Foreign>,
}

/// Images for a model, and which of them are measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The images; training images are those that calibration or fine-tuning may use.
    pub input: Input,
    /// The test images.
    pub evaluated: Evaluated,
    /// Whether these are the data that the model was trained on.
    pub same_data: bool,
    /// Whether the model is known to have learned from some of the training images; looked up for a split that was asked for, of
    /// which these may be measured, too.
    pub knows_train: bool,
}

/// Loads the images that `config` names, as `model` may be measured on them.
///
/// # Errors
/// [`LabError::Seen`] where some were training images and nobody said what is wanted; [`LabError::Mismatch`] where classes
/// or shapes are others than the model's.
pub fn images_for(
    model: &Measured<'_>,
    purpose: Purpose,
    choice: Choice,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Chosen, LabError> {
    let pixels = |exif| with_pixels(model, purpose, choice, config, progress, exif);
    match model.record.map(|record| record.exif) {
        // What was seen, the stored pixels tell: those that the model's file knows are not turned.
        Some(false) if config.input.exif => Ok(Chosen {
            evaluated: pixels(false)?.evaluated,
            ..pixels(true)?
        }),
        Some(as_trained) => pixels(as_trained),
        None => pixels(config.input.exif),
    }
}

/// The same with images that are turned as their EXIF orientation says, or are not.
fn with_pixels(
    model: &Measured<'_>,
    purpose: Purpose,
    choice: Choice,
    config: &Config,
    progress: &dyn Progress,
    exif: bool,
) -> Result<Chosen, LabError> {
    let own = Wanted {
        exif,
        ..Wanted::by(config)
    };
    let (size, resize) = pixels_of(model, &own)?;
    let load = |wanted: Wanted| -> Result<Input, LabError> {
        let wanted = Wanted {
            image_size: size,
            resize,
            ..wanted
        };
        fitted(model, wanted.load(config, progress)?)
    };
    if let Some(seed) = choice.split_seed {
        return as_told(
            model,
            load(Wanted {
                seed,
                ..own.clone()
            })?,
        );
    }
    if choice.all && purpose == Purpose::FineTune {
        return Err(LabError::Mismatch(
            "--all: training would go on with the images that are measured; leave it out, or take the split of --split-seed N".into(),
        ));
    }
    if choice.all {
        let all = load(own.clone())?;
        return whole(model, all, Which::All);
    }
    let Some(record) = model.record else {
        return as_told(model, load(own.clone())?);
    };
    let as_trained = Wanted {
        seed: record.split.seed,
        split: split_of(record, &own)?,
        test_fraction: record.split.test_fraction,
        limit: record.split.limit,
        image_size: size,
        resize,
        exif: record.exif,
    };
    let found = match load(as_trained.clone()) {
        // A split by names, or of other shares, may not fit data that are others than those of the training.
        Err(_) if as_trained.split != own.split => None,
        found => Some(found?),
    };
    let wanted = Wanted {
        image_size: size,
        resize,
        ..own.clone()
    };
    let input = match found {
        Some(mut input) if input.identity.fingerprint == record.fingerprint => {
            if exif != record.exif {
                input = load(Wanted { exif, ..as_trained })?;
            }
            return as_trained_on(model, input, own.limit);
        }
        Some(input) if as_trained == wanted => input,
        _ => load(own)?,
    };
    of_other_data(model, purpose, input, config)
}

/// The size that images are brought to, 0 for their own, and how: as in the model's training where nothing else was said.
fn pixels_of(model: &Measured<'_>, own: &Wanted) -> Result<(usize, Resize), LabError> {
    let size = match model.record {
        Some(record) if own.image_size == 0 => record.image_size,
        // What a foreign model was trained on is not known; what it takes is.
        None if own.image_size == 0 && model.foreign.is_some() => square(model.graph.input()),
        _ => own.image_size,
    };
    let resize = match model.record {
        Some(record) if own.resize == Resize::Stretch && !record.resize.is_empty() => {
            record.resize.parse().map_err(LabError::Mismatch)?
        }
        _ => own.resize,
    };
    Ok((size, resize))
}

/// The split of the model's training where nothing else was said.
fn split_of(record: &TrainingRecord, own: &Wanted) -> Result<SplitRule, LabError> {
    match record.split.asked.as_str() {
        asked if own.split == SplitRule::Auto && !asked.is_empty() => {
            asked.parse().map_err(LabError::Mismatch)
        }
        _ => Ok(own.split.clone()),
    }
}

/// The height and width of square images; 0 for others.
fn square(shape: Shape) -> usize {
    if shape.h() == shape.w() { shape.h() } else { 0 }
}

/// The data of the training, split as they were then.
fn as_trained_on(model: &Measured<'_>, mut input: Input, limit: usize) -> Result<Chosen, LabError> {
    let classes = input.data.class_names.len();
    if limit > 0 {
        input.data.test = first_of_each_class(&input.data.test, classes, limit);
    }
    // What it saw before, on other data, counts as well.
    let earlier = model.record.and_then(|record| record.earlier.as_deref());
    let found = overlap(earlier, model.file, &input.data.test)?;
    if let Some(found) = found
        && found.seen > 0
    {
        return Err(seen(model, &input, Purpose::Evaluate, found));
    }
    Ok(Chosen {
        evaluated: evaluated(
            Which::TestOfTraining,
            &input,
            found.or(Some(none_of(&input))),
        ),
        input,
        same_data: true,
        knows_train: true,
    })
}

/// Other data than those of the training.
fn of_other_data(
    model: &Measured<'_>,
    purpose: Purpose,
    mut input: Input,
    config: &Config,
) -> Result<Chosen, LabError> {
    let which = match purpose {
        _ if !input.split.asked.is_empty() => Which::TestOfThisSplit,
        _ if !is_drawn(&input) => Which::ShippedTest,
        Purpose::FineTune => Which::TestOfThisSplit,
        Purpose::CalibrateAndEvaluate if needs_calibration(config) => Which::AllButCalibration,
        _ => Which::All,
    };
    let used = match which {
        _ if purpose == Purpose::Calibrate => input.data.train.clone(),
        Which::All | Which::AllButCalibration => all_of(&input.data)?,
        _ => input.data.test.clone(),
    };
    if let Some(found) = overlap(model.record, model.file, &used)? {
        // Training images set ranges as well as any; a mixture may hold images that the model is to be tested on.
        let only_training = purpose == Purpose::Calibrate && found.seen == found.checked;
        if found.seen > 0 && !only_training {
            return Err(seen(model, &input, purpose, found));
        }
    }
    match which {
        Which::All => input.data.test = all_of(&input.data)?,
        // The smaller part of a split is enough to set ranges.
        Which::AllButCalibration => {
            std::mem::swap(&mut input.data.train, &mut input.data.test);
        }
        _ => {}
    }
    let found = overlap(model.record, model.file, &input.data.test)?;
    Ok(Chosen {
        evaluated: evaluated(which, &input, found),
        knows_train: knows_train(model, which, &input)?,
        input,
        same_data: false,
    })
}

/// The split that a person asked for, or, for a file that says nothing, the one of this run's seed.
fn as_told(model: &Measured<'_>, input: Input) -> Result<Chosen, LabError> {
    let which = if is_drawn(&input) || !input.split.asked.is_empty() {
        Which::TestOfThisSplit
    } else {
        Which::ShippedTest
    };
    let found = overlap(model.record, model.file, &input.data.test)?;
    Ok(Chosen {
        evaluated: evaluated(which, &input, found),
        same_data: is_same(model, &input),
        knows_train: knows_train(model, which, &input)?,
        input,
    })
}

/// Whether one of the training images at least was one of the model's.
fn knows_train(model: &Measured<'_>, which: Which, input: &Input) -> Result<bool, LabError> {
    if which != Which::TestOfThisSplit {
        return Ok(false);
    }
    let found = overlap(model.record, model.file, &input.data.train)?;
    Ok(found.is_some_and(|found| found.seen > 0))
}

/// All images.
fn whole(model: &Measured<'_>, mut input: Input, which: Which) -> Result<Chosen, LabError> {
    let same_data = is_same(model, &input);
    let all = all_of(&input.data)?;
    input.data.train = all.clone();
    input.data.test = all;
    let found = overlap(model.record, model.file, &input.data.test)?;
    Ok(Chosen {
        evaluated: evaluated(which, &input, found),
        knows_train: false,
        input,
        same_data,
    })
}

fn is_same(model: &Measured<'_>, input: &Input) -> bool {
    let record = model.record;
    record.is_some_and(|record| record.fingerprint == input.identity.fingerprint)
}

/// Whether the split is this program's, and not the data's own.
fn is_drawn(input: &Input) -> bool {
    input.data.split.starts_with("seeded")
}

fn needs_calibration(config: &Config) -> bool {
    config.ptq(config.widths.bits).needs_images()
}

fn none_of(input: &Input) -> Overlap {
    Overlap {
        images: input.data.test.len(),
        checked: input.data.test.len(),
        seen: 0,
    }
}

fn evaluated(images: Which, input: &Input, found: Option<Overlap>) -> Evaluated {
    let count = input.data.test.len();
    Evaluated {
        images,
        count,
        seen: found.map(|found| found.seen),
        possibly_seen: found.map(|found| count - (found.checked - found.seen)),
    }
}

/// Brings images to the model's classes and channels.
///
/// # Errors
/// [`LabError::Mismatch`] where classes or shapes are others than the model's.
pub fn fit(model: &Measured<'_>, input: Input) -> Result<Input, LabError> {
    fitted(model, input)
}

/// Refuses to measure a model on the test images of `input` where some of them are known to have been training images of it;
/// those of the split that it was trained with are none. Returns what is known of them.
///
/// # Errors
/// [`LabError::Seen`] unless `all` says that they may be.
pub fn check_test(
    model: &Measured<'_>,
    input: &Input,
    all: bool,
) -> Result<Option<Overlap>, LabError> {
    let same = is_same(model, input);
    let earlier = model.record.and_then(|record| record.earlier.as_deref());
    let record = if same { earlier } else { model.record };
    let found = overlap(record, model.file, &input.data.test)?;
    match found {
        Some(found) if found.seen > 0 && !all => Err(seen(model, input, Purpose::Evaluate, found)),
        None if same => Ok(Some(none_of(input))),
        _ => Ok(found),
    }
}

/// Looks for images among those that the model was trained on, and those before them; none where nothing is known.
fn overlap(
    record: Option<&TrainingRecord>,
    file: &Path,
    split: &Split,
) -> Result<Option<Overlap>, LabError> {
    let mut found: Option<Overlap> = None;
    let mut next = record;
    while let Some(record) = next {
        let sketch = Sketch::from_text(&record.sketch).ok_or_else(|| FormatError::Damaged {
            path: file.to_owned(),
            reason: "its sketch of the training images cannot be read".into(),
        })?;
        let one = sketch.overlap(split)?;
        found = Some(found.map_or(one, |other| Overlap {
            images: one.images,
            checked: one.checked.min(other.checked).max(one.seen + other.seen),
            seen: (one.seen + other.seen).min(one.images),
        }));
        next = record.earlier.as_deref();
    }
    Ok(found)
}

fn seen(model: &Measured<'_>, input: &Input, purpose: Purpose, found: Overlap) -> LabError {
    let at_least = if found.checked < found.images {
        "at least "
    } else {
        ""
    };
    let why = match purpose {
        Purpose::Calibrate => "and the others may be its test images",
        _ => "whose accuracy says nothing about new ones",
    };
    let all = match purpose {
        Purpose::FineTune => "take",
        _ => "take --all images all the same, or",
    };
    LabError::Seen(format!(
        "{}: {at_least}{} of these {} images of {} were training images of this model (or chose its epoch), {why}: give the data of its training \
         unchanged, or images that were held out; or {all} the split of --split-seed N",
        model.file.display(),
        found.seen,
        found.images,
        input.data.name,
    ))
}

/// The images of all parts.
fn all_of(data: &Dataset) -> Result<Split, LabError> {
    let parts = [&data.train, &data.validation, &data.test];
    let images = parts
        .into_iter()
        .flat_map(|part| (0..part.len()).map(move |index| (part, index)));
    Ok(Split::gather(&images.collect::<Vec<_>>())?)
}

/// At most `limit` images, the classes in turn, the first of each first.
fn first_of_each_class(split: &Split, classes: usize, limit: usize) -> Split {
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in split.labels().iter().enumerate() {
        members[label as usize].push(index);
    }
    let longest = members.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..longest).flat_map(|round| {
        let members = &members;
        (0..classes).filter_map(move |class| members[class].get(round).copied())
    });
    let mut chosen: Vec<usize> = in_turn.take(limit).collect();
    chosen.sort_unstable();
    split.take(&chosen)
}

impl Chosen {
    /// One line about the images that are measured, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let Evaluated { images, count, .. } = self.evaluated;
        let plural = if count == 1 { "image" } else { "images" };
        let which = match images {
            Which::TestOfTraining => format!(
                "{count} test {plural} of the split that the model was trained with ({})",
                self.input.data.split
            ),
            Which::ShippedTest => format!("{count} test {plural} of {}", self.input.data.name),
            Which::All => format!("all {count} {plural} of {}", self.input.data.name),
            Which::AllButCalibration => format!(
                "{count} {plural} of {}, all but the {} that set the activation ranges",
                self.input.data.name,
                self.input.data.train.len()
            ),
            Which::TestOfThisSplit => format!(
                "{count} test {plural} of {} ({})",
                self.input.data.name, self.input.data.split
            ),
        };
        format!("{which}{}", self.evaluated.doubts())
    }
}

#[cfg(test)]
mod tests;
