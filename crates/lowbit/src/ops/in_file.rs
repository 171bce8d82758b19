//! How operators are written in model files.
//!
//! Version 1 of the format knew square convolutions and 2×2 pools alone, and wrote them without what was always the same.
//! They are written so still: such files open with every version, and are the same to the byte. Everything else is written
//! in full, in files of version 2.

use super::{AvgPool, BatchNorm, Conv, Linear, MaxPool, Op};
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
    },
    GlobalAvgPool,
    Flatten,
    Add,
    Mul,
}

impl Op {
    /// The first version of the format that can say it.
    #[cfg(feature = "format")]
    pub(crate) fn format_version(&self) -> u32 {
        match OpInFile::from(*self) {
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
            }) => Self::AvgPool {
                kernel,
                stride,
                padding,
            },
            Op::GlobalAvgPool => Self::GlobalAvgPool,
            Op::Flatten => Self::Flatten,
            Op::Add => Self::Add,
            Op::Mul => Self::Mul,
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
            } => Self::AvgPool(AvgPool {
                kernel,
                stride,
                padding,
            }),
            OpInFile::GlobalAvgPool => Self::GlobalAvgPool,
            OpInFile::Flatten => Self::Flatten,
            OpInFile::Add => Self::Add,
            OpInFile::Mul => Self::Mul,
        }
    }
}
