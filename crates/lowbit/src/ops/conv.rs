//! 2-D convolution.

use super::{MAX_ELEMENTS, Nature, OpParameter, Operator, ParameterKind};
use crate::shape::Shape;

/// Attributes of a 2-D convolution with zero padding. Weights `[out_channels, kernel_h, kernel_w, in_channels / groups]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Output channels.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step down and to the right.
    pub stride: [usize; 2],
    /// Zeros above, left of, below and right of the input, in pixels.
    pub padding: [usize; 4],
    /// Distance of the kernel's rows and columns, in pixels; 1 where they are neighbors.
    pub dilation: [usize; 2],
    /// Parts of the channels that see nothing of each other; all channels for a depthwise convolution.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// The largest kernel, stride, padding, dilation and number of channels.
const MAX_EXTENT: usize = 1 << 12;

impl Conv {
    /// Returns a convolution by a square kernel of `kernel` rows, whose result has the size of its input where that is odd: one
    /// pixel at a time, padded by half a kernel all around, in one group, with a bias.
    #[must_use]
    pub fn same(out_channels: usize, kernel: usize) -> Self {
        Self {
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 4],
            dilation: [1; 2],
            groups: 1,
            bias: true,
        }
    }

    /// Rows or columns of the input that the kernel spans, holes included: `axis` 0 for rows, 1 for columns.
    #[must_use]
    pub fn span(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// Whether one step leads both ways, taps are neighbors and every output sees every channel: what fused and fast
    /// kernels take.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.stride[0] == self.stride[1] && self.dilation == [1, 1] && self.groups == 1
    }

    /// Whether each of `channels` input channels has a filter of its own, and gives one output channel.
    #[must_use]
    pub fn is_depthwise(&self, channels: usize) -> bool {
        self.groups == channels && self.out_channels == channels
    }

    fn check(&self, input: Shape) -> Result<(), String> {
        let extents = [self.kernel, self.stride, self.dilation].concat();
        let all = extents.iter().chain(&self.padding);
        // A filter for each of many channels is no larger than its input.
        let filters = match self.is_depthwise(input.c()) {
            true => 1,
            false => self.out_channels,
        };
        if all.chain([&filters]).any(|&x| x > MAX_EXTENT) {
            return Err(
                "kernel, stride, padding, dilation and channels must be at most 4096".into(),
            );
        }
        if extents.contains(&0) || self.out_channels == 0 || self.groups == 0 {
            return Err("kernel, stride, dilation, groups and channels must not be zero".into());
        }
        if input.rank() > 3 {
            return Err(format!("a 2-D convolution cannot read {input}"));
        }
        let (c, groups) = (input.c(), self.groups);
        if !c.is_multiple_of(groups) || !self.out_channels.is_multiple_of(groups) {
            let out = self.out_channels;
            return Err(format!(
                "{groups} groups do not divide {c} input and {out} output channels"
            ));
        }
        Ok(())
    }
}

impl Operator for Conv {
    fn nature(&self) -> Nature {
        Nature {
            has_bias: self.bias,
            ..Nature::PLAIN
        }
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = inputs[0];
        self.check(input)?;
        let [top, left, bottom, right] = self.padding;
        let [h, w] = [input.h() + top + bottom, input.w() + left + right];
        if h < self.span(0) || w < self.span(1) {
            let [kernel_h, kernel_w] = [self.span(0), self.span(1)];
            let (h, w) = (input.h(), input.w());
            return Err(format!(
                "a {kernel_h}×{kernel_w} kernel does not fit into {h}×{w}"
            ));
        }
        let weights = self.kernel[0] * self.kernel[1] * (input.c() / self.groups);
        if weights.saturating_mul(self.out_channels) > MAX_ELEMENTS {
            return Err(format!("its weights exceed {MAX_ELEMENTS} elements"));
        }
        let extent = |size: usize, axis: usize| (size - self.span(axis)) / self.stride[axis] + 1;
        Ok(Shape::new(extent(h, 0), extent(w, 1), self.out_channels))
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<OpParameter> {
        let [kernel_h, kernel_w] = self.kernel;
        let channels = inputs[0].c() / self.groups;
        let fan_in = kernel_h * kernel_w * channels;
        let mut parameters = vec![OpParameter {
            suffix: "weight",
            shape: vec![self.out_channels, kernel_h, kernel_w, channels],
            kind: ParameterKind::Weight,
            fan_in,
        }];
        if self.bias {
            parameters.push(OpParameter {
                suffix: "bias",
                shape: vec![self.out_channels],
                kind: ParameterKind::Bias,
                fan_in,
            });
        }
        parameters
    }

    fn macs(&self, inputs: &[Shape], output: Shape) -> u64 {
        let taps = self.kernel[0] * self.kernel[1] * (inputs[0].c() / self.groups);
        (output.len() * taps) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::Op;
    use super::*;

    fn conv() -> Conv {
        let Op::Conv(conv) = Op::conv(8, 3, 1, 0) else {
            unreachable!("it is one")
        };
        conv
    }

    #[test]
    fn extents_follow_kernel_stride_padding_and_dilation_of_each_axis() {
        // Rows: 20 + 1 + 2 − ((3 − 1)·2 + 1) = 18, /2 → 10. Columns: 17 + 0 + 3 − 5 = 15, /3 → 6.
        let conv = Conv {
            kernel: [3, 5],
            stride: [2, 3],
            padding: [1, 0, 2, 3],
            dilation: [2, 1],
            groups: 4,
            ..conv()
        };
        let input = Shape::new(20, 17, 12);
        let output = conv.infer(&[input]).unwrap();
        assert_eq!(output, Shape::new(10, 6, 8));
        assert_eq!(conv.macs(&[input], output), 10 * 6 * 8 * 15 * 3);
        assert_eq!(conv.parameters(&[input])[0].shape, [8, 3, 5, 3]);
    }

    #[test]
    fn what_makes_no_convolution_is_refused() {
        let refused = |conv: Conv, input: Shape| conv.infer(&[input]).unwrap_err();
        let image = Shape::new(8, 8, 6);
        let groups = Conv {
            groups: 4,
            ..conv()
        };
        assert!(refused(groups, image).contains("4 groups do not divide 6 input"));
        let wide = Conv {
            dilation: [1, 4],
            ..conv()
        };
        assert!(refused(wide, image).contains("3×9 kernel"));
        let zero = Conv {
            stride: [0, 1],
            ..conv()
        };
        assert!(refused(zero, image).contains("not be zero"));
        let huge = Conv {
            padding: [0, 0, 5000, 0],
            ..conv()
        };
        assert!(refused(huge, image).contains("4096"));
        let volume = Shape::of(&[2, 8, 8, 6]).unwrap();
        assert!(refused(conv(), volume).contains("cannot read 2×8×8×6"));
    }
}
