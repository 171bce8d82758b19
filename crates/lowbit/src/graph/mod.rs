//! One graph type for training, quantization and inference.

mod blocks;
mod builder;
mod fold;
mod normalization;
pub mod zoo;

pub use blocks::{BatchNormRef, Block, BlockKind, Blocks, ValueId};
pub use builder::GraphBuilder;
pub use fold::fold_batch_norm;
pub(crate) use normalization::{PixelMap, pixel_params};

use serde::{Deserialize, Serialize};

/// Height, width and channels of an activation, `[h, w, c]`. A vector of features is `[1, 1, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// `[h, w, c]`.
    #[must_use]
    pub fn new(h: usize, w: usize, c: usize) -> Self {
        Self { h, w, c }
    }

    /// Elements.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.h * self.w * self.c
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.h, self.w, self.c)
    }
}

/// Index of a node in its graph.
pub type NodeId = usize;

/// How u8 pixels become the network's real input: `(x / 255 − mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Subtracted from the pixel in 0..1.
    pub mean: f32,
    /// Divides the difference.
    pub std: f32,
}

impl Default for Normalization {
    fn default() -> Self {
        Self {
            mean: 0.5,
            std: 0.5,
        }
    }
}

/// What a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The image.
    Input,
    /// 2-D convolution with zero padding. Weights `[out_channels, kernel, kernel, in_channels]`.
    Conv2d {
        /// Output channels.
        out_channels: usize,
        /// Rows and columns of the kernel.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Zeros around the input, in pixels.
        padding: usize,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Normalization over batch and space (Ioffe & Szegedy 2015), with running statistics for inference.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
        /// Weight of a new batch in the running statistics.
        momentum: f32,
    },
    /// `max(x, 0)`.
    Relu,
    /// 2×2 maximum with stride 2; an odd last row or column is dropped.
    MaxPool2,
    /// Linear layer with bias. Weights `[out_features, in_features]`, inputs flattened as `[h, w, c]`.
    Linear {
        /// Output features.
        out_features: usize,
    },
    /// `[h, w, c]` to `[1, 1, h·w·c]`; no data moves.
    Flatten,
    /// Sum of two inputs of the same shape.
    Add,
    /// Mean over height and width.
    GlobalAvgPool,
}

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

/// The role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Of a convolution or linear layer.
    Weight,
    /// Of a convolution or linear layer.
    Bias,
    /// Batch-norm's γ.
    Scale,
    /// Batch-norm's β.
    Shift,
    /// Batch-norm statistic, not trained by gradient.
    RunningMean,
    /// Batch-norm statistic, not trained by gradient.
    RunningVariance,
}

impl ParameterKind {
    /// Whether gradients train it.
    #[must_use]
    pub fn is_trainable(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }
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
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// Names of the classes, in the order of the logits.
    #[must_use]
    pub fn class_names(&self) -> &[String] {
        &self.class_names
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

    /// Every tensor that the graph needs, in the order of the nodes.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for node in &self.nodes {
            let mut add = |suffix: &str, shape: Vec<usize>, kind, fan_in| {
                let name = format!("{}.{suffix}", node.name);
                parameters.push(Parameter {
                    name,
                    shape,
                    kind,
                    fan_in,
                });
            };
            match node.op {
                Op::Conv2d {
                    out_channels,
                    kernel,
                    bias,
                    ..
                } => {
                    let channels = self.shapes[node.inputs[0]].c;
                    let fan_in = kernel * kernel * channels;
                    let shape = vec![out_channels, kernel, kernel, channels];
                    add("weight", shape, ParameterKind::Weight, fan_in);
                    if bias {
                        add("bias", vec![out_channels], ParameterKind::Bias, fan_in);
                    }
                }
                Op::Linear { out_features } => {
                    let fan_in = self.shapes[node.inputs[0]].len();
                    add(
                        "weight",
                        vec![out_features, fan_in],
                        ParameterKind::Weight,
                        fan_in,
                    );
                    add("bias", vec![out_features], ParameterKind::Bias, fan_in);
                }
                Op::BatchNorm { .. } => {
                    let channels = self.shapes[node.inputs[0]].c;
                    add("weight", vec![channels], ParameterKind::Scale, 1);
                    add("bias", vec![channels], ParameterKind::Shift, 1);
                    add(
                        "running_mean",
                        vec![channels],
                        ParameterKind::RunningMean,
                        1,
                    );
                    add(
                        "running_var",
                        vec![channels],
                        ParameterKind::RunningVariance,
                        1,
                    );
                }
                Op::Input | Op::Relu | Op::MaxPool2 | Op::Flatten | Op::Add | Op::GlobalAvgPool => {
                }
            }
        }
        parameters
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
        let output = self.shapes[node];
        match self.nodes[node].op {
            Op::Conv2d { kernel, .. } => {
                let channels = self.shapes[self.nodes[node].inputs[0]].c;
                (output.len() * kernel * kernel * channels) as u64
            }
            Op::Linear { out_features } => {
                (self.shapes[self.nodes[node].inputs[0]].len() * out_features) as u64
            }
            _ => 0,
        }
    }

    /// The fused blocks that training, quantization and inference run.
    ///
    /// # Errors
    /// [`GraphError`] where a node stands where no block can take it up.
    pub fn blocks(&self) -> Result<Blocks, GraphError> {
        blocks::fuse(self)
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
