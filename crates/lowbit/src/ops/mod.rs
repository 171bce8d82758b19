//! The operators of a graph: one file each with its attributes, the number of its inputs, the shape of its result, its
//! parameters and its multiply-accumulates. Nothing here computes.
//!
//! An operator that does not know an attribute must refuse it, never compute something else.

mod activation;
mod attention;
mod batch_norm;
mod binary;
mod channels;
mod conv;
mod in_file;
mod linear;
mod normalize;
mod pool;
mod tokens;

pub use activation::Unary;
pub(crate) use activation::sigmoid;
pub use attention::Attention;
pub use batch_norm::BatchNorm;
pub use channels::{ChannelShuffle, Slice};
pub use conv::Conv;
pub use linear::Linear;
pub use normalize::LayerNorm;
pub use pool::{AvgPool, MaxPool};
pub use tokens::{Prefix, Reshape};

use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// What a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "in_file::OpInFile", into = "in_file::OpInFile")]
#[non_exhaustive]
pub enum Op {
    /// The image.
    Input,
    /// 2-D convolution.
    Conv(Conv),
    /// Matrix product over the last axis, with bias.
    Linear(Linear),
    /// Normalization over batch and space (Ioffe & Szegedy 2015), with running statistics for inference.
    BatchNorm(BatchNorm),
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// Another function of one element.
    Unary(Unary),
    /// Largest of a window.
    MaxPool(MaxPool),
    /// Mean of a window.
    AvgPool(AvgPool),
    /// Mean over height and width.
    GlobalAvgPool,
    /// `[h, w, c]` to `[h·w·c]`; no data moves.
    Flatten,
    /// Sum of two inputs of the same shape, or of an image and one term per channel.
    Add,
    /// Product of two inputs of the same shape, or of an image and one factor per channel.
    Mul,
    /// The channels of all inputs, one input behind the other.
    Concat,
    /// The channels in another order.
    ChannelShuffle(ChannelShuffle),
    /// Some of the channels.
    Slice(Slice),
    /// `exp(x)` over the sum of it, over the channels of each pixel.
    Softmax,
    /// Normalization over the channels of each pixel.
    LayerNorm(LayerNorm),
    /// Attention between the pixels of queries, keys and values, its inputs.
    Attention(Attention),
    /// Other extents for the same elements; no data moves unless padded convolutions read them.
    Reshape(Reshape),
    /// Zeros in front of the pixels.
    Prefix(Prefix),
    /// `[h, w, c]` to `[1, c, h·w]`: pixels become channels.
    Transpose,
}

/// The role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

/// A tensor that an operator needs.
pub(crate) struct OpParameter {
    /// Follows the node's name and a point.
    pub(crate) suffix: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: ParameterKind,
    /// Inputs that one output sums over.
    pub(crate) fan_in: usize,
}

/// How many inputs an operator has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    Exactly(usize),
    AtLeast(usize),
}

impl Arity {
    pub(crate) fn allows(self, inputs: usize) -> bool {
        match self {
            Self::Exactly(count) => inputs == count,
            Self::AtLeast(count) => inputs >= count,
        }
    }
}

impl std::fmt::Display for Arity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(count) => write!(f, "{count}"),
            Self::AtLeast(count) => write!(f, "at least {count}"),
        }
    }
}

/// What a graph has to know about an operator.
pub(crate) trait Operator {
    /// Number of inputs.
    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    /// What others ask of it besides shapes.
    fn nature(&self) -> Nature;

    /// The shape of the result for inputs of these shapes, as many as there must be; or why there is none.
    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String>;

    /// The tensors that it needs for inputs that [`Operator::infer`] accepts.
    fn parameters(&self, _inputs: &[Shape]) -> Vec<OpParameter> {
        Vec::new()
    }

    /// Multiply-accumulates of its products for one image.
    fn macs(&self, _inputs: &[Shape], _output: Shape) -> u64 {
        0
    }
}

/// What folding, ranges and quantizers ask of an operator besides shapes. There is no default: each says it in its own file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Nature {
    /// Whether there is a bias per output channel.
    pub(crate) has_bias: bool,
    /// Whether numbers only move from the inputs to the result, which then can share their range.
    pub(crate) only_moves: bool,
    /// Whether the result is never negative, whatever the inputs: its integers need no zero point but 0.
    pub(crate) is_never_negative: bool,
}

impl Nature {
    const PLAIN: Self = Self {
        has_bias: false,
        only_moves: false,
        is_never_negative: false,
    };
    const BIASED: Self = Self {
        has_bias: true,
        ..Self::PLAIN
    };
    const MOVES: Self = Self {
        only_moves: true,
        ..Self::PLAIN
    };
    const NEVER_NEGATIVE: Self = Self {
        is_never_negative: true,
        ..Self::PLAIN
    };
}

/// More elements than any activation or weight tensor may have: a bound on what a model file can make us allocate.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

impl Op {
    /// The table of operators.
    pub(crate) fn operator(&self) -> &dyn Operator {
        match self {
            Self::Input => &Input,
            Self::Conv(conv) => conv,
            Self::Linear(linear) => linear,
            Self::BatchNorm(norm) => norm,
            Self::Relu => &activation::Relu,
            Self::Sigmoid => &activation::Sigmoid,
            Self::Unary(unary) => unary,
            Self::MaxPool(pool) => pool,
            Self::AvgPool(pool) => pool,
            Self::GlobalAvgPool => &pool::GlobalAvgPool,
            Self::Flatten => &Flatten,
            Self::Add => &binary::Add,
            Self::Mul => &binary::Mul,
            Self::Concat => &channels::Concat,
            Self::ChannelShuffle(shuffle) => shuffle,
            Self::Slice(slice) => slice,
            Self::Softmax => &normalize::Softmax,
            Self::LayerNorm(norm) => norm,
            Self::Attention(attention) => attention,
            Self::Reshape(reshape) => reshape,
            Self::Prefix(prefix) => prefix,
            Self::Transpose => &tokens::Transpose,
        }
    }

    /// Returns a square convolution with the same stride and padding on all sides, without bias.
    #[must_use]
    pub fn conv(out_channels: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        Self::Conv(Conv {
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [1; 2],
            groups: 1,
            bias: false,
        })
    }

    /// Returns one factor and one summand per channel, `x·weight[c] + bias[c]`, as the depthwise 1×1 convolution that it is:
    /// weights `[channels, 1, 1, 1]`. Quantized per channel, a filter of one weight loses nothing at any width.
    #[must_use]
    pub fn affine(channels: usize) -> Self {
        match Self::conv(channels, 1, 1, 0) {
            Self::Conv(conv) => Self::Conv(Conv {
                groups: channels,
                bias: true,
                ..conv
            }),
            other => other,
        }
    }

    /// Returns a linear layer with bias.
    #[must_use]
    pub fn linear(out_features: usize) -> Self {
        Self::Linear(Linear { out_features })
    }

    /// What others ask of it besides shapes.
    pub(crate) fn nature(&self) -> Nature {
        self.operator().nature()
    }

    /// Whether it gives the elements of its input under another shape, and nothing moves.
    pub(crate) fn moves_nothing(&self) -> bool {
        matches!(self, Self::Flatten | Self::Reshape(_))
    }

    /// Returns a max-pool over squares that do not overlap.
    #[must_use]
    pub fn max_pool(size: usize) -> Self {
        Self::MaxPool(MaxPool {
            kernel: [size; 2],
            stride: [size; 2],
            padding: [0; 4],
        })
    }
}

struct Input;

impl Operator for Input {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _inputs: &[Shape]) -> Result<Shape, String> {
        Err("only the first node can be the input".into())
    }
}

struct Flatten;

impl Operator for Flatten {
    fn nature(&self) -> Nature {
        Nature::MOVES
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(Shape::vector(inputs[0].len()))
    }
}
