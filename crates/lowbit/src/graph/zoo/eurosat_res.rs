//! A compact residual network for 64×64 images.

use super::residual::three_stages;
use crate::graph::{Graph, GraphError, Shape};

/// conv 3→16 3×3 with stride 2, BN, ReLU, then two basic blocks each of 16, 48 and 96 channels on maps of half, a quarter and an
/// eighth of the image's side, global average pool, linear. 377,018 parameters for ten classes.
///
/// # Errors
/// [`GraphError`] when a layer does not fit the images.
pub fn eurosat_res(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    three_stages(("eurosat-res", input, class_names), 2, [16, 48, 96], 2)
}
