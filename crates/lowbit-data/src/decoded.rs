//! Decoded images, and what is worth saying of them beyond their pixels: counted while they are decoded, kept with them.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::decode::Remark;
use crate::listing::Shape;
use crate::pixels::Pixels;

/// Training, validation and test images, decoded.
pub(crate) struct Decoded {
    pub(crate) shape: Shape,
    pub(crate) parts: [Pixels; 3],
    pub(crate) remarks: Remarks,
}

/// Images of which something is to be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    /// Images with 16 bits per channel.
    pub(crate) deep: u32,
    /// Images whose EXIF orientation is not the usual one.
    pub(crate) turned: u32,
}

impl Remarks {
    /// Says it, a line each; `exif` tells whether images are turned as they say.
    pub(crate) fn notes(self, exif: bool) -> Vec<String> {
        let images = |count: u32| match count {
            1 => "1 image".to_owned(),
            count => format!("{count} images"),
        };
        let mut notes = Vec::new();
        if self.deep > 0 {
            notes.push(format!(
                "16 bits per channel in {}: the upper 8 are taken",
                images(self.deep)
            ));
        }
        if self.turned > 0 && exif {
            notes.push(format!(
                "{} turned as the EXIF orientation says",
                images(self.turned)
            ));
        } else if self.turned > 0 {
            notes.push(format!(
                "an EXIF orientation in {} is not applied: pixels are taken as they are stored; --exif turns them",
                images(self.turned)
            ));
        }
        notes
    }
}

/// Counts remarks from any thread.
#[derive(Default)]
pub(crate) struct Counter {
    deep: AtomicU32,
    turned: AtomicU32,
}

impl Counter {
    pub(crate) fn add(&self, remark: Remark) {
        self.deep.fetch_add(remark.deep.into(), Ordering::Relaxed);
        self.turned
            .fetch_add(remark.turned.into(), Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> Remarks {
        Remarks {
            deep: self.deep.load(Ordering::Relaxed),
            turned: self.turned.load(Ordering::Relaxed),
        }
    }
}
