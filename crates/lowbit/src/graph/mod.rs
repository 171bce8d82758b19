//! One graph type for training, quantization and inference.

mod builder;
mod fold;
mod normalization;
pub mod zoo;

pub use crate::lower::{BatchNormRef, Epilogue, Program, Step, ValueId};
pub use crate::ops::{
    Attention, AvgPool, BatchNorm, ChannelShuffle, Conv, LayerNorm, Linear, MaxPool, Op,
    ParameterKind, Prefix, Reshape, Slice, Unary,
};
pub use crate::shape::Shape;
pub use builder::GraphBuilder;
pub use fold::fold_batch_norm;
pub use normalization::Normalization;
pub(crate) use normalization::Pixels;

use serde::{Deserialize, Serialize};

/// Index of a node in its graph.
pub type NodeId = usize;

/// One operation and where its inputs come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique in the graph; prefixes its parameters' names.
    pub name: String,
    /// What it computes.
    #[serde(flatten)]
    pub op: Op,
    /// Indices of earlier nodes.
    pub inputs: Vec<NodeId>,
}

/// A directed acyclic graph of operations in execution order; node 0 is the input, the last node gives the logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Description", into = "Description")]
pub struct Graph {
    name: String,
    input: Shape,
    normalization: Normalization,
    class_names: Vec<String>,
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
}

/// What a graph is on disk: everything but what can be inferred.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Description {
    name: String,
    input: Shape,
    normalization: Normalization,
    class_names: Vec<String>,
    nodes: Vec<Node>,
}

/// Why nodes do not make a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A node that cannot stand where it stands.
    #[error("node {node}: {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph as a whole is unusable.
    #[error("graph {graph}: {reason}")]
    Whole {
        /// The graph's name.
        graph: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No model of that name in the zoo.
    #[error("unknown model {name}: choose one of {known}")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}

/// Name, shape and role of one tensor that a graph needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `node.weight`, `node.bias`, `node.running_mean`, ...
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Role.
    pub kind: ParameterKind,
    /// Inputs that one output sums over.
    pub fan_in: usize,
}

impl Graph {
    /// Its name, e.g. `eurosat-cnn`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape of an input image.
    #[must_use]
    pub fn input(&self) -> Shape {
        self.input
    }

    /// How pixels become real numbers.
    #[must_use]
    pub fn normalization(&self) -> &Normalization {
        &self.normalization
    }

    /// Names of the classes, in the order of the logits.
    #[must_use]
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Returns the same graph with other names for its classes.
    ///
    /// # Errors
    /// [`GraphError::Whole`] where there are more or fewer than logits.
    pub fn with_class_names(mut self, names: &[String]) -> Result<Self, GraphError> {
        let (found, expected) = (names.len(), self.classes());
        if found != expected {
            return Err(GraphError::Whole {
                graph: self.name,
                reason: format!("{found} names for {expected} classes"),
            });
        }
        self.class_names = names.to_vec();
        Ok(self)
    }

    /// Returns the same graph with as many outputs of its last layer as `names`: for other classes than it was made for. Its last
    /// layer's weights have another shape then.
    ///
    /// # Errors
    /// [`GraphError`] where the last operator is no linear layer.
    pub fn with_new_head(&self, names: &[String]) -> Result<Self, GraphError> {
        let mut nodes = self.nodes.clone();
        let Some(Node {
            op: Op::Linear(linear),
            ..
        }) = nodes.last_mut()
        else {
            return Err(GraphError::Whole {
                graph: self.name.clone(),
                reason: "its last operator is no linear layer, and only those can be made anew for other classes".into(),
            });
        };
        linear.out_features = names.len();
        builder::check(
            self.name.clone(),
            self.input,
            self.normalization.clone(),
            names.to_vec(),
            nodes,
        )
    }

    /// Number of logits.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Its nodes in execution order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Shape of a node's result.
    #[must_use]
    pub fn shape(&self, node: NodeId) -> Shape {
        self.shapes[node]
    }

    /// Shapes of a node's inputs.
    fn input_shapes(&self, node: &Node) -> Vec<Shape> {
        node.inputs.iter().map(|&from| self.shapes[from]).collect()
    }

    /// Every tensor that the graph needs, in the order of the nodes.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let of_node = |node: &Node| {
            let inputs = self.input_shapes(node);
            let parameters = node.op.operator().parameters(&inputs).into_iter();
            let name = node.name.clone();
            parameters.map(move |parameter| Parameter {
                name: format!("{name}.{}", parameter.suffix),
                shape: parameter.shape,
                kind: parameter.kind,
                fan_in: parameter.fan_in,
            })
        };
        self.nodes.iter().flat_map(of_node).collect()
    }

    /// Number of trained numbers.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.parameters()
            .iter()
            .filter(|parameter| parameter.kind.is_trainable())
            .map(|parameter| parameter.shape.iter().product::<usize>())
            .sum()
    }

    /// Multiply-accumulates of convolutions and linear layers for one image.
    #[must_use]
    pub fn macs(&self) -> u64 {
        (0..self.nodes.len()).map(|node| self.node_macs(node)).sum()
    }

    /// Multiply-accumulates of one node for one image.
    #[must_use]
    pub fn node_macs(&self, node: NodeId) -> u64 {
        let (output, node) = (self.shapes[node], &self.nodes[node]);
        node.op.operator().macs(&self.input_shapes(node), output)
    }

    /// Lowers the graph to the fused steps that training, quantization and inference run.
    ///
    /// # Errors
    /// [`GraphError`] where a node stands where no step can take it up.
    pub fn program(&self) -> Result<Program, GraphError> {
        Program::of(self)
    }

    /// The first version of the file format that can say it.
    #[cfg(feature = "format")]
    pub(crate) fn format_version(&self) -> u32 {
        let nodes = self.nodes.iter().map(|node| node.op.format_version());
        let input = if self.input.rank() == 3 { 1 } else { 2 };
        let version = nodes.max().unwrap_or(1).max(input);
        version.max(self.normalization.format_version())
    }
}

impl From<Graph> for Description {
    fn from(graph: Graph) -> Self {
        let Graph {
            name,
            input,
            normalization,
            class_names,
            nodes,
            ..
        } = graph;
        Self {
            name,
            input,
            normalization,
            class_names,
            nodes,
        }
    }
}

impl TryFrom<Description> for Graph {
    type Error = GraphError;

    fn try_from(description: Description) -> Result<Self, GraphError> {
        let Description {
            name,
            input,
            normalization,
            class_names,
            nodes,
        } = description;
        builder::check(name, input, normalization, class_names, nodes)
    }
}
