//! Rules about trainings and about time.

pub(super) mod batch_norm_statistics;
pub(super) mod frozen_steps;
pub(super) mod no_gradient;
pub(super) mod slower_layers;
