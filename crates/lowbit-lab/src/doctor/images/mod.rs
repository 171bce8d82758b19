//! Rules that run the model on images.

pub(super) mod at_chance;
pub(super) mod clipped;
pub(super) mod growing_ranges;
pub(super) mod one_class;
pub(super) mod outliers;
pub(super) mod permuted_labels;
pub(super) mod silent_channels;
pub(super) mod unlike_test;

/// Three standard deviations above guessing.
fn limit(classes: usize, count: usize) -> f64 {
    let chance = 1.0 / classes.max(1) as f64;
    chance + 3.0 * (chance * (1.0 - chance) / count.max(1) as f64).sqrt()
}
