//! Rules that look at weights and files alone, of any kind.

pub(super) mod asymmetric_weights;
pub(super) mod dead_channels;
pub(super) mod per_tensor_depthwise;
pub(super) mod saturating_sums;
pub(super) mod size;
pub(super) mod unused_levels;
