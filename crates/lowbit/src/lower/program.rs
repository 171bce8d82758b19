//! Steps: an operator with what is fused behind it, and the values that it reads and writes.

use crate::ops::{Conv, Op};
use crate::shape::Shape;

/// Index of a value: 0 is the image, value `i + 1` the result of step `i`.
pub type ValueId = usize;

/// Batch-norm that belongs to a step.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormRef {
    /// Prefix of its parameters' names.
    pub name: String,
    /// Added to the variance.
    pub eps: f32,
    /// Weight of a new batch in the running statistics.
    pub momentum: f32,
}

/// What follows a step's operator before its result is stored, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// Batch-norm.
    pub batch_norm: Option<BatchNormRef>,
    /// Whether negative results become zero.
    pub relu: bool,
    /// The largest result, where results are cut there: 6 for a ReLU6.
    pub ceiling: Option<f32>,
    /// Whether a 2×2 max-pool with stride 2 follows.
    pub max_pool: bool,
}

/// One operator with its epilogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of the operator's node; prefixes its parameters' names.
    pub name: String,
    /// The operator: never one that is fused or moves no data.
    pub op: Op,
    /// What is fused behind it.
    pub epilogue: Epilogue,
    /// The values that it reads.
    pub inputs: Vec<ValueId>,
    /// Their shapes.
    pub in_shapes: Vec<Shape>,
    /// Shape of the operator's own result, before a fused pool.
    pub main_shape: Shape,
    /// Shape of the step's result.
    pub out_shape: Shape,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

impl Step {
    /// Whether it has a weight tensor.
    #[must_use]
    pub fn has_weights(&self) -> bool {
        self.weight_extents().is_some()
    }

    /// Returns the extents of its weights, `[out, kernel_h, kernel_w, in]`; none where it has no weights.
    #[must_use]
    pub fn weight_extents(&self) -> Option<[usize; 4]> {
        let channels = self.in_shapes[0].c();
        match self.op {
            Op::Conv(Conv {
                out_channels,
                kernel: [kernel_h, kernel_w],
                groups,
                ..
            }) => Some([out_channels, kernel_h, kernel_w, channels / groups]),
            Op::Linear(linear) => Some([linear.out_features, 1, 1, channels]),
            Op::Input
            | Op::BatchNorm(_)
            | Op::Relu
            | Op::Sigmoid
            | Op::MaxPool(_)
            | Op::AvgPool(_)
            | Op::GlobalAvgPool
            | Op::Flatten
            | Op::Add
            | Op::Mul
            | Op::Unary(_)
            | Op::Concat
            | Op::ChannelShuffle(_)
            | Op::Slice(_)
            | Op::Softmax
            | Op::LayerNorm(_)
            | Op::Attention(_)
            | Op::Reshape(_)
            | Op::Prefix(_)
            | Op::Transpose => None,
        }
    }

    pub(crate) fn weight_shape(&self) -> Option<lowbit_kernels::WeightShape> {
        let [out_channels, kernel_h, kernel_w, in_channels] = self.weight_extents()?;
        Some(lowbit_kernels::WeightShape {
            out_channels,
            kernel_h,
            kernel_w,
            in_channels,
        })
    }

    /// Whether its product has a bias of its own.
    #[must_use]
    pub fn has_bias(&self) -> bool {
        self.op.nature().has_bias
    }

    /// Zeros that it wants around its input: above, left, below, right.
    pub(crate) fn padding(&self) -> [usize; 4] {
        match self.op {
            Op::Conv(conv) => conv.padding,
            _ => [0; 4],
        }
    }

    /// Whether a vector goes in and a vector comes out of a matrix product, whole batches at a time.
    pub(crate) fn is_linear(&self) -> bool {
        matches!(self.op, Op::Linear(_))
    }
}

/// The steps of a graph in execution order.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub(super) input: Shape,
    pub(super) steps: Vec<Step>,
    /// The value that holds each node's result.
    pub(super) of_nodes: Vec<ValueId>,
}

impl Program {
    /// Returns the steps in execution order; step `i` writes value `i + 1`, the last one the logits.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns the value that holds the result of node `node` of the graph, or of what was fused behind it.
    ///
    /// # Panics
    /// If the graph has no such node.
    #[must_use]
    pub fn value_of(&self, node: usize) -> ValueId {
        self.of_nodes[node]
    }

    /// Returns the shape of a value.
    #[must_use]
    pub fn value_shape(&self, value: ValueId) -> Shape {
        match value {
            0 => self.input,
            value => self.steps[value - 1].out_shape,
        }
    }

    /// Returns the number of values: the image and one per step.
    #[must_use]
    pub fn values(&self) -> usize {
        self.steps.len() + 1
    }

    /// Returns the indices of the first and the last step with weights: the edges, which may have a width of their own.
    #[must_use]
    pub fn edges(&self) -> [usize; 2] {
        let with_weights = |(index, step): (usize, &Step)| step.has_weights().then_some(index);
        let mut indices = self.steps.iter().enumerate().filter_map(with_weights);
        let first = indices.next().unwrap_or(0);
        [first, indices.next_back().unwrap_or(first)]
    }
}
