//! How values lie in memory: the only place that knows strides, halos and where a kernel's view begins.

use crate::ops::Conv;
use crate::shape::Shape;
use lowbit_kernels::ConvGeometry;
use lowbit_kernels::depthwise::DepthwiseGeometry;
use std::ops::Range;

/// Layout of one value: `[images, top + h + bottom, left + w + right, c]`, the halo holding whatever stands for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    /// Pixels above, left of, below and right of the image.
    pub(crate) halo: [usize; 4],
    /// Elements from one row to the next.
    pub(crate) row_stride: usize,
    /// Elements from one image to the next.
    pub(crate) image_len: usize,
}

impl Layout {
    pub(crate) fn new(shape: Shape, halo: [usize; 4]) -> Self {
        let (h, w, c) = (shape.h(), shape.w(), shape.c());
        let [top, left, bottom, right] = halo;
        let row_stride = (left + w + right) * c;
        Self {
            h,
            w,
            c,
            halo,
            row_stride,
            image_len: (top + h + bottom) * row_stride,
        }
    }

    /// Offset of the image's first pixel.
    pub(crate) fn first(&self) -> usize {
        self.border(0, 0)
    }

    /// Offset of the pixel `top` rows above and `left` columns left of the image's first pixel.
    pub(crate) fn border(&self, top: usize, left: usize) -> usize {
        (self.halo[0] - top) * self.row_stride + (self.halo[1] - left) * self.c
    }

    /// Offset of a pixel, counted in row order without the halo, from the image's first pixel.
    pub(crate) fn pixel(&self, number: usize) -> usize {
        number / self.w * self.row_stride + number % self.w * self.c
    }

    /// Where row `y` of image `image` lies.
    pub(crate) fn row(&self, image: usize, y: usize) -> Range<usize> {
        let start = image * self.image_len + self.first() + y * self.row_stride;
        start..start + self.row_len()
    }

    /// Elements of a row without halo.
    pub(crate) fn row_len(&self) -> usize {
        self.w * self.c
    }

    /// The places of one image's elements here and in another layout of as many: where they begin, and how many follow each other
    /// in both. Places count from the image's first pixel.
    pub(crate) fn runs(&self, to: &Self) -> impl Iterator<Item = ([usize; 2], usize)> + use<> {
        let (from, to) = (*self, *to);
        let mut done = 0;
        std::iter::from_fn(move || {
            let rest = |layout: &Self| layout.row_len() - done % layout.row_len();
            let place = |layout: &Self| {
                done / layout.row_len() * layout.row_stride + done % layout.row_len()
            };
            let len = rest(&from).min(rest(&to));
            let places = [place(&from), place(&to)];
            let is_left = done < from.dense_len();
            done += len;
            is_left.then_some((places, len))
        })
    }

    /// Elements of one image without halo.
    pub(crate) fn dense_len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Whether it has no halo.
    pub(crate) fn is_dense(&self) -> bool {
        self.halo == [0; 4]
    }
}

/// A convolution between two layouts, as calls of kernels that know one stride, no holes and no groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvView {
    /// The whole convolution where it is plain, else what all calls share.
    geometry: ConvGeometry,
    /// Whether a call may take several rows: one step leads both ways, and taps are neighbors.
    is_even: bool,
    /// Where each channel has a filter of its own.
    depthwise: Option<DepthwiseGeometry>,
    stride: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
    /// Rows above and columns left of the image that the first pixel sees.
    padding: [usize; 2],
    /// Of the first element that the first output pixel sees.
    first: usize,
}

/// One call of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct ConvCall {
    pub(crate) group: usize,
    pub(crate) geometry: ConvGeometry,
    pub(crate) rows: Range<usize>,
    /// Where the view begins in the input's image, and the result behind the rectangle's first element.
    pub(crate) input: usize,
    pub(crate) output: usize,
}

impl ConvCall {
    /// The same, of an input that ends behind the rows that it sees; without a pool.
    pub(crate) fn of_some_rows(mut self) -> Self {
        self.geometry.out_h = self.rows.end;
        self
    }
}

impl ConvView {
    pub(crate) fn new(
        conv: &Conv,
        main_shape: Shape,
        max_pool: bool,
        input: &Layout,
        output: &Layout,
    ) -> Self {
        let [top, left, ..] = conv.padding;
        let geometry = ConvGeometry {
            kernel_h: conv.kernel[0],
            kernel_w: conv.kernel[1],
            stride: conv.stride[1],
            in_channels: input.c / conv.groups,
            out_channels: output.c / conv.groups,
            in_row_stride: conv.dilation[0] * input.row_stride,
            in_pixel_stride: conv.dilation[1] * input.c,
            out_h: main_shape.h(),
            out_w: main_shape.w(),
            pool: if max_pool { 2 } else { 1 },
            out_row_stride: output.row_stride,
            out_pixel_stride: output.c,
        };
        Self {
            geometry,
            is_even: conv.stride[0] == conv.stride[1] && conv.dilation == [1, 1],
            depthwise: conv.is_depthwise(input.c).then_some(DepthwiseGeometry {
                channels: input.c,
                kernel: conv.kernel,
                stride: conv.stride,
                dilation: conv.dilation,
                in_row_stride: input.row_stride,
                in_pixel_stride: input.c,
                out_row_stride: output.row_stride,
                out_pixel_stride: output.c,
            }),
            stride: conv.stride,
            dilation: conv.dilation,
            groups: conv.groups,
            padding: [top, left],
            first: input.border(top, left),
        }
    }

    /// The geometry of a group, and how many there are, where one step leads both ways and taps are neighbors.
    pub(crate) fn even_groups(&self) -> Option<(ConvGeometry, usize)> {
        self.is_even.then_some((self.geometry, self.groups))
    }

    /// The geometry of a depthwise convolution, and where its view begins in the input's image.
    pub(crate) fn depthwise(&self) -> Option<(DepthwiseGeometry, usize)> {
        Some((self.depthwise?, self.first))
    }

    /// Whether all channels of the result are one product, and nothing is pooled.
    pub(crate) fn is_single(&self) -> bool {
        self.groups == 1 && self.geometry.pool == 1
    }

    /// Rows above and columns left of the image that the first pixel sees.
    pub(crate) fn padding(&self) -> [usize; 2] {
        self.padding
    }

    /// Where the taps of the first pixel begin in the input's image.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// Whether each pixel of the result is a product of the same pixel of the input, and of nothing else.
    pub(crate) fn is_pointwise(&self) -> bool {
        let g = &self.geometry;
        let kernel = [g.kernel_h, g.kernel_w];
        kernel == [1, 1] && self.stride == [1, 1] && self.is_single()
    }

    /// Calls that compute a rectangle of the (pooled) result.
    pub(crate) fn calls(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        mut each: impl FnMut(ConvCall),
    ) {
        let g = &self.geometry;
        if self.is_even {
            let out_w = match columns.len() == g.pooled_w() {
                true => g.out_w,
                false => columns.len() * g.pool,
            };
            let step = g.pool * g.stride * g.in_pixel_stride;
            for group in 0..self.groups {
                each(ConvCall {
                    group,
                    geometry: ConvGeometry { out_w, ..*g },
                    rows: rows.clone(),
                    input: self.first + columns.start * step + group * g.in_channels,
                    output: group * g.out_channels,
                });
            }
            return;
        }
        // Every `period`-th output of a row sees taps that lie a whole number of dilated pixels further on.
        let common = gcd(self.stride[1], self.dilation[1]);
        let (period, stride) = (self.dilation[1] / common, self.stride[1] / common);
        let channels = g.in_pixel_stride / self.dilation[1];
        let row_stride = g.in_row_stride / self.dilation[0];
        for group in 0..self.groups {
            for y in rows.clone() {
                for x in columns.clone().take(period) {
                    each(ConvCall {
                        group,
                        geometry: ConvGeometry {
                            stride,
                            out_h: 1,
                            out_w: (columns.end - x).div_ceil(period),
                            out_pixel_stride: period * g.out_pixel_stride,
                            ..*g
                        },
                        rows: 0..1,
                        input: self.first
                            + y * self.stride[0] * row_stride
                            + x * self.stride[1] * channels
                            + group * g.in_channels,
                        output: (y - rows.start) * g.out_row_stride
                            + (x - columns.start) * g.out_pixel_stride
                            + group * g.out_channels,
                    });
                }
            }
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Geometry of a linear layer over `images` vectors.
pub(crate) fn linear_geometry(input: &Layout, output: &Layout, images: usize) -> ConvGeometry {
    ConvGeometry {
        in_pixel_stride: input.image_len,
        out_pixel_stride: output.image_len,
        ..ConvGeometry::linear(images, input.dense_len(), output.c)
    }
}

/// The halo that readers with these paddings want.
pub(crate) fn halo(readers: impl Iterator<Item = [usize; 4]>) -> [usize; 4] {
    readers.fold([0; 4], |halo, padding| {
        std::array::from_fn(|side| halo[side].max(padding[side]))
    })
}

/// The windows of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Above, left, below, right.
    pub(crate) padding: [usize; 4],
}

impl Window {
    /// Calls `each(result's offset, the offsets of the pixels in its window)` for every pixel of the result, offsets
    /// counting from the first pixel of the image. Pixels beyond the image are none.
    pub(crate) fn each(
        &self,
        input: &Layout,
        output: &Layout,
        mut each: impl FnMut(usize, &[usize]),
    ) {
        let [top, left, ..] = self.padding;
        let range = |at: usize, axis: usize, before: usize, size: usize| {
            let start = at * self.stride[axis];
            let end = (start + self.kernel[axis]).saturating_sub(before).min(size);
            start.saturating_sub(before)..end
        };
        let mut pixels = Vec::with_capacity(self.kernel[0] * self.kernel[1]);
        for (y, x) in (0..output.h).flat_map(|y| (0..output.w).map(move |x| (y, x))) {
            pixels.clear();
            for row in range(y, 0, top, input.h) {
                let columns = range(x, 1, left, input.w);
                pixels.extend(columns.map(|column| row * input.row_stride + column * input.c));
            }
            each(y * output.row_stride + x * output.c, &pixels);
        }
    }
}
