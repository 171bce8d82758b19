//! The wider ResNet-8 of MLPerf Tiny.

use super::residual::three_stages;
use crate::graph::{Graph, GraphError, Shape};

/// [`resnet8`](super::resnet8) with 40, 80 and 160 channels: the network of MLPerf Tiny 1.4's second task on CIFAR-10 (IC02, which
/// asks for 91 %), as far as its files say it: `pretrainedResnet_large` beside `resnet_v1_eembc`. 481,170 parameters for 32×32×3
/// images and ten classes; where theirs has biases in its convolutions, ours has batch-norm in its shortcuts.
///
/// # Errors
/// [`GraphError`] when a layer does not fit the images.
pub fn resnet8_large(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    three_stages(("resnet8-large", input, class_names), 1, [40, 80, 160], 1)
}
