//! From the nodes of a graph to the steps of a program.

use super::fuse;
use super::program::{Epilogue, Program, Step, ValueId};
use crate::graph::{Graph, GraphError, NodeId};
use crate::ops::{Conv, Op};
use crate::shape::Shape;

impl Program {
    /// Lowers a graph.
    ///
    /// # Errors
    /// [`GraphError`] where a node stands where no step can take it up.
    pub(crate) fn of(graph: &Graph) -> Result<Self, GraphError> {
        let nodes = graph.nodes();
        let mut readers = vec![0usize; nodes.len()];
        for &input in nodes.iter().flat_map(|node| &node.inputs) {
            readers[input] += 1;
        }
        // Which value holds a node's result, once it is whole.
        let mut value_of: Vec<ValueId> = vec![0; nodes.len()];
        let mut steps: Vec<Step> = Vec::new();
        for (id, node) in nodes.iter().enumerate().skip(1) {
            let inputs: Vec<ValueId> = node.inputs.iter().map(|&from| value_of[from]).collect();
            // The step whose result this node alone reads, if any: it may take the node up.
            let is_only_reader = inputs[0] > 0 && readers[node.inputs[0]] == 1;
            let result = graph.shape(id);
            let taken = is_only_reader && fuse::absorb(&mut steps[inputs[0] - 1], node, result);
            value_of[id] = if taken || node.op == Op::Flatten {
                inputs[0]
            } else if matches!(node.op, Op::BatchNorm(_)) {
                return Err(GraphError::Node {
                    node: node.name.clone(),
                    reason: "batch-norm must follow a convolution or linear layer".into(),
                });
            } else {
                steps.push(step(graph, id, inputs));
                steps.len()
            };
        }
        if value_of[nodes.len() - 1] != steps.len() || steps.is_empty() {
            return Err(GraphError::Whole {
                graph: graph.name().to_owned(),
                reason: "the last layer must give the logits".into(),
            });
        }
        Ok(Self {
            input: graph.input(),
            steps,
            of_nodes: value_of,
        })
    }
}

fn step(graph: &Graph, id: NodeId, inputs: Vec<ValueId>) -> Step {
    let node = &graph.nodes()[id];
    let in_shapes: Vec<Shape> = node.inputs.iter().map(|&from| graph.shape(from)).collect();
    let shape = graph.shape(id);
    let op = match node.op {
        // Over more than one pixel, a product over the last axis is a 1×1 convolution.
        Op::Linear(linear) if !shape.is_vector() => match Op::conv(linear.out_features, 1, 1, 0) {
            Op::Conv(conv) => Op::Conv(Conv { bias: true, ..conv }),
            other => other,
        },
        op => op,
    };
    Step {
        name: node.name.clone(),
        op,
        epilogue: Epilogue::default(),
        inputs,
        in_shapes,
        main_shape: shape,
        out_shape: shape,
        macs: graph.node_macs(id),
    }
}
