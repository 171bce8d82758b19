//! From the nodes of a graph to the steps of a program.

use super::fuse;
use super::program::{Epilogue, Program, Step, ValueId};
use crate::graph::{Graph, GraphError, Node, NodeId};
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
            let is_only_reader = inputs[0] > 0 && is_read_once(graph, &readers, node.inputs[0]);
            let result = graph.shape(id);
            let taken = is_only_reader && fuse::absorb(&mut steps[inputs[0] - 1], node, result);
            value_of[id] = if taken || (node.op.moves_nothing() && !needs_copy(graph, id)) {
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

/// Whether a reshape moves its elements all the same: where what it gives, or what it reads, is read with padding, one of the two
/// has a border that the other has not.
fn needs_copy(graph: &Graph, id: NodeId) -> bool {
    let from = graph.nodes()[id].inputs[0];
    let pads = |node: &Node| matches!(node.op, Op::Conv(conv) if conv.padding != [0; 4]);
    let is_read = |node: &Node| node.inputs.contains(&id) || node.inputs.contains(&from);
    let mut nodes = graph.nodes().iter();
    matches!(graph.nodes()[id].op, Op::Reshape(_)) && nodes.any(|node| is_read(node) && pads(node))
}

/// Whether what computes a node's result is read by one node alone, those that move nothing aside.
fn is_read_once(graph: &Graph, readers: &[usize], node: NodeId) -> bool {
    let mut at = node;
    while readers[at] == 1 && graph.nodes()[at].op.moves_nothing() && !needs_copy(graph, at) {
        at = graph.nodes()[at].inputs[0];
    }
    readers[at] == 1
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;
    use crate::ops::Reshape;

    fn steps(finish: impl Fn(&mut GraphBuilder, NodeId) -> NodeId) -> Vec<(String, bool, bool)> {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", Shape::new(4, 4, 3), &classes);
        let x = graph.conv("conv", 0, 4, 1, (1, 0), true);
        let y = finish(&mut graph, x);
        let y = graph.add("mean", Op::GlobalAvgPool, &[y]);
        graph.add("fc", Op::linear(2), &[y]);
        let program = graph.finish().unwrap().program().unwrap();
        let of = |step: &Step| {
            let epilogue = &step.epilogue;
            (step.name.clone(), epilogue.relu, epilogue.max_pool)
        };
        program.steps().iter().map(of).collect()
    }

    #[test]
    fn what_is_read_beside_a_reshape_is_not_cut_by_what_follows_it() {
        let reshape = |graph: &mut GraphBuilder, x| {
            let op = Op::Reshape(Reshape { h: 2, w: 8, c: 4 });
            graph.add("reshape", op, &[x])
        };
        let alone = steps(|graph, x| {
            let y = reshape(graph, x);
            graph.add("relu", Op::Relu, &[y])
        });
        assert_eq!(alone[0], ("conv".into(), true, false));
        let beside = steps(|graph, x| {
            let y = reshape(graph, x);
            let y = graph.add("relu", Op::Relu, &[y]);
            let z = reshape_again(graph, x);
            graph.add("add", Op::Add, &[y, z])
        });
        assert_eq!(beside[0], ("conv".into(), false, false));
        assert_eq!(beside[1], ("relu".into(), false, false));
        // Windows of the other image are not those of this one.
        let pooled = steps(|graph, x| {
            let y = reshape(graph, x);
            graph.add("pool", Op::max_pool(2), &[y])
        });
        assert_eq!(pooled[0], ("conv".into(), false, false));
    }

    fn reshape_again(graph: &mut GraphBuilder, x: NodeId) -> NodeId {
        let op = Op::Reshape(Reshape { h: 2, w: 8, c: 4 });
        graph.add("again", op, &[x])
    }
}
