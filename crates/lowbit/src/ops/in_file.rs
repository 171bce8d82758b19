//! How operators are written in model files.
//!
//! Version 1 of the format knew square convolutions and 2×2 pools alone, and wrote them without what was always the same.
//! They are written so still: such files open with every version, and are the same to the byte. Everything else is written
//! in full, in files of version 2; version 3 has the operators of imported classifiers,
//! version 6 those of transformers and mixers.

use super::{
    Attention, AvgPool, BatchNorm, ChannelShuffle, Conv, LayerNorm, Linear, MaxPool, Op, Prefix,
    Reshape, Slice, Unary,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum OpInFile {
    Input,
    #[serde(rename = "conv2d")]
    SquareConv {
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
    },
    Conv {
        out_channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
        groups: usize,
        bias: bool,
    },
    Linear {
        out_features: usize,
    },
    BatchNorm {
        eps: f32,
        momentum: f32,
    },
    Relu,
    Sigmoid,
    #[serde(rename = "max_pool2")]
    MaxPool2x2,
    MaxPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
    },
    AvgPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        #[serde(default, skip_serializing_if = "is_zero")]
        counted_padding: [usize; 4],
    },
    GlobalAvgPool,
    Flatten,
    Add,
    Mul,
    Clip {
        min: f32,
        max: f32,
    },
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    Silu,
    Tanh,
    LeakyRelu {
        slope: f32,
    },
    Elu {
        alpha: f32,
    },
    Gelu {
        tanh: bool,
    },
    Concat,
    ChannelShuffle {
        groups: usize,
    },
    Slice {
        first: usize,
        channels: usize,
    },
    Softmax,
    LayerNorm {
        eps: f32,
    },
    Attention {
        heads: usize,
        scale: f32,
        patch: [usize; 2],
    },
    Reshape {
        h: usize,
        w: usize,
        c: usize,
    },
    Prefix {
        tokens: usize,
    },
    Transpose,
}

fn is_zero(padding: &[usize; 4]) -> bool {
    *padding == [0; 4]
}

impl Op {
    /// The first version of the format that can say it.
    #[cfg(feature = "format")]
    pub(crate) fn format_version(&self) -> u32 {
        match OpInFile::from(*self) {
            OpInFile::AvgPool {
                counted_padding, ..
            } if !is_zero(&counted_padding) => 3,
            OpInFile::Input
            | OpInFile::SquareConv { .. }
            | OpInFile::Linear { .. }
            | OpInFile::BatchNorm { .. }
            | OpInFile::Relu
            | OpInFile::MaxPool2x2
            | OpInFile::GlobalAvgPool
            | OpInFile::Flatten
            | OpInFile::Add => 1,
            OpInFile::Conv { .. }
            | OpInFile::Sigmoid
            | OpInFile::MaxPool { .. }
            | OpInFile::AvgPool { .. }
            | OpInFile::Mul => 2,
            OpInFile::Clip { .. }
            | OpInFile::HardSigmoid { .. }
            | OpInFile::HardSwish
            | OpInFile::Silu
            | OpInFile::Tanh
            | OpInFile::LeakyRelu { .. }
            | OpInFile::Elu { .. }
            | OpInFile::Gelu { .. }
            | OpInFile::Concat
            | OpInFile::ChannelShuffle { .. }
            | OpInFile::Slice { .. }
            | OpInFile::Softmax
            | OpInFile::LayerNorm { .. } => 3,
            OpInFile::Attention { .. }
            | OpInFile::Reshape { .. }
            | OpInFile::Prefix { .. }
            | OpInFile::Transpose => 6,
        }
    }
}

impl From<Op> for OpInFile {
    fn from(op: Op) -> Self {
        match op {
            Op::Input => Self::Input,
            Op::Conv(conv) => conv.into(),
            Op::Linear(Linear { out_features }) => Self::Linear { out_features },
            Op::BatchNorm(BatchNorm { eps, momentum }) => Self::BatchNorm { eps, momentum },
            Op::Relu => Self::Relu,
            Op::Sigmoid => Self::Sigmoid,
            Op::MaxPool(pool) if pool.is_2x2() => Self::MaxPool2x2,
            Op::MaxPool(MaxPool {
                kernel,
                stride,
                padding,
            }) => Self::MaxPool {
                kernel,
                stride,
                padding,
            },
            Op::AvgPool(AvgPool {
                kernel,
                stride,
                padding,
                counted_padding,
            }) => Self::AvgPool {
                kernel,
                stride,
                padding,
                counted_padding,
            },
            Op::GlobalAvgPool => Self::GlobalAvgPool,
            Op::Flatten => Self::Flatten,
            Op::Add => Self::Add,
            Op::Mul => Self::Mul,
            Op::Unary(unary) => unary.into(),
            Op::Concat => Self::Concat,
            Op::ChannelShuffle(ChannelShuffle { groups }) => Self::ChannelShuffle { groups },
            Op::Slice(Slice { first, channels }) => Self::Slice { first, channels },
            Op::Softmax => Self::Softmax,
            Op::LayerNorm(LayerNorm { eps }) => Self::LayerNorm { eps },
            Op::Attention(Attention {
                heads,
                scale,
                patch,
            }) => Self::Attention {
                heads,
                scale,
                patch,
            },
            Op::Reshape(Reshape { h, w, c }) => Self::Reshape { h, w, c },
            Op::Prefix(Prefix { tokens }) => Self::Prefix { tokens },
            Op::Transpose => Self::Transpose,
        }
    }
}

impl From<Unary> for OpInFile {
    fn from(unary: Unary) -> Self {
        match unary {
            Unary::Clip { min, max } => Self::Clip { min, max },
            Unary::HardSigmoid { alpha, beta } => Self::HardSigmoid { alpha, beta },
            Unary::HardSwish => Self::HardSwish,
            Unary::Silu => Self::Silu,
            Unary::Tanh => Self::Tanh,
            Unary::LeakyRelu { slope } => Self::LeakyRelu { slope },
            Unary::Elu { alpha } => Self::Elu { alpha },
            Unary::Gelu { tanh } => Self::Gelu { tanh },
        }
    }
}

impl From<Conv> for OpInFile {
    fn from(conv: Conv) -> Self {
        let Conv {
            out_channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias,
        } = conv;
        let is_square = kernel[0] == kernel[1] && padding == [padding[0]; 4];
        match conv.is_plain() && is_square {
            true => Self::SquareConv {
                out_channels,
                kernel: kernel[0],
                stride: stride[0],
                padding: padding[0],
                bias,
            },
            false => Self::Conv {
                out_channels,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                bias,
            },
        }
    }
}

impl From<OpInFile> for Op {
    fn from(op: OpInFile) -> Self {
        match op {
            OpInFile::Input => Self::Input,
            OpInFile::SquareConv {
                out_channels,
                kernel,
                stride,
                padding,
                bias,
            } => match Self::conv(out_channels, kernel, stride, padding) {
                Self::Conv(conv) => Self::Conv(Conv { bias, ..conv }),
                other => other,
            },
            OpInFile::Conv {
                out_channels,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                bias,
            } => Self::Conv(Conv {
                out_channels,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                bias,
            }),
            OpInFile::Linear { out_features } => Self::linear(out_features),
            OpInFile::BatchNorm { eps, momentum } => Self::BatchNorm(BatchNorm { eps, momentum }),
            OpInFile::Relu => Self::Relu,
            OpInFile::Sigmoid => Self::Sigmoid,
            OpInFile::MaxPool2x2 => Self::max_pool(2),
            OpInFile::MaxPool {
                kernel,
                stride,
                padding,
            } => Self::MaxPool(MaxPool {
                kernel,
                stride,
                padding,
            }),
            OpInFile::AvgPool {
                kernel,
                stride,
                padding,
                counted_padding,
            } => Self::AvgPool(AvgPool {
                kernel,
                stride,
                padding,
                counted_padding,
            }),
            OpInFile::GlobalAvgPool => Self::GlobalAvgPool,
            OpInFile::Flatten => Self::Flatten,
            OpInFile::Add => Self::Add,
            OpInFile::Mul => Self::Mul,
            OpInFile::Clip { min, max } => Self::Unary(Unary::Clip { min, max }),
            OpInFile::HardSigmoid { alpha, beta } => {
                Self::Unary(Unary::HardSigmoid { alpha, beta })
            }
            OpInFile::HardSwish => Self::Unary(Unary::HardSwish),
            OpInFile::Silu => Self::Unary(Unary::Silu),
            OpInFile::Tanh => Self::Unary(Unary::Tanh),
            OpInFile::LeakyRelu { slope } => Self::Unary(Unary::LeakyRelu { slope }),
            OpInFile::Elu { alpha } => Self::Unary(Unary::Elu { alpha }),
            OpInFile::Gelu { tanh } => Self::Unary(Unary::Gelu { tanh }),
            OpInFile::Concat => Self::Concat,
            OpInFile::ChannelShuffle { groups } => Self::ChannelShuffle(ChannelShuffle { groups }),
            OpInFile::Slice { first, channels } => Self::Slice(Slice { first, channels }),
            OpInFile::Softmax => Self::Softmax,
            OpInFile::LayerNorm { eps } => Self::LayerNorm(LayerNorm { eps }),
            OpInFile::Attention {
                heads,
                scale,
                patch,
            } => Self::Attention(Attention {
                heads,
                scale,
                patch,
            }),
            OpInFile::Reshape { h, w, c } => Self::Reshape(Reshape { h, w, c }),
            OpInFile::Prefix { tokens } => Self::Prefix(Prefix { tokens }),
            OpInFile::Transpose => Self::Transpose,
        }
    }
}
