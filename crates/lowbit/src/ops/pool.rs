//! Pooling.

use super::Operator;
use crate::shape::Shape;

/// Attributes of a max-pool; windows reach beyond the image by the padding, and see nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Step down and to the right.
    pub stride: [usize; 2],
    /// Pixels above, left of, below and right of the image that windows reach; smaller than the kernel.
    pub padding: [usize; 4],
}

/// Attributes of a mean over windows; pixels beyond the image do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Step down and to the right.
    pub stride: [usize; 2],
    /// Pixels above, left of, below and right of the image that windows reach; smaller than the kernel.
    pub padding: [usize; 4],
}

impl MaxPool {
    /// Whether it takes 2×2 windows that do not overlap: what convolutions can take up.
    #[must_use]
    pub fn is_2x2(&self) -> bool {
        self.kernel == [2, 2] && self.stride == [2, 2] && self.padding == [0; 4]
    }
}

fn infer(
    input: Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
) -> Result<Shape, String> {
    let [top, left, bottom, right] = padding;
    if input.rank() > 3 {
        return Err(format!("a 2-D pool cannot read {input}"));
    }
    if [kernel, stride]
        .concat()
        .iter()
        .any(|&x| x == 0 || x > 4096)
    {
        return Err("kernel and stride of a pool must lie in 1..4096".into());
    }
    // Else a window could lie beyond the image and hold nothing.
    if top.max(bottom) >= kernel[0] || left.max(right) >= kernel[1] {
        return Err("the padding of a pool must be smaller than its kernel".into());
    }
    let [h, w] = [input.h() + top + bottom, input.w() + left + right];
    if h < kernel[0] || w < kernel[1] {
        let ([kernel_h, kernel_w], h, w) = (kernel, input.h(), input.w());
        return Err(format!(
            "{kernel_h}×{kernel_w} pooling does not fit into {h}×{w}: use larger images"
        ));
    }
    let extent = |size: usize, axis: usize| (size - kernel[axis]) / stride[axis] + 1;
    Ok(Shape::new(extent(h, 0), extent(w, 1), input.c()))
}

impl Operator for MaxPool {
    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        infer(inputs[0], self.kernel, self.stride, self.padding)
    }
}

impl Operator for AvgPool {
    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        infer(inputs[0], self.kernel, self.stride, self.padding)
    }
}

pub(super) struct GlobalAvgPool;

impl Operator for GlobalAvgPool {
    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match inputs[0].rank() {
            4 => Err(format!("a 2-D pool cannot read {}", inputs[0])),
            _ => Ok(Shape::new(1, 1, inputs[0].c())),
        }
    }
}
