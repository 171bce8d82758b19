//! A multi-layer perceptron: the smallest useful model.

use crate::graph::{Graph, GraphBuilder, GraphError, Op, Shape};

/// flatten → 256, ReLU → 128, ReLU → classes.
///
/// # Errors
/// [`GraphError`] when the images are too large to flatten.
pub fn mlp(input: Shape, class_names: &[String]) -> Result<Graph, GraphError> {
    let mut graph = GraphBuilder::new("mlp", input, class_names);
    let mut x = graph.input();
    x = graph.add("flatten", Op::Flatten, &[x]);
    for (index, features) in [256, 128].into_iter().enumerate() {
        let layer = index + 1;
        x = graph.add(&format!("fc{layer}"), Op::linear(features), &[x]);
        x = graph.add(&format!("relu{layer}"), Op::Relu, &[x]);
    }
    graph.add("fc3", Op::linear(class_names.len()), &[x]);
    graph.finish()
}
