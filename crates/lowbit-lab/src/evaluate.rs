//! Running a model over a split.

use crate::digest::{FNV_START, fnv};
use lowbit::exec::{Model, predicted};
use lowbit_data::{DataError, Split};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Images that are run at once.
const BATCH: usize = 64;

/// What a model says about a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Predicted class of every image; the first of equal logits.
    pub predictions: Vec<u32>,
    /// Whether it is right.
    pub correct: Vec<bool>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Images per true class (row) and predicted class (column).
    pub confusion: Vec<Vec<usize>>,
    /// Checksum of all logits' bits, in the images' order: equal where two evaluations agree to the bit (FNV-1a, folded to
    /// 32 bits).
    pub logits_digest: u32,
}

/// Accuracy and loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of right predictions, 0–1.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
}

impl Evaluation {
    /// Share of right predictions, 0–1.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right = self.correct.iter().filter(|&&right| right).count();
        right as f64 / self.correct.len().max(1) as f64
    }

    /// Accuracy and loss.
    #[must_use]
    pub fn score(&self) -> Score {
        Score {
            accuracy: self.accuracy(),
            loss: self.loss,
        }
    }

    /// Images whose predictions differ.
    ///
    /// # Panics
    /// If the evaluations are of different splits.
    #[must_use]
    pub fn changed(&self, other: &Self) -> usize {
        assert_eq!(
            self.predictions.len(),
            other.predictions.len(),
            "the same images"
        );
        self.predictions
            .iter()
            .zip(&other.predictions)
            .filter(|(a, b)| a != b)
            .count()
    }
}

fn folded(digest: u64) -> u32 {
    (digest ^ (digest >> 32)) as u32
}

/// Checksum of a split's images and labels.
///
/// # Errors
/// [`DataError`] when an image cannot be read.
pub fn images_digest(split: &Split) -> Result<u32, DataError> {
    let mut digest = FNV_START;
    for batch in batches(split) {
        digest = fnv(digest, split.range(batch)?.iter().copied());
    }
    let labels = split.labels().iter().flat_map(|label| label.to_le_bytes());
    Ok(folded(fnv(digest, labels)))
}

/// Ranges of as many images as are run at once.
fn batches(split: &Split) -> impl Iterator<Item = Range<usize>> {
    let count = split.len();
    (0..count)
        .step_by(BATCH)
        .map(move |start| start..count.min(start + BATCH))
}

/// Runs `model` over all images of `split`, on rayon's current pool.
///
/// # Errors
/// [`DataError`] when an image cannot be read.
///
/// # Panics
/// If the images do not have the shape of the model's: commands check that when they load them.
pub fn evaluate(model: &dyn Model, split: &Split) -> Result<Evaluation, DataError> {
    let classes = model.graph().classes();
    let mut logits = vec![0.0f32; BATCH * classes];
    let mut evaluation = Evaluation {
        predictions: Vec::with_capacity(split.len()),
        correct: Vec::with_capacity(split.len()),
        loss: 0.0,
        confusion: vec![vec![0; classes]; classes],
        logits_digest: 0,
    };
    let mut digest = FNV_START;
    for batch in batches(split) {
        let (images, labels) = (split.range(batch.clone())?, &split.labels()[batch]);
        let logits = &mut logits[..labels.len() * classes];
        let ran = model.run(&images, logits);
        ran.expect("the split's images have the shape of the model's");
        let bytes = logits
            .iter()
            .flat_map(|logit| logit.to_bits().to_le_bytes());
        digest = fnv(digest, bytes);
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let found = predicted(row);
            // A model that gives no numbers is right of nothing: it says a class that this image is not of.
            let predicted = found.unwrap_or(usize::from(label == 0) % classes);
            let sum: f64 = row
                .iter()
                .map(|&x| (f64::from(x) - f64::from(best)).exp())
                .sum();
            evaluation.loss += sum.ln() + f64::from(best) - f64::from(row[label as usize]);
            evaluation.predictions.push(predicted as u32);
            evaluation.correct.push(found == Some(label as usize));
            evaluation.confusion[label as usize][predicted] += 1;
        }
    }
    evaluation.logits_digest = folded(digest);
    evaluation.loss /= split.len().max(1) as f64;
    Ok(evaluation)
}

#[cfg(test)]
mod tests;
