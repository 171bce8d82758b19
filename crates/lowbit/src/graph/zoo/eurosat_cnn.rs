//! The land-cover network: three convolutions, three linear layers.

use crate::graph::{Graph, GraphBuilder, GraphError, Op, Shape};

/// conv 3→32 5×5, BN, ReLU, pool · conv 32→64 5×5, BN, ReLU, pool · conv 64→96 3×3, BN, ReLU, pool · flatten → 128, ReLU
/// → 128, ReLU → classes; valid padding. 434,602 parameters for 64×64×3 images and ten classes.
///
/// # Errors
/// [`GraphError`] when the images are smaller than 32×32 or so: a layer that does not fit is named.
pub fn eurosat_cnn(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    let mut graph = GraphBuilder::new("eurosat-cnn", input, class_names);
    let mut x = graph.input();
    for (index, (channels, kernel)) in [(32, 5), (64, 5), (96, 3)].into_iter().enumerate() {
        let layer = index + 1;
        x = graph.conv(&format!("conv{layer}"), x, channels, kernel, (1, 0), true);
        x = graph.batch_norm(&format!("bn{layer}"), x);
        x = graph.add(&format!("relu{layer}"), Op::Relu, &[x]);
        x = graph.add(&format!("pool{layer}"), Op::max_pool(2), &[x]);
    }
    x = graph.add("flatten", Op::Flatten, &[x]);
    for layer in 1..=2 {
        x = graph.add(&format!("fc{layer}"), Op::linear(128), &[x]);
        x = graph.add(&format!("relu{}", layer + 3), Op::Relu, &[x]);
    }
    graph.add("fc3", Op::linear(class_names.len()), &[x]);
    graph.finish()
}
