//! Building graphs, and checking those that come from a file.

use super::{Graph, GraphError, Node, NodeId, Normalization, Op, Shape};
use std::collections::HashSet;

/// More elements than any activation or weight tensor may have: a bound on what a model file can make us allocate.
const MAX_ELEMENTS: usize = 1 << 28;

/// Adds nodes one by one; [`GraphBuilder::finish`] infers the shapes and checks them.
#[derive(Debug)]
pub struct GraphBuilder {
    name: String,
    input: Shape,
    class_names: Vec<String>,
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
            nodes: vec![input_node],
        }
    }

    /// The input node.
    #[must_use]
    pub fn input(&self) -> NodeId {
        0
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

    /// Adds a convolution.
    pub fn conv(
        &mut self,
        name: &str,
        input: NodeId,
        out_channels: usize,
        kernel: usize,
        (stride, padding): (usize, usize),
        bias: bool,
    ) -> NodeId {
        self.add(
            name,
            Op::Conv2d {
                out_channels,
                kernel,
                stride,
                padding,
                bias,
            },
            &[input],
        )
    }

    /// Adds a batch-norm with ε = 1e-5 and momentum 0.1.
    pub fn batch_norm(&mut self, name: &str, input: NodeId) -> NodeId {
        self.add(
            name,
            Op::BatchNorm {
                eps: 1e-5,
                momentum: 0.1,
            },
            &[input],
        )
    }

    /// Infers and checks all shapes.
    ///
    /// # Errors
    /// [`GraphError`] naming the first node that does not fit.
    pub fn finish(self) -> Result<Graph, GraphError> {
        check(
            self.name,
            self.input,
            Normalization::default(),
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
    if [input.h, input.w, input.c]
        .iter()
        .any(|&extent| extent == 0 || extent > 1 << 14)
    {
        return Err(whole(
            "the input's height, width and channels must lie in 1..16384",
        ));
    }
    if !(normalization.mean.is_finite() && normalization.std.is_finite() && normalization.std > 0.0)
    {
        return Err(whole(
            "the normalization needs a finite mean and a positive std",
        ));
    }
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
        if shape.h.saturating_mul(shape.w).saturating_mul(shape.c) > MAX_ELEMENTS {
            return Err(wrong(format!(
                "its result {shape} is larger than {MAX_ELEMENTS} elements"
            )));
        }
        shapes.push(shape);
    }
    let output = shapes[shapes.len() - 1];
    if output != Shape::new(1, 1, class_names.len()) {
        return Err(whole(&format!(
            "the last node gives {output}, expected 1×1×{} logits",
            class_names.len()
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
    let expected = match node.op {
        Op::Input => 0,
        Op::Add => 2,
        _ => 1,
    };
    if inputs.len() != expected {
        return Err(format!(
            "it has {} inputs, expected {expected}",
            inputs.len()
        ));
    }
    match node.op {
        Op::Input if index == 0 => Ok(input),
        Op::Input => Err("only the first node can be the input".into()),
        Op::Conv2d {
            out_channels,
            kernel,
            stride,
            padding,
            ..
        } => {
            let Shape { h, w, c } = inputs[0];
            let small = |value: usize| value <= 1 << 12;
            if !(small(kernel) && small(stride) && small(padding) && small(out_channels)) {
                return Err("kernel, stride, padding and channels must be at most 4096".into());
            }
            if kernel == 0 || stride == 0 || out_channels == 0 {
                return Err("kernel, stride and channels must not be zero".into());
            }
            if h + 2 * padding < kernel || w + 2 * padding < kernel {
                return Err(format!(
                    "a {kernel}×{kernel} kernel does not fit into {h}×{w}"
                ));
            }
            if out_channels * kernel * kernel * c > MAX_ELEMENTS {
                return Err(format!("its weights exceed {MAX_ELEMENTS} elements"));
            }
            let extent = |size: usize| (size + 2 * padding - kernel) / stride + 1;
            Ok(Shape::new(extent(h), extent(w), out_channels))
        }
        Op::Linear { out_features } => {
            if out_features == 0 || out_features.saturating_mul(inputs[0].len()) > MAX_ELEMENTS {
                return Err(format!("its weights must have 1..{MAX_ELEMENTS} elements"));
            }
            Ok(Shape::new(1, 1, out_features))
        }
        Op::MaxPool2 => {
            let Shape { h, w, c } = inputs[0];
            if h < 2 || w < 2 {
                return Err(format!(
                    "2×2 pooling does not fit into {h}×{w}: use larger images"
                ));
            }
            Ok(Shape::new(h / 2, w / 2, c))
        }
        Op::BatchNorm { eps, momentum } => {
            if !(eps.is_finite() && eps > 0.0 && (0.0..=1.0).contains(&momentum)) {
                return Err("batch-norm needs a positive eps and a momentum in 0..1".into());
            }
            Ok(inputs[0])
        }
        Op::Relu => Ok(inputs[0]),
        Op::Flatten => Ok(Shape::new(1, 1, inputs[0].len())),
        Op::Add if inputs[0] == inputs[1] => Ok(inputs[0]),
        Op::Add => Err(format!("it adds {} to {}", inputs[0], inputs[1])),
        Op::GlobalAvgPool => Ok(Shape::new(1, 1, inputs[0].c)),
    }
}
