//! Parameters that dynamic quantization finds in a batch.

use crate::quant::ActivationParams;
use std::sync::OnceLock;

/// Where parameters that are found at run time are kept, one per value.
#[derive(Debug, Default)]
pub(super) struct FoundParams(OnceLock<ActivationParams>);

impl FoundParams {
    pub(super) fn clear(&mut self) {
        self.0 = OnceLock::new();
    }

    /// # Panics
    /// If they were found already.
    pub(super) fn set(&self, params: ActivationParams) {
        self.0.set(params).expect("each batch is quantized once");
    }

    /// # Panics
    /// If they were not found yet.
    pub(super) fn get(&self) -> ActivationParams {
        *self
            .0
            .get()
            .expect("values are quantized before they are read")
    }
}
