//! The gradient of a convolution's input.

use super::kernel::Kernel;
use crate::graph::{Conv, Step};
use lowbit_kernels::{ConvGeometry, ImagesGeometry, Isa, WeightShape};

/// How the gradient of the map lies in a slice's scratch, zeros around it, so that the gradient of the input is a plain
/// convolution of it, or one for each phase of a stride.
pub(super) struct Backward {
    /// None for the first layer: the image needs no gradient.
    phases: Vec<Phase>,
    /// Of the map's first pixel.
    pub(super) offset: usize,
    pub(super) row_stride: usize,
    pub(super) scratch_len: usize,
    /// Of an image's input.
    input_len: usize,
}

/// The pixels of the input whose distance from the first kernel position is the same, modulo the stride: they see every
/// `stride`-th row and column of the kernel.
struct Phase {
    /// From the scratch to the input's gradient; none where a stride is wider than the kernel and nothing is seen.
    geometry: Option<ConvGeometry>,
    /// First kernel row and column.
    first: [usize; 2],
    /// Kernel rows and columns.
    taps: [usize; 2],
    /// Of the first pixel that is seen, in the scratch.
    from: usize,
    /// Of the first pixel, in the input's gradient.
    to: usize,
    /// Rows and columns of zeros around the scratch.
    border: usize,
    /// Rows and columns of zeros before the map in the phase's view, and of the map in it.
    zeros: [usize; 2],
    size: [usize; 2],
    kernel: Kernel,
    /// The phase's weights, OHWI, where they are not the whole kernel.
    gathered: Vec<f32>,
}

/// One direction of a phase.
#[derive(Clone, Copy)]
struct Axis {
    first: usize,
    taps: usize,
    /// First pixel, and how many there are.
    pixel: usize,
    count: usize,
    /// The map's pixel that the first kernel position of the first pixel sees.
    seen: usize,
}

impl Axis {
    fn new(first: usize, (kernel, stride, padding): (usize, usize, usize), size: usize) -> Self {
        let pixel = (first + stride * padding - padding) % stride;
        Self {
            first,
            taps: kernel.saturating_sub(first).div_ceil(stride),
            pixel,
            count: size.saturating_sub(pixel).div_ceil(stride),
            seen: (pixel + padding - first) / stride,
        }
    }

    /// Zeros that are needed before a map of `size` pixels, and behind it.
    fn zeros(&self, size: usize) -> [usize; 2] {
        if self.taps == 0 || self.count == 0 {
            return [0, 0];
        }
        let last = self.seen + self.count - 1;
        [
            (self.taps - 1).saturating_sub(self.seen),
            last.saturating_sub(size - 1),
        ]
    }
}

impl Backward {
    /// Of a plain convolution.
    pub(super) fn new(step: &Step, conv: &Conv, isa: Isa) -> Self {
        let stride = conv.stride[0];
        let (map, input) = (step.main_shape, step.in_shapes[0]);
        let shape = step.weight_shape().expect("convolutions have weights");
        if step.inputs[0] == 0 {
            return Self {
                phases: Vec::new(),
                offset: 0,
                row_stride: map.w() * map.c(),
                scratch_len: map.len(),
                input_len: input.len(),
            };
        }
        let axes = |axis: usize, size: usize| -> Vec<Axis> {
            let attributes = (conv.kernel[axis], stride, conv.padding[axis]);
            let axis = |first| Axis::new(first, attributes, size);
            (0..stride).map(axis).collect()
        };
        let (rows, columns) = (axes(0, input.h()), axes(1, input.w()));
        let most = |axes: &[Axis], size: usize| {
            let zeros = axes.iter().map(|axis| axis.zeros(size));
            zeros.fold([0, 0], |[a, b], [c, d]| [a.max(c), b.max(d)])
        };
        let ([above, below], [left, right]) = (most(&rows, map.h()), most(&columns, map.w()));
        let row_stride = (left + map.w() + right) * map.c();
        let scratch_len = (above + map.h() + below) * row_stride;
        let phase = |row: &Axis, column: &Axis| {
            let taps = [row.taps, column.taps];
            let seen = |axis: &Axis, before: usize| before + axis.seen + 1 - axis.taps;
            let sees = row.taps > 0 && column.taps > 0;
            let turned = ConvGeometry {
                kernel_h: row.taps,
                kernel_w: column.taps,
                stride: 1,
                in_channels: map.c(),
                out_channels: input.c(),
                in_row_stride: row_stride,
                in_pixel_stride: map.c(),
                out_h: row.count,
                out_w: column.count,
                pool: 1,
                out_row_stride: stride * input.w() * input.c(),
                out_pixel_stride: stride * input.c(),
            };
            let geometry = (sees && row.count > 0 && column.count > 0).then_some(turned);
            let from = geometry.map_or(0, |_| {
                seen(row, above) * row_stride + seen(column, left) * map.c()
            });
            let part = WeightShape {
                kernel_h: row.taps,
                kernel_w: column.taps,
                ..shape
            };
            let gathered = vec![0.0; if stride > 1 { part.len() } else { 0 }];
            let zeros = [row, column].map(|axis| axis.taps.saturating_sub(axis.seen + 1));
            let cut = [row, column].map(|axis| (axis.seen + 1).saturating_sub(axis.taps));
            Phase {
                geometry,
                first: [row.first, column.first],
                taps,
                from,
                to: (row.pixel * input.w() + column.pixel) * input.c(),
                border: if stride == 1 { above } else { 0 },
                zeros,
                size: [
                    map.h().saturating_sub(cut[0]),
                    map.w().saturating_sub(cut[1]),
                ],
                kernel: Kernel::new(isa, &turned, [scratch_len, input.len()]),
                gathered,
            }
        };
        let phases = rows
            .iter()
            .flat_map(|row| columns.iter().map(move |column| phase(row, column)))
            .collect();
        Self {
            phases,
            offset: above * row_stride + left * map.c(),
            row_stride,
            scratch_len,
            input_len: input.len(),
        }
    }

    /// Brings the weights (OHWI) into the phases' orders.
    pub(super) fn pack(&mut self, weights: &[f32], shape: WeightShape, stride: usize) {
        for phase in &mut self.phases {
            if stride == 1 {
                phase.kernel.repack_backward(weights);
                continue;
            }
            let ([top, left], [rows, columns]) = (phase.first, phase.taps);
            let channels = shape.in_channels;
            let mut to = phase.gathered.chunks_exact_mut(channels.max(1));
            for filter in weights.chunks_exact(shape.fan_in().max(1)) {
                for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                    let tap = (top + row * stride) * shape.kernel_w + left + column * stride;
                    let to = to.next().expect("the phase's own shape");
                    to.copy_from_slice(&filter[tap * channels..][..channels]);
                }
            }
            phase.kernel.repack_backward(&phase.gathered);
        }
    }

    /// The gradient of the input from that of the map; pixels that no kernel position sees are left as they are.
    pub(super) fn run(&self, grad_map: &[f32], grad_input: &mut [f32]) {
        for phase in &self.phases {
            let Some(geometry) = &phase.geometry else {
                continue;
            };
            let (from, to) = (&grad_map[phase.from..], &mut grad_input[phase.to..]);
            phase.kernel.run(geometry, phase.border, from, None, to);
        }
    }

    /// The same of several images, each with a scratch of its own.
    pub(super) fn run_images(&self, images: usize, grad_map: &[f32], grad_input: &mut [f32]) {
        for phase in &self.phases {
            let Some(image) = phase.geometry else {
                continue;
            };
            let geometry = ImagesGeometry {
                image,
                images,
                in_image_stride: self.scratch_len,
                out_image_stride: self.input_len,
                border: phase.zeros,
                size: phase.size,
            };
            let (from, to) = (&grad_map[phase.from..], &mut grad_input[phase.to..]);
            phase.kernel.run_images(&geometry, from, None, to);
        }
    }

    /// The same of a pointwise convolution, over so many pixels that lie behind one another.
    pub(super) fn run_pixels(&self, pixels: usize, grad_map: &[f32], grad_input: &mut [f32]) {
        for phase in &self.phases {
            let of_image = phase.geometry.expect("every pixel is seen");
            let (from, to) = (of_image.in_channels, of_image.out_channels);
            let geometry = ConvGeometry::linear(pixels, from, to);
            phase.kernel.run(&geometry, 0, grad_map, None, grad_input);
        }
    }

    /// Whether the input needs a gradient at all.
    pub(super) fn is_needed(&self) -> bool {
        !self.phases.is_empty()
    }

    /// Whether every pixel of the input is seen.
    pub(super) fn is_complete(&self) -> bool {
        self.phases.iter().all(|phase| phase.geometry.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Op, Shape};
    use lowbit_kernels::AlignedBuffer;
    use lowbit_kernels::random;

    /// Every product of a pixel's gradient with a weight, added to the pixel that it came from.
    fn naive(step: &Step, conv: &Conv, weights: &[f32], grad: &[f32]) -> Vec<f64> {
        let ([kernel_h, kernel_w], [top, left, ..]) = (conv.kernel, conv.padding);
        let (input, map) = (step.in_shapes[0], step.main_shape);
        let mut sums = vec![0.0; input.len()];
        for (at, &g) in grad.iter().enumerate() {
            let (y, x, o) = (at / map.c() / map.w(), at / map.c() % map.w(), at % map.c());
            for (kh, kw) in (0..kernel_h).flat_map(|kh| (0..kernel_w).map(move |kw| (kh, kw))) {
                let (row, column) = (y * conv.stride[0] + kh, x * conv.stride[1] + kw);
                let inside = |at: usize, before: usize, size| at >= before && at - before < size;
                if !inside(row, top, input.h()) || !inside(column, left, input.w()) {
                    continue;
                }
                let to = ((row - top) * input.w() + column - left) * input.c();
                let from = ((o * kernel_h + kh) * kernel_w + kw) * input.c();
                for c in 0..input.c() {
                    sums[to + c] += f64::from(g) * f64::from(weights[from + c]);
                }
            }
        }
        sums
    }

    fn check(conv: Conv, [h, w]: [usize; 2], numbers: &mut impl FnMut(usize) -> Vec<f32>) {
        let mut graph = GraphBuilder::new("test", Shape::new(h, w, 3), &["a".into(), "b".into()]);
        let x = graph.conv("conv1", 0, 5, 1, (1, 0), true);
        let x = graph.add("conv2", Op::Conv(conv), &[x]);
        let x = graph.add("flatten", Op::Flatten, &[x]);
        graph.add("fc", Op::linear(2), &[x]);
        let step = graph.finish().unwrap().program().unwrap().steps()[1].clone();
        let (shape, map) = (step.weight_shape().unwrap(), step.main_shape);
        let (weights, grad) = (numbers(shape.len()), numbers(map.len()));
        let expected = naive(&step, &conv, &weights, &grad);
        for isa in Isa::available() {
            let mut backward = Backward::new(&step, &conv, isa);
            backward.pack(&weights, shape, conv.stride[0]);
            let mut scratch = AlignedBuffer::<f32>::zeroed(backward.scratch_len);
            for (y, row) in grad.chunks_exact(map.w() * map.c()).enumerate() {
                let start = backward.offset + y * backward.row_stride;
                scratch[start..][..row.len()].copy_from_slice(row);
            }
            let mut found = AlignedBuffer::<f32>::zeroed(step.in_shapes[0].len());
            backward.run(scratch.with_slack(), &mut found);
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(
                    error < 1e-4,
                    "{conv:?} on {h}×{w}, {isa}: {found} for {expected}"
                );
            }
            // Two images at once are each of them.
            let mut both = AlignedBuffer::<f32>::zeroed(2 * backward.scratch_len);
            let images = both.chunks_exact_mut(backward.scratch_len);
            images.for_each(|image| image.copy_from_slice(&scratch));
            let mut of_both = AlignedBuffer::<f32>::zeroed(2 * found.len());
            backward.run_images(2, both.with_slack(), &mut of_both);
            for of_image in of_both.chunks_exact(found.len()) {
                assert_eq!(of_image, &found[..], "{conv:?} on {h}×{w}, {isa}");
            }
        }
    }

    #[test]
    fn phases_of_any_stride_sum_to_the_gradient_of_the_input() {
        let mut rng = random::stream(1, "test", 0);
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| random::uniform(&mut rng) - 0.5)
                .collect()
        };
        let square = |kernel, stride, padding| match Op::conv(4, kernel, stride, padding) {
            Op::Conv(conv) => Conv { bias: true, ..conv },
            _ => unreachable!("it is one"),
        };
        for size in [[7, 5], [8, 11], [5, 6]] {
            for kernel in 1..=5 {
                for (stride, padding) in (1..=3).flat_map(|s| (0..kernel).map(move |p| (s, p))) {
                    check(square(kernel, stride, padding), size, &mut numbers);
                }
            }
            for (kernel, padding) in [
                ([1, 3], [0, 2, 0, 1]),
                ([4, 2], [3, 0, 1, 1]),
                ([2, 5], [1, 1, 0, 4]),
            ] {
                for stride in 1..=3 {
                    let conv = Conv {
                        kernel,
                        padding,
                        ..square(1, stride, 0)
                    };
                    check(conv, size, &mut numbers);
                }
            }
        }
    }
}
