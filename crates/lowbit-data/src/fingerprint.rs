//! A short name for the content of many images.

use md5::{Digest, Md5};

/// Changes with the rules by which images are found and with their pixels, so that what an older version kept of the
/// same files is not taken for what this one would read.
const RULES: &str = "2: one rule for layouts";

/// Collects names, sizes and checksums or times of files; equal collections give equal fingerprints.
pub(crate) struct Fingerprint(Md5);

impl Fingerprint {
    pub(crate) fn new(kind: &str) -> Self {
        Self(Md5::new()).text(RULES).text(kind)
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
