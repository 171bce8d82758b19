//! Running the float model over calibration images to see what its activations hold.

use super::ties::ties;
use crate::exec::{FloatModel, Model, RuntimeError};
use crate::graph::ValueId;
use crate::quant::{ActivationParams, BINS, Observer, Seen};

/// What was seen of every value of a model.
#[derive(Clone, Debug)]
pub struct Calibration {
    pub(super) seen: Vec<Seen>,
    pub(super) images: usize,
}

impl Calibration {
    /// Returns how many images were seen.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// Returns the smallest and the largest number seen of a value; none of the logits.
    #[must_use]
    pub fn extremes(&self, value: ValueId) -> Option<(f32, f32)> {
        let seen = self.seen.get(value)?;
        (seen.low <= seen.high).then_some((seen.low, seen.high))
    }

    /// Returns what `observer` makes of a value at this highest level; none of the logits, and none for an observer that reads
    /// a histogram where the calibration has kept none.
    #[must_use]
    pub fn params(
        &self,
        value: ValueId,
        observer: Observer,
        level_max: u8,
    ) -> Option<ActivationParams> {
        self.extremes(value)?;
        let seen = &self.seen[value];
        let can = observer == Observer::MinMax || !seen.histogram.is_empty();
        can.then(|| observer.params(seen, level_max))
    }
}

/// Images that are run at once.
const BATCH: usize = 32;

/// Runs `model` over `images` (`[n, h, w, c]`) and keeps what `observer` needs of every value: extremes, and a histogram
/// between them where the observer reads one (a second pass). Values whose integers only move from one to the other are seen
/// as one.
///
/// # Errors
/// [`RuntimeError::Lengths`] when `images` are not whole images, or none.
pub fn calibrate(
    model: &FloatModel,
    observer: Observer,
    images: &[u8],
) -> Result<Calibration, RuntimeError> {
    let values = model.values();
    let ties = ties(model.program());
    let mut seen = vec![
        Seen {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            histogram: vec![]
        };
        values
    ];
    let (image_len, classes) = (model.graph().input().len(), model.graph().classes());
    let count = images.len() / image_len;
    if count == 0 || images.len() != count * image_len {
        return Err(RuntimeError::Lengths {
            images: images.len(),
            logits: count * classes,
            image_len,
            classes,
        });
    }
    let batches = || images.chunks(BATCH * image_len);
    for batch in batches() {
        model.observe(batch, &mut |value, numbers| {
            let seen = &mut seen[ties[value]];
            for &x in numbers {
                seen.low = seen.low.min(x);
                seen.high = seen.high.max(x);
            }
        });
    }
    if observer != Observer::MinMax {
        for seen in &mut seen {
            seen.histogram = vec![0; BINS];
        }
        for batch in batches() {
            model.observe(batch, &mut |value, numbers| {
                let seen = &mut seen[ties[value]];
                let per_unit = BINS as f32 / (seen.high - seen.low).max(f32::MIN_POSITIVE);
                for &x in numbers {
                    let bin = ((x - seen.low) * per_unit) as usize;
                    seen.histogram[bin.min(BINS - 1)] += 1;
                }
            });
        }
    }
    Ok(Calibration {
        seen: ties.iter().map(|&tie| seen[tie].clone()).collect(),
        images: count,
    })
}
