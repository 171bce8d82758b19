//! The smallest residual network for 32×32 images.

use super::residual::three_stages;
use crate::graph::{Graph, GraphError, Shape};

/// ResNet-8 (He et al. 2016, section 4.2, with n = 1): conv 3→16 3×3, BN, ReLU, then one basic block each of 16, 32 and
/// 64 channels with stride 1, 2 and 2 (projection shortcut where the shape changes), global average pool, linear.
///
/// # Errors
/// [`GraphError`] when a layer does not fit the images.
pub fn resnet8(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    three_stages(("resnet8", input, class_names), 1, [16, 32, 64], 1)
}
