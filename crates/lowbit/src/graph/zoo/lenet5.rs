//! The small convolutional network of federated learning's papers.

use crate::graph::{Graph, GraphBuilder, GraphError, Op, Shape};

/// conv 3→6 5×5, ReLU, pool · conv 6→16 5×5, ReLU, pool · flatten → 120, ReLU → 84, ReLU → classes; valid padding, max-pools.
/// LeNet-5 (LeCun et al. 1998) with ReLU and max-pools: the network of NIID-Bench (Li et al. 2022) and of Flower's `niid_bench`.
/// 62,006 parameters for 32×32×3 images and ten classes.
///
/// # Errors
/// [`GraphError`] when a layer does not fit the images: they must have 16 pixels a side at least.
pub fn lenet5(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    let mut graph = GraphBuilder::new("lenet5", input, class_names);
    let mut x = graph.input();
    for (index, channels) in [6, 16].into_iter().enumerate() {
        let layer = index + 1;
        x = graph.conv(&format!("conv{layer}"), x, channels, 5, (1, 0), true);
        x = graph.add(&format!("relu{layer}"), Op::Relu, &[x]);
        x = graph.add(&format!("pool{layer}"), Op::max_pool(2), &[x]);
    }
    x = graph.add("flatten", Op::Flatten, &[x]);
    for (index, features) in [120, 84].into_iter().enumerate() {
        let layer = index + 1;
        x = graph.add(&format!("fc{layer}"), Op::linear(features), &[x]);
        x = graph.add(&format!("relu{}", layer + 2), Op::Relu, &[x]);
    }
    graph.add("fc3", Op::linear(class_names.len()), &[x]);
    graph.finish()
}
