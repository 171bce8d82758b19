//! A short name for the content of many images.

use md5::{Digest, Md5};

/// Collects names, sizes and checksums or times of files; equal collections give equal fingerprints.
pub(crate) struct Fingerprint(Md5);

impl Fingerprint {
    pub(crate) fn new(kind: &str) -> Self {
        Self(Md5::new()).text(kind)
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    pub(crate) fn number(mut self, number: u128) -> Self {
        self.0.update(number.to_le_bytes());
        self
    }

    pub(crate) fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}
