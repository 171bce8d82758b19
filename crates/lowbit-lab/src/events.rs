//! What an experiment tells while it runs.

use crate::records::EpochRecord;

/// A listener to a running experiment. All functions may be left empty.
pub trait Events: Sync {
    /// A new part of the experiment begins.
    fn stage(&self, _what: &str) {}

    /// An epoch of `images` training images begins.
    fn epoch_started(&self, _epoch: usize, _epochs: usize, _images: usize) {}

    /// `images` images of the epoch are done, with this mean loss and accuracy (0–1) so far.
    fn batch_done(&self, _images: usize, _loss: f64, _accuracy: f64) {}

    /// An epoch is done and its checkpoint written.
    fn epoch_done(&self, _record: &EpochRecord, _epochs: usize) {}

    /// Whether to go on: asked after every batch and every epoch, so that a training ends within a batch of the wish.
    fn goes_on(&self) -> bool {
        true
    }

    /// Something worth a line.
    fn note(&self, _line: &str) {}
}

impl<E: Events + ?Sized> Events for &E {
    fn stage(&self, what: &str) {
        (**self).stage(what);
    }

    fn epoch_started(&self, epoch: usize, epochs: usize, images: usize) {
        (**self).epoch_started(epoch, epochs, images);
    }

    fn batch_done(&self, images: usize, loss: f64, accuracy: f64) {
        (**self).batch_done(images, loss, accuracy);
    }

    fn epoch_done(&self, record: &EpochRecord, epochs: usize) {
        (**self).epoch_done(record, epochs);
    }

    fn goes_on(&self) -> bool {
        (**self).goes_on()
    }

    fn note(&self, line: &str) {
        (**self).note(line);
    }
}

/// A listener that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Events for Silent {}
