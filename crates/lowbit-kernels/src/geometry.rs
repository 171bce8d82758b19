//! The shape of one convolution, as kernels see it.

use std::ops::Range;

/// One convolution over one image, channels-last, without padding: an input that needs padding is a view into a buffer
/// that already holds its halo (zeros in f32, the zero point in u8).
///
/// A linear layer over a batch is the same thing: `kernel_h = kernel_w = 1`, `out_h = 1`, `out_w = batch`,
/// `in_channels = in_pixel_stride = in_features`. A group of a grouped convolution is a view as well:
/// `in_pixel_stride > in_channels`, starting at the group's first channel.
///
/// All strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Rows of the kernel.
    pub kernel_h: usize,
    /// Columns of the kernel.
    pub kernel_w: usize,
    /// Step between output pixels in both directions, in input pixels.
    pub stride: usize,
    /// Channels read from each input pixel.
    pub in_channels: usize,
    /// Channels written to each output pixel.
    pub out_channels: usize,
    /// From one input row to the next.
    pub in_row_stride: usize,
    /// From one input pixel to the next; at least `in_channels`.
    pub in_pixel_stride: usize,
    /// Rows of the convolution's result, before pooling.
    pub out_h: usize,
    /// Columns of the convolution's result, before pooling.
    pub out_w: usize,
    /// Fused max-pooling: 1 for none, 2 for 2×2 with stride 2 (an odd last row or column is dropped).
    pub pool: usize,
    /// From one stored (pooled) row to the next.
    pub out_row_stride: usize,
    /// From one stored pixel to the next; at least `out_channels`.
    pub out_pixel_stride: usize,
}

/// Elements that a kernel may read past the last element it needs; buffers allocate this much more.
pub const SLACK: usize = 64;

impl ConvGeometry {
    /// A dense convolution of an `[in_h, in_w, in_channels]` view (halo included) into a dense result.
    ///
    /// # Panics
    /// If the kernel does not fit into the input.
    #[must_use]
    pub fn dense(
        (in_h, in_w, in_channels): (usize, usize, usize),
        out_channels: usize,
        (kernel_h, kernel_w): (usize, usize),
        stride: usize,
        pool: usize,
    ) -> Self {
        assert!(
            kernel_h <= in_h && kernel_w <= in_w && stride > 0,
            "the kernel must fit into the input"
        );
        let out_h = (in_h - kernel_h) / stride + 1;
        let out_w = (in_w - kernel_w) / stride + 1;
        Self {
            kernel_h,
            kernel_w,
            stride,
            in_channels,
            out_channels,
            in_row_stride: in_w * in_channels,
            in_pixel_stride: in_channels,
            out_h,
            out_w,
            pool,
            out_row_stride: out_w / pool * out_channels,
            out_pixel_stride: out_channels,
        }
    }

    /// A linear layer over `batch` rows.
    #[must_use]
    pub fn linear(batch: usize, in_features: usize, out_features: usize) -> Self {
        Self {
            kernel_h: 1,
            kernel_w: 1,
            stride: 1,
            in_channels: in_features,
            out_channels: out_features,
            in_row_stride: batch * in_features,
            in_pixel_stride: in_features,
            out_h: 1,
            out_w: batch,
            pool: 1,
            out_row_stride: batch * out_features,
            out_pixel_stride: out_features,
        }
    }

    /// Rows stored, after pooling.
    #[must_use]
    pub fn pooled_h(&self) -> usize {
        self.out_h / self.pool
    }

    /// Columns stored, after pooling.
    #[must_use]
    pub fn pooled_w(&self) -> usize {
        self.out_w / self.pool
    }

    /// Elements of the input view that the result depends on, from the view's first element to the last one needed;
    /// `usize::MAX` where that is more than can be counted.
    #[must_use]
    pub fn input_extent(&self) -> usize {
        if self.out_h == 0 || self.out_w == 0 {
            return 0;
        }
        let last = |out: usize, kernel: usize, step: usize| {
            let pixel = (out - 1).saturating_mul(self.stride);
            let pixel = pixel.saturating_add(kernel.saturating_sub(1));
            pixel.saturating_mul(step)
        };
        last(self.out_h, self.kernel_h, self.in_row_stride)
            .saturating_add(last(self.out_w, self.kernel_w, self.in_pixel_stride))
            .saturating_add(self.in_channels)
    }

    /// Elements of the output view from the first to the last one written when `rows` stored rows are computed;
    /// `usize::MAX` where that is more than can be counted.
    #[must_use]
    pub fn output_extent(&self, rows: usize) -> usize {
        if rows == 0 || self.pooled_w() == 0 {
            return 0;
        }
        let last_row = (rows - 1).saturating_mul(self.out_row_stride);
        let last_pixel = (self.pooled_w() - 1).saturating_mul(self.out_pixel_stride);
        last_row
            .saturating_add(last_pixel)
            .saturating_add(self.out_channels)
    }

    /// Asserts that geometry, weights and slices fit together; what passes here is memory-safe to compute.
    ///
    /// # Panics
    /// If they do not, saying what does not hold.
    pub(crate) fn check(
        &self,
        shape: &WeightShape,
        rows: &Range<usize>,
        input_len: usize,
        out_len: usize,
    ) {
        assert_eq!(
            *shape,
            self.weight_shape(),
            "the weights must fit the geometry"
        );
        assert!(matches!(self.pool, 1 | 2), "pooling is by 1 or 2");
        assert!(self.stride > 0, "the stride must not be zero");
        assert!(
            self.in_pixel_stride >= self.in_channels,
            "input pixels must not overlap"
        );
        assert!(
            self.out_pixel_stride >= self.out_channels,
            "output pixels must not overlap"
        );
        assert!(
            rows.start <= rows.end && rows.end <= self.pooled_h(),
            "the rows must lie in the result"
        );
        self.check_sizes();
        if self.out_h > 0 && self.out_w > 0 {
            assert!(
                input_len >= self.input_extent().saturating_add(SLACK),
                "the input must hold its extent and the slack"
            );
        }
        assert!(
            out_len >= self.output_extent(rows.len()),
            "the output must hold its extent"
        );
    }

    /// Asserts that no size is so large that arithmetic with it could overflow where its extent does not.
    fn check_sizes(&self) {
        // Sixteenfold, for bytes of an element and rows of a pooling window.
        let fits = |sizes: [usize; 2]| {
            let product = sizes.into_iter().try_fold(16usize, usize::checked_mul);
            product.is_some()
        };
        let products = [
            [self.out_h, self.stride],
            [self.out_w, self.stride],
            [self.stride, self.in_row_stride],
            [self.stride, self.in_pixel_stride],
            [self.kernel_h, self.in_row_stride],
            [self.kernel_w, self.in_pixel_stride],
            [self.kernel_h, self.kernel_w],
            [self.out_row_stride, 1],
            [self.out_pixel_stride, 1],
        ];
        assert!(
            products.into_iter().all(fits),
            "a size of the geometry is absurd"
        );
    }

    /// The shape of the weights that it takes.
    #[must_use]
    pub fn weight_shape(&self) -> WeightShape {
        WeightShape {
            out_channels: self.out_channels,
            kernel_h: self.kernel_h,
            kernel_w: self.kernel_w,
            in_channels: self.in_channels,
        }
    }

    /// Multiply-accumulates of the convolution (before pooling; what the layer is defined to do, whatever is skipped), as
    /// far as can be counted.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let sizes = [
            self.out_h,
            self.out_w,
            self.out_channels,
            self.kernel_h,
            self.kernel_w,
            self.in_channels,
        ];
        product(sizes) as u64
    }
}

/// The shape of a weight tensor in OHWI order: `[out_channels, kernel_h, kernel_w, in_channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightShape {
    /// Output channels (features of a linear layer).
    pub out_channels: usize,
    /// Kernel rows.
    pub kernel_h: usize,
    /// Kernel columns.
    pub kernel_w: usize,
    /// Input channels (features of a linear layer).
    pub in_channels: usize,
}

impl WeightShape {
    /// A linear layer's weights, `[out_features, in_features]`.
    #[must_use]
    pub fn linear(out_features: usize, in_features: usize) -> Self {
        Self {
            out_channels: out_features,
            kernel_h: 1,
            kernel_w: 1,
            in_channels: in_features,
        }
    }

    /// Elements per output channel; `usize::MAX` where that is more than can be counted.
    #[must_use]
    pub fn fan_in(&self) -> usize {
        product([self.kernel_h, self.kernel_w, self.in_channels])
    }

    /// Elements in all; `usize::MAX`, which no slice holds, where that is more than can be counted.
    #[must_use]
    pub fn len(&self) -> usize {
        let Self {
            out_channels,
            kernel_h,
            kernel_w,
            in_channels,
        } = *self;
        product([out_channels, kernel_h, kernel_w, in_channels])
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Cuts `len` into parts of nearly equal length, none longer than `longest`.
#[inline]
pub(crate) fn even_parts(len: usize, longest: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    even_starts(len, longest).map(|(start, len)| start..start + len)
}

/// The parts of [`even_parts`] as `(start, length)`, for loops where the length of a range, which may be empty the wrong way
/// round, costs too much.
#[inline(always)]
pub(crate) fn even_starts(
    len: usize,
    longest: usize,
) -> impl Iterator<Item = (usize, usize)> + Clone {
    let count = len.div_ceil(longest).max(1);
    let (base, longer) = (len / count, len % count);
    let count = if len == 0 { 0 } else { count };
    (0..count).map(move |part| {
        let start = part * base + part.min(longer);
        (start, base + usize::from(part < longer))
    })
}

/// Whether arithmetic with a stride, in bytes, cannot overflow where its extent does not.
pub(crate) fn is_countable(stride: usize) -> bool {
    stride.checked_mul(16).is_some()
}

/// The product of some sizes: `usize::MAX` where it is more than can be counted, zero where one of them is.
fn product<const N: usize>(sizes: [usize; N]) -> usize {
    if sizes.contains(&0) {
        return 0;
    }
    sizes.into_iter().fold(1, usize::saturating_mul)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_with_more_weights_than_can_be_counted_has_none_of_a_small_slice() {
        // 2³² · 2³² wraps to zero: an empty slice must not pass for so many weights.
        let shape = WeightShape {
            out_channels: 1,
            kernel_h: 1 << (usize::BITS / 2),
            kernel_w: 1 << (usize::BITS / 2),
            in_channels: 1,
        };
        assert_eq!((shape.fan_in(), shape.len()), (usize::MAX, usize::MAX));
        let none = WeightShape {
            in_channels: 0,
            ..shape
        };
        assert_eq!((none.fan_in(), none.len()), (0, 0));
        assert!(none.is_empty());
    }

    #[test]
    fn parts_cover_a_length_and_are_nearly_equal() {
        for len in 0..100 {
            for longest in 1..15 {
                let all: Vec<_> = even_parts(len, longest).collect();
                let mut next = 0;
                for part in &all {
                    assert_eq!(part.start, next);
                    assert!(!part.is_empty() && part.len() <= longest);
                    next = part.end;
                }
                assert_eq!(next, len);
                assert_eq!(all.len(), len.div_ceil(longest));
            }
        }
    }

    /// A geometry that fits its slices, and a change that makes it absurd.
    fn refused(change: impl Fn(&mut ConvGeometry, &mut WeightShape, &mut Range<usize>)) -> String {
        let mut g = ConvGeometry::dense((6, 6, 4), 8, (3, 3), 1, 1);
        let (mut shape, mut rows) = (g.weight_shape(), 0..4);
        let (input, out) = (g.input_extent() + SLACK, g.output_extent(4));
        g.check(&shape, &rows, input, out);
        change(&mut g, &mut shape, &mut rows);
        let checked = std::panic::catch_unwind(|| g.check(&shape, &rows, input, out));
        let payload = checked.expect_err("must be refused");
        let formatted = payload.downcast_ref::<String>().cloned();
        formatted.unwrap_or_else(|| payload.downcast_ref::<&str>().expect("text").to_string())
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let says =
            |text: &str,
             change: &dyn Fn(&mut ConvGeometry, &mut WeightShape, &mut Range<usize>)| {
                let said = refused(change);
                assert!(said.contains(text), "{said:?}");
            };
        says("weights must fit", &|_, shape, _| shape.kernel_w = 2);
        says("pooling is by", &|g, _, rows| (g.pool, *rows) = (3, 0..1));
        says("the stride", &|g, _, _| g.stride = 0);
        says("input pixels", &|g, _, _| g.in_pixel_stride = 3);
        says("output pixels", &|g, _, _| g.out_pixel_stride = 7);
        says("rows must lie", &|_, _, rows| *rows = 2..5);
        says("rows must lie", &|_, _, rows| {
            (rows.start, rows.end) = (3, 2)
        });
        says("the input must hold", &|g, _, _| g.in_row_stride += 1);
        says("the input must hold", &|g, _, _| g.stride = 2);
        says("the output must hold", &|g, _, _| g.out_row_stride += 1);
        says("absurd", &|g, _, _| g.out_row_stride = usize::MAX);
        // A row stride of zero hides any height from the extent.
        says("absurd", &|g, _, rows| {
            (g.in_row_stride, g.out_h, *rows) = (0, usize::MAX, 0..4);
        });
    }
}
