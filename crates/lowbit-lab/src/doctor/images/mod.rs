//! Rules that run the model on images.

pub(super) mod at_chance;
pub(super) mod clipped;
pub(super) mod growing_ranges;
pub(super) mod one_class;
pub(super) mod outliers;
pub(super) mod permuted_labels;
pub(super) mod silent_channels;
pub(super) mod unlike_test;
