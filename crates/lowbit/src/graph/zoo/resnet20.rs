//! The residual network of 20 layers for 32×32 images.

use super::residual::three_stages;
use crate::graph::{Graph, GraphError, Shape};

/// ResNet-20 (He et al. 2016, section 4.2, with n = 3): as [`resnet8`](super::resnet8), with three basic blocks in each stage.
/// 272,474 parameters for 32×32×3 images and ten classes: the shortcuts where the shape changes are projections (the paper's
/// option B, 2,752 parameters), not the option A of its table, which subsamples, fills with zeros and has 269,722.
///
/// # Errors
/// [`GraphError`] when a layer does not fit the images.
pub fn resnet20(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    three_stages(("resnet20", input, class_names), 1, [16, 32, 64], 3)
}
