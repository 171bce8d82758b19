//! The shape of one convolution over several images whose maps have few pixels.
//!
//! A tile then holds the same pixel of neighboring images, not neighboring pixels of one: it is full however short a row is,
//! its weights are read once for all of them, and, since every pixel of the tile lies equally far from the border, what lies
//! in the border is left out altogether. Of a 3×3 kernel on a map of 4×4 that is 44 of 144 products, on one of 2×2 20 of 36.

use crate::geometry::{ConvGeometry, WeightShape, is_countable};
use std::ops::Range;

/// A convolution over several images at once, without pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagesGeometry {
    /// The convolution of one image, border included.
    pub image: ConvGeometry,
    /// How many images there are.
    pub images: usize,
    /// From one image's first element to the next one's, in the input.
    pub in_image_stride: usize,
    /// The same in the output.
    pub out_image_stride: usize,
    /// Rows above and columns left of the view that hold padding.
    pub border: [usize; 2],
    /// Rows and columns behind them that hold values; what follows is padding again.
    pub size: [usize; 2],
}

/// What an output pixel sees of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel rows that lie inside the border.
    pub rows: Range<usize>,
    /// Kernel columns that lie inside the border.
    pub columns: Range<usize>,
}

/// One direction: what each output row (or column) sees.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// The different ranges, in the order of their first appearance.
    pub(crate) ranges: Vec<Range<usize>>,
    /// For each output row the range that it has.
    pub(crate) kinds: Vec<usize>,
}

impl Axis {
    fn new(outputs: usize, stride: usize, kernel: usize, inside: Range<usize>) -> Self {
        let (mut ranges, mut kinds) = (Vec::new(), Vec::new());
        for output in 0..outputs {
            let first = output * stride;
            let low = inside.start.saturating_sub(first).min(kernel);
            let high = inside.end.saturating_sub(first).clamp(low, kernel);
            // A pixel that sees nothing is of one kind, wherever it lies.
            let range = if low == high { 0..0 } else { low..high };
            let known = ranges.iter().position(|known| *known == range);
            kinds.push(known.unwrap_or(ranges.len()));
            if known.is_none() {
                ranges.push(range);
            }
        }
        Self { ranges, kinds }
    }

    /// The range of an output row.
    pub(crate) fn of(&self, output: usize) -> &Range<usize> {
        &self.ranges[self.kinds[output]]
    }

    /// The output rows that see a kernel row.
    pub(crate) fn seeing(&self, kernel: usize) -> Range<usize> {
        let sees = |&output: &usize| self.of(output).contains(&kernel);
        let mut outputs = (0..self.kinds.len()).filter(sees);
        let first = outputs.next().unwrap_or(0);
        let count = outputs.count() + usize::from(self.kinds.len() > first && sees(&first));
        first..first + count
    }
}

impl ImagesGeometry {
    /// The different windows of the map's pixels: all that rows see, and for each of them all that columns see.
    #[must_use]
    pub fn windows(&self) -> Vec<Window> {
        let [rows, columns] = self.axes();
        let windows = rows.ranges.iter().flat_map(|rows| {
            columns.ranges.iter().map(move |columns| Window {
                rows: rows.clone(),
                columns: columns.clone(),
            })
        });
        windows.collect()
    }

    /// How many [`ImagesGeometry::windows`] there are.
    #[must_use]
    pub fn window_count(&self) -> usize {
        let [rows, columns] = self.axes().map(|axis| axis.ranges.len());
        rows * columns
    }

    /// Rows and columns of an image's view that hold values.
    fn inside(&self) -> [Range<usize>; 2] {
        let range = |axis: usize| {
            let first = self.border[axis];
            first..first.saturating_add(self.size[axis])
        };
        [range(0), range(1)]
    }

    /// Whether a pixel of an image's view holds a value.
    pub(crate) fn is_inside(&self, [y, x]: [usize; 2]) -> bool {
        let [rows, columns] = self.inside();
        rows.contains(&y) && columns.contains(&x)
    }

    /// Rows and columns.
    pub(crate) fn axes(&self) -> [Axis; 2] {
        let (g, [rows, columns]) = (&self.image, self.inside());
        [
            Axis::new(g.out_h, g.stride, g.kernel_h, rows),
            Axis::new(g.out_w, g.stride, g.kernel_w, columns),
        ]
    }

    /// Elements of the input from the first image's first one to the last that is read; `usize::MAX` where that is more than can
    /// be counted.
    #[must_use]
    pub fn input_extent(&self) -> usize {
        let extent = self.image.input_extent();
        match self.images {
            0 => 0,
            images => ((images - 1).saturating_mul(self.in_image_stride)).saturating_add(extent),
        }
    }

    /// Elements of the output from the first one to the last that is written.
    #[must_use]
    pub fn output_extent(&self) -> usize {
        let extent = self.image.output_extent(self.image.out_h);
        match self.images {
            0 => 0,
            images => ((images - 1).saturating_mul(self.out_image_stride)).saturating_add(extent),
        }
    }

    /// Asserts that geometry, weights and slices fit together; what passes here is memory-safe to compute.
    ///
    /// # Panics
    /// If they do not, saying what does not hold.
    pub(crate) fn check(&self, shape: &WeightShape, input_len: usize, out_len: usize) {
        let g = &self.image;
        assert_eq!(g.pool, 1, "several images are not pooled");
        let strides = [self.in_image_stride, self.out_image_stride];
        assert!(
            strides.into_iter().all(is_countable),
            "a size of the geometry is absurd"
        );
        if self.images > 0 {
            // The last image, behind all others.
            let left = |len: usize, stride: usize| {
                len.saturating_sub((self.images - 1).saturating_mul(stride))
            };
            let (input, out) = (
                left(input_len, self.in_image_stride),
                left(out_len, self.out_image_stride),
            );
            g.check(shape, &(0..g.out_h), input, out);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::geometry::SLACK;
    use crate::random::{below, stream};

    /// Several images of few pixels with random everything, and gaps between rows, pixels and images; input channels are a multiple
    /// of `block`.
    pub(crate) fn odd(number: u64, block: usize) -> ImagesGeometry {
        let mut rng = stream(14, "images", number);
        let mut pick = |low: u32, high: u32| (low + below(&mut rng, high - low + 1)) as usize;
        let (in_c, out_c) = (block * pick(1, 40 / block as u32), pick(1, 67));
        let (kernel, stride) = ((pick(1, 4), pick(1, 4)), pick(1, 3));
        let (in_h, in_w) = (kernel.0 + pick(0, 7), kernel.1 + pick(0, 7));
        let mut image = ConvGeometry::dense((in_h, in_w, in_c), out_c, kernel, stride, 1);
        image.in_row_stride += pick(0, 7);
        image.out_pixel_stride += pick(0, 3);
        image.out_row_stride = image.out_w * image.out_pixel_stride + pick(0, 7);
        let mut inside = |size: usize| {
            let before = pick(0, size.min(3) as u32);
            [before, pick(0, (size - before).min(9) as u32)]
        };
        let ([top, h], [left, w]) = (inside(in_h), inside(in_w));
        ImagesGeometry {
            image,
            images: pick(1, 31),
            in_image_stride: image.input_extent() + pick(0, 9),
            out_image_stride: image.output_extent(image.out_h) + pick(0, 9),
            border: [top, left],
            size: [h, w],
        }
    }

    /// The same with other channels between those of neighboring pixels.
    pub(crate) fn with_gaps(mut g: ImagesGeometry, gap: usize) -> ImagesGeometry {
        let image = &mut g.image;
        image.in_row_stride += gap * (image.in_row_stride / image.in_channels + 1);
        image.in_pixel_stride += gap;
        g.in_image_stride = image.input_extent() + gap;
        g
    }

    /// Where each pixel of a border begins in the input.
    pub(crate) fn border_pixels(g: &ImagesGeometry) -> impl Iterator<Item = usize> {
        let image = g.image;
        let seen = |out: usize, kernel: usize| (out - 1) * image.stride + kernel;
        let (in_h, in_w) = (
            seen(image.out_h, image.kernel_h),
            seen(image.out_w, image.kernel_w),
        );
        let g = *g;
        let pixels = (0..g.images * in_h * in_w)
            .map(move |at| (at / in_w / in_h, [at / in_w % in_h, at % in_w]));
        pixels
            .filter(move |&(_, pixel)| !g.is_inside(pixel))
            .map(move |(number, [y, x])| {
                number * g.in_image_stride + y * image.in_row_stride + x * image.in_pixel_stride
            })
    }

    /// A map of `side`², padded by so many rows and columns all around.
    fn geometry(side: usize, kernel: usize, stride: usize, padding: usize) -> ImagesGeometry {
        let padded = side + 2 * padding;
        let image = ConvGeometry::dense((padded, padded, 2), 3, (kernel, kernel), stride, 1);
        ImagesGeometry {
            image,
            images: 2,
            in_image_stride: image.input_extent(),
            out_image_stride: image.output_extent(image.out_h),
            border: [padding; 2],
            size: [side; 2],
        }
    }

    #[test]
    fn windows_leave_out_what_lies_in_the_border() {
        let window = |rows, columns| Window { rows, columns };
        // Of 2×2 pixels, each sees four taps of 3×3.
        let windows = geometry(2, 3, 1, 1).windows();
        let all = [(1..3, 1..3), (1..3, 0..2), (0..2, 1..3), (0..2, 0..2)];
        assert_eq!(
            windows,
            all.map(|(rows, columns)| window(rows, columns)).to_vec()
        );
        // Nine kinds of pixels, and no more, however large the map.
        assert_eq!(geometry(7, 3, 1, 1).windows().len(), 9);
        // With a stride of two, only the first row and column see the border.
        let windows = geometry(4, 3, 2, 1).windows();
        assert_eq!(windows[0], window(1..3, 1..3));
        assert_eq!(windows.last(), Some(&window(0..3, 0..3)));
        assert_eq!(windows.len(), 4);
        // A border wider than the kernel: its pixels see nothing.
        let axis = &geometry(1, 2, 1, 2).axes()[0];
        let ranges: Vec<_> = (0..4).map(|row| axis.of(row).clone()).collect();
        assert_eq!(ranges, [0..0, 1..2, 0..1, 0..0]);
        assert_eq!(axis.seeing(0), 2..3);
        assert_eq!(axis.seeing(1), 1..2);
    }

    #[test]
    fn output_rows_that_see_a_kernel_row_are_those_whose_window_holds_it() {
        for (side, kernel, stride) in [(4, 3, 1), (5, 3, 2), (8, 5, 3), (3, 1, 1), (6, 4, 2)] {
            for padding in 0..kernel {
                let axis = &geometry(side, kernel, stride, padding).axes()[0];
                for tap in 0..kernel {
                    let seeing: Vec<_> = (0..axis.kinds.len())
                        .filter(|&row| axis.of(row).contains(&tap))
                        .collect();
                    assert_eq!(axis.seeing(tap).collect::<Vec<_>>(), seeing);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "slack")]
    fn an_input_that_ends_within_the_last_image_is_refused() {
        let g = geometry(4, 3, 1, 1);
        let shape = g.image.weight_shape();
        g.check(&shape, g.input_extent() + SLACK - 1, g.output_extent());
    }

    #[test]
    #[should_panic(expected = "the output must hold")]
    fn an_output_that_ends_within_the_last_image_is_refused() {
        let g = geometry(4, 3, 1, 1);
        let shape = g.image.weight_shape();
        g.check(&shape, g.input_extent() + SLACK, g.output_extent() - 1);
    }

    #[test]
    #[should_panic(expected = "absurd")]
    fn a_step_between_images_that_wraps_is_refused() {
        let g = ImagesGeometry {
            in_image_stride: usize::MAX / 2,
            images: 3,
            ..geometry(4, 3, 1, 1)
        };
        g.check(&g.image.weight_shape(), usize::MAX, g.output_extent());
    }
}
