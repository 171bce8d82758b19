//! Pooling.

use super::{Nature, Operator};
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

/// Attributes of a mean over windows; of the pixels beyond the image, the counted ones are zeros and the others are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Step down and to the right.
    pub stride: [usize; 2],
    /// Pixels above, left of, below and right of the image that windows reach; smaller than the kernel.
    pub padding: [usize; 4],
    /// Pixels of the padding that count: all of it where an exporter says `count_include_pad`, without what its `ceil_mode`
    /// added.
    pub counted_padding: [usize; 4],
}

impl AvgPool {
    /// Pixels that a window counts along an axis (0 for rows, 1 for columns), for the window at `at` of an input of `size`
    /// pixels: those of the image and of the counted padding.
    pub(crate) fn counted(&self, axis: usize, at: usize, size: usize) -> usize {
        let (before, after) = (self.padding[axis], self.counted_padding[axis + 2]);
        let start = at * self.stride[axis];
        let end = (start + self.kernel[axis]).min(before + size + after);
        end - start.max(before - self.counted_padding[axis])
    }

    /// Pixels that each window counts, in row order, for an input and a result of these rows and columns.
    pub(crate) fn counts(&self, input: [usize; 2], output: [usize; 2]) -> Vec<usize> {
        let pixels = (0..output[0]).flat_map(|y| (0..output[1]).map(move |x| (y, x)));
        let count = |(y, x)| self.counted(0, y, input[0]) * self.counted(1, x, input[1]);
        pixels.map(count).collect()
    }
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
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        infer(inputs[0], self.kernel, self.stride, self.padding)
    }
}

impl Operator for AvgPool {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        if (0..4).any(|side| self.counted_padding[side] > self.padding[side]) {
            return Err("a pool cannot count more padding than it has".into());
        }
        infer(inputs[0], self.kernel, self.stride, self.padding)
    }
}

pub(super) struct GlobalAvgPool;

impl Operator for GlobalAvgPool {
    fn nature(&self) -> Nature {
        Nature::PLAIN
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match inputs[0].rank() {
            4 => Err(format!("a 2-D pool cannot read {}", inputs[0])),
            _ => Ok(Shape::new(1, 1, inputs[0].c())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_the_image_and_the_counted_padding() {
        // Rows −2..=10 of an image of 8: −1 counts, −2 does not; 8 and 9 count, 10 does not.
        let pool = AvgPool {
            kernel: [4, 1],
            stride: [3, 1],
            padding: [2, 0, 3, 0],
            counted_padding: [1, 0, 2, 0],
        };
        assert_eq!(pool.infer(&[Shape::new(8, 1, 5)]), Ok(Shape::new(4, 1, 5)));
        let counted: Vec<usize> = (0..4).map(|at| pool.counted(0, at, 8)).collect();
        // Windows −2..2, 1..5, 4..8, 7..11.
        assert_eq!(counted, [3, 4, 4, 3]);
        let all = AvgPool {
            counted_padding: [2, 1, 3, 0],
            ..pool
        };
        assert!(
            all.infer(&[Shape::new(8, 1, 5)])
                .unwrap_err()
                .contains("count")
        );
    }
}
