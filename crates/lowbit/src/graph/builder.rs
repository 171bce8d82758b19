//! Building graphs, and checking those that come from a file.

use super::{BatchNorm, Conv, Graph, GraphError, Node, NodeId, Normalization, Op, Shape};
use crate::ops::MAX_ELEMENTS;
use std::collections::HashSet;

/// Adds nodes one by one; [`GraphBuilder::finish`] infers the shapes and checks them.
#[derive(Debug)]
pub struct GraphBuilder {
    name: String,
    input: Shape,
    class_names: Vec<String>,
    normalization: Normalization,
    nodes: Vec<Node>,
}

impl GraphBuilder {
    /// A graph with an input node alone.
    #[must_use]
    pub fn new(name: &str, input: Shape, class_names: &[String]) -> Self {
        let input_node = Node {
            name: "input".into(),
            op: Op::Input,
            inputs: vec![],
        };
        Self {
            name: name.into(),
            input,
            class_names: class_names.to_vec(),
            normalization: Normalization::default(),
            nodes: vec![input_node],
        }
    }

    /// The input node.
    #[must_use]
    pub fn input(&self) -> NodeId {
        0
    }

    /// Sets how pixels become real numbers; without, mean and std are ½.
    #[must_use]
    pub fn normalization(mut self, normalization: Normalization) -> Self {
        self.normalization = normalization;
        self
    }

    /// Adds a node.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> NodeId {
        self.nodes.push(Node {
            name: name.into(),
            op,
            inputs: inputs.to_vec(),
        });
        self.nodes.len() - 1
    }

    /// Adds a square convolution with the same stride and padding on all sides.
    pub fn conv(
        &mut self,
        name: &str,
        input: NodeId,
        out_channels: usize,
        kernel: usize,
        (stride, padding): (usize, usize),
        bias: bool,
    ) -> NodeId {
        let square = Op::conv(out_channels, kernel, stride, padding);
        let op = match square {
            Op::Conv(conv) => Op::Conv(Conv { bias, ..conv }),
            other => other,
        };
        self.add(name, op, &[input])
    }

    /// Adds a batch-norm with ε = 1e-5 and momentum 0.1.
    pub fn batch_norm(&mut self, name: &str, input: NodeId) -> NodeId {
        self.add(name, Op::BatchNorm(BatchNorm::default()), &[input])
    }

    /// Infers and checks all shapes.
    ///
    /// # Errors
    /// [`GraphError`] naming the first node that does not fit.
    pub fn finish(self) -> Result<Graph, GraphError> {
        check(
            self.name,
            self.input,
            self.normalization,
            self.class_names,
            self.nodes,
        )
    }
}

pub(super) fn check(
    name: String,
    input: Shape,
    normalization: Normalization,
    class_names: Vec<String>,
    nodes: Vec<Node>,
) -> Result<Graph, GraphError> {
    let whole = |reason: &str| GraphError::Whole {
        graph: name.clone(),
        reason: reason.to_owned(),
    };
    if nodes.is_empty() || nodes[0].op != Op::Input {
        return Err(whole("the first node must be the input"));
    }
    let extents = input.extents();
    if extents
        .iter()
        .any(|&extent| extent == 0 || extent > 1 << 14)
        || input.rank() > 3
    {
        return Err(whole(
            "the input's height, width and channels must lie in 1..16384",
        ));
    }
    normalization.check(&name, input.c())?;
    let mut names = HashSet::new();
    let mut shapes: Vec<Shape> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let wrong = |reason: String| GraphError::Node {
            node: node.name.clone(),
            reason,
        };
        if !names.insert(node.name.as_str()) {
            return Err(wrong("the name is taken by an earlier node".into()));
        }
        if node.inputs.iter().any(|&from| from >= index) {
            return Err(wrong("it reads a node that does not come before it".into()));
        }
        let inputs: Vec<Shape> = node.inputs.iter().map(|&from| shapes[from]).collect();
        let shape = infer(node, index, input, &inputs).map_err(wrong)?;
        if shape.len() > MAX_ELEMENTS {
            return Err(wrong(format!(
                "its result {shape} is larger than {MAX_ELEMENTS} elements"
            )));
        }
        shapes.push(shape);
    }
    let output = shapes[shapes.len() - 1];
    if !output.is_vector() || output.c() != class_names.len() {
        let classes = class_names.len();
        return Err(whole(&format!(
            "the last node gives {output}, expected {classes} logits"
        )));
    }
    Ok(Graph {
        name,
        input,
        normalization,
        class_names,
        nodes,
        shapes,
    })
}

fn infer(node: &Node, index: usize, input: Shape, inputs: &[Shape]) -> Result<Shape, String> {
    let operator = node.op.operator();
    let (found, expected) = (inputs.len(), operator.arity());
    if !expected.allows(found) {
        return Err(format!("it has {found} inputs, expected {expected}"));
    }
    match node.op == Op::Input && index == 0 {
        true => Ok(input),
        false => operator.infer(inputs),
    }
}
