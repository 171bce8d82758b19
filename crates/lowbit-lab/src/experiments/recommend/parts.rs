//! Which images do what: some set ranges, some choose, and the others, which chose nothing, give the verdict's numbers.

use super::verdict::fewest_for_verdict;
use crate::experiments::unseen::{Chosen, Which};
use crate::{Config, LabError, plural};
use lowbit_data::Split;
use lowbit_kernels::random;

/// The fewest labelled images that say anything.
pub const FEWEST: usize = 50;

/// Images that choose, at most: more cost time that candidates want.
const CHOOSING: usize = 2000;

/// How many of so many images choose; the others give the verdict.
fn choosing(images: usize) -> usize {
    (images / 2).min(CHOOSING)
}

/// The fewest images to measure on that may tell `max_drop` points.
fn fewest(max_drop: f64) -> usize {
    let verdict = fewest_for_verdict(max_drop);
    // Half of them choose, or as many as ever do.
    let half = verdict.saturating_mul(2).saturating_sub(1);
    half.min(verdict.saturating_add(CHOOSING)).max(FEWEST)
}

/// Images, by what they do.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Images that set ranges and repair rounding, `[n, h, w, c]`.
    pub calibration: Vec<u8>,
    /// How many they are.
    pub calibration_images: usize,
    /// Images that choose among candidates.
    pub choosing: Split,
    /// Images that chose nothing.
    pub verdict: Split,
}

/// The numbers of the training images that set ranges: a third at most, so that others are left to choose by.
fn calibrating(chosen: &Chosen, config: &Config) -> Vec<usize> {
    let mut own = config.clone();
    let wanted = config.calibration.calibration_images;
    own.calibration.calibration_images = wanted.min(chosen.input.data.train.len() / 3).max(1);
    chosen.input.calibration_indices(&own)
}

/// The images that set ranges, with their labels: what they decide, the verdict's images do not.
#[must_use]
pub fn labelled_calibration(chosen: &Chosen, config: &Config) -> Split {
    let indices = calibrating(chosen, config);
    chosen.input.data.train.take(&indices)
}

/// Tells the images apart. Training images of the model only set ranges; where widths are trained (`trains`), so do all of the
/// training part. Where there are too few, as many are asked for as may tell `max_drop` points.
///
/// # Errors
/// [`LabError::Mismatch`] where there are too few, [`LabError::Data`] when one cannot be read.
pub fn parts(
    chosen: &Chosen,
    config: &Config,
    trains: bool,
    max_drop: f64,
) -> Result<Parts, LabError> {
    let data = &chosen.input.data;
    let (train, test) = (&data.train, &data.test);
    let calibrating = calibrating(chosen, config);
    let labelled: Vec<(&Split, usize)> = match chosen.evaluated.images {
        // The model has learned from the rest, or may have.
        Which::TestOfTraining | Which::ShippedTest => {
            (0..test.len()).map(|index| (test, index)).collect()
        }
        Which::TestOfThisSplit if chosen.knows_train => {
            (0..test.len()).map(|index| (test, index)).collect()
        }
        which => {
            let mut is_used = vec![false; train.len()];
            calibrating.iter().for_each(|&index| is_used[index] = true);
            let rest = (0..train.len()).filter(|&index| !trains && !is_used[index]);
            // Where all images are measured, the training images stand before the others.
            let first = if which == Which::All { train.len() } else { 0 };
            let rest = rest.map(|index| (train, index));
            rest.chain((first..test.len()).map(|index| (test, index)))
                .collect()
        }
    };
    if labelled.len() < FEWEST {
        return Err(LabError::Mismatch(format!(
            "{}: only {} to measure on, which tells nothing: give at least {} labelled images to measure on that the model has not seen",
            data.name,
            plural::of(labelled.len(), "image"),
            fewest(max_drop),
        )));
    }
    let mut order: Vec<usize> = (0..labelled.len()).collect();
    let mut rng = random::stream(config.run.seed, "recommend", 0);
    random::shuffle(&mut rng, &mut order);
    let choosing = choosing(labelled.len());
    let take = |order: &[usize]| {
        let images: Vec<(&Split, usize)> = order.iter().map(|&at| labelled[at]).collect();
        Split::gather(&images)
    };
    Ok(Parts {
        calibration: train.take(&calibrating).images()?.into_owned(),
        calibration_images: calibrating.len(),
        choosing: take(&order[..choosing])?,
        verdict: take(&order[choosing..])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::inputs::Input;
    use crate::experiments::inputs::tests::{input, split};
    use crate::experiments::recommend::too_few;
    use crate::experiments::unseen::Evaluated;
    use std::collections::BTreeSet;

    fn chosen(images: Which, train: u32, test: u32) -> Chosen {
        let mut data = input().data;
        data.train = split(0, train);
        data.test = split(train, test);
        let record = input().split;
        Chosen {
            input: Input::new(data, record).unwrap(),
            evaluated: Evaluated {
                images,
                count: test as usize,
                possibly_seen: None,
                seen: None,
            },
            same_data: images == Which::TestOfTraining,
            knows_train: images == Which::TestOfTraining,
        }
    }

    fn of(pixels: &[u8]) -> BTreeSet<&[u8]> {
        pixels.chunks(4).collect()
    }

    #[test]
    fn images_that_the_model_learned_from_measure_nothing() {
        let mut chosen = chosen(Which::TestOfThisSplit, 240, 60);
        chosen.knows_train = true;
        let parts = parts(&chosen, &Config::default(), false, 1.0).unwrap();
        assert_eq!(parts.choosing.len() + parts.verdict.len(), 60);
        let train = chosen.input.data.train.images().unwrap();
        let choosing = parts.choosing.images().unwrap();
        assert!(of(&train).is_disjoint(&of(&choosing)));
    }

    #[test]
    fn no_image_does_two_things() {
        for (which, trains, measured) in [
            (Which::TestOfThisSplit, false, 240 - 66 + 60),
            (Which::TestOfThisSplit, true, 60),
            (Which::TestOfTraining, false, 60),
            (Which::ShippedTest, false, 60),
        ] {
            let chosen = chosen(which, 240, 60);
            let mut config = Config::default();
            config.calibration.calibration_images = 66;
            let parts = parts(&chosen, &config, trains, 1.0).unwrap();
            let choosing = parts.choosing.images().unwrap();
            let verdict = parts.verdict.images().unwrap();
            let sets = [of(&parts.calibration), of(&choosing), of(&verdict)];
            assert_eq!(sets[0].len(), 66);
            let train = chosen.input.data.train.images().unwrap();
            let train = of(&train);
            if trains {
                // What is trained on neither chooses nor judges.
                assert!(train.is_disjoint(&sets[1]) && train.is_disjoint(&sets[2]));
            }
            assert_eq!(sets[1].len() + sets[2].len(), measured, "{which:?}");
            assert!(sets[1].len().abs_diff(sets[2].len()) <= 1);
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                assert!(sets[a].is_disjoint(&sets[b]), "{which:?}: {a} and {b}");
            }
        }
    }

    #[test]
    fn too_few_images_are_refused_with_the_number_that_would_do() {
        let chosen = chosen(Which::TestOfTraining, 240, 49);
        for (max_drop, enough) in [(1.0, 387), (3.0, 127), (0.05, 5918), (50.0, 50)] {
            let error = parts(&chosen, &Config::default(), false, max_drop).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("49 images") && error.contains(&format!("at least {enough} ")),
                "{error}"
            );
            let is_told = |images| too_few(images - choosing(images), max_drop).is_none();
            assert!(is_told(enough) && (enough == FEWEST || !is_told(enough - 1)));
        }
    }
}
