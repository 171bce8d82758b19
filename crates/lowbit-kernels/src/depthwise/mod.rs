//! Depthwise convolutions: every channel has a filter of its own, and sees nothing of the others.
//!
//! There is no matrix product to be had: a vector holds neighboring channels of one pixel, as they lie in memory, and is
//! multiplied with the same channels' weights of one tap. Bits are those of the general convolution: in f32 fused
//! multiply-adds in the order of the taps, in integers exact sums and the rounding rule of [`Requantize`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod gradient;
mod pack;
#[cfg(target_arch = "x86_64")]
mod quads;
mod reference;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile;

#[cfg(target_arch = "x86_64")]
use crate::Level;
pub use crate::conv_f32::Epilogue;
pub use crate::epilogue::{Dequantize, Requantize};
use crate::geometry::SLACK;
pub use gradient::{PaddedImage, grad_input, grad_weights};
pub use pack::{FloatWeights, IntegerWeights};
use std::ops::Range;

/// One depthwise convolution over one image, without padding: a view into a buffer that holds its halo. All strides are in
/// elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseGeometry {
    /// Channels of input and result.
    pub channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// From the row and the column of one output pixel to the next, in input pixels.
    pub stride: [usize; 2],
    /// From one row and column of the kernel to the next, in input pixels.
    pub dilation: [usize; 2],
    /// From one input row to the next.
    pub in_row_stride: usize,
    /// From one input pixel to the next; at least `channels`.
    pub in_pixel_stride: usize,
    /// From one row of the result to the next.
    pub out_row_stride: usize,
    /// From one pixel of the result to the next; at least `channels`.
    pub out_pixel_stride: usize,
}

impl DepthwiseGeometry {
    /// Elements of the input from the first one that the first pixel sees to the last one that some pixel of the first `rows`
    /// rows and `columns` columns needs; `usize::MAX` where that is more than can be counted.
    #[must_use]
    pub fn input_extent(&self, rows: usize, columns: usize) -> usize {
        if rows == 0 || columns == 0 {
            return 0;
        }
        let last = |axis: usize, out: usize, step: usize| {
            let first = (out - 1).saturating_mul(self.stride[axis]);
            let tap = (self.kernel[axis].saturating_sub(1)).saturating_mul(self.dilation[axis]);
            first.saturating_add(tap).saturating_mul(step)
        };
        last(0, rows, self.in_row_stride)
            .saturating_add(last(1, columns, self.in_pixel_stride))
            .saturating_add(self.channels)
    }

    /// Elements of the result from the first to the last one of so many rows and columns; `usize::MAX` where that is more
    /// than can be counted.
    #[must_use]
    pub fn output_extent(&self, rows: usize, columns: usize) -> usize {
        if rows == 0 || columns == 0 {
            return 0;
        }
        (rows - 1)
            .saturating_mul(self.out_row_stride)
            .saturating_add((columns - 1).saturating_mul(self.out_pixel_stride))
            .saturating_add(self.channels)
    }

    /// Asserts that geometry, weights and slices fit together; what passes here is memory-safe to compute.
    ///
    /// # Panics
    /// If they do not, saying what does not hold.
    fn check(
        &self,
        (channels, kernel): (usize, [usize; 2]),
        [rows, columns]: [&Range<usize>; 2],
        [input_len, out_len]: [usize; 2],
    ) {
        assert!(
            channels == self.channels && kernel == self.kernel,
            "the weights must fit the geometry"
        );
        assert!(
            channels > 0 && !kernel.contains(&0),
            "a kernel has taps and channels"
        );
        assert!(
            self.in_pixel_stride >= channels && self.out_pixel_stride >= channels,
            "pixels must not overlap"
        );
        assert!(
            rows.start <= rows.end && columns.start <= columns.end,
            "ranges must not be reversed"
        );
        let needed = self.input_extent(rows.end, columns.end);
        assert!(
            needed.saturating_add(SLACK) <= input_len,
            "the input must hold its extent and the slack"
        );
        assert!(
            self.output_extent(rows.len(), columns.len()) <= out_len,
            "the output must hold all pixels"
        );
    }

    /// The offset of each tap from the first one, in the order of the weights.
    fn taps(&self) -> impl Iterator<Item = usize> + use<> {
        let Self {
            kernel: [rows, columns],
            dilation: [down, right],
            in_row_stride,
            in_pixel_stride,
            ..
        } = *self;
        let taps = (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)));
        taps.map(move |(row, column)| row * down * in_row_stride + column * right * in_pixel_stride)
    }

    /// Where the taps of an output pixel begin.
    fn origin(&self, row: usize, column: usize) -> usize {
        row * self.stride[0] * self.in_row_stride + column * self.stride[1] * self.in_pixel_stride
    }
}

/// Convolves a rectangle of one image; its first pixel goes to `out[0]`.
///
/// `input` starts at the first element that the image's first output pixel sees, and holds [`SLACK`] elements behind the last
/// one that is needed (their values do not matter, unless they are NaN or infinite: then only lanes that are thrown away see
/// them).
///
/// # Panics
/// If the geometry, the weights, the bias and the slices do not fit together.
pub fn conv_f32(
    weights: &FloatWeights,
    geometry: &DepthwiseGeometry,
    [rows, columns]: [Range<usize>; 2],
    input: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let lens = [input.len(), out.len()];
    geometry.check(weights.extents(), [&rows, &columns], lens);
    let has_biases = |bias: &[f32]| bias.len() >= geometry.channels;
    assert!(epilogue.bias.is_none_or(has_biases), "a bias per channel");
    match weights.isa.level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value proves that its features are there; the assertions bound every access.
        Level::Avx512 | Level::Amx => unsafe {
            tile::depthwise_f32_avx512(weights, geometry, [rows, columns], input, epilogue, out);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 | Level::AvxVnni => unsafe {
            tile::depthwise_f32_avx2(weights, geometry, [rows, columns], input, epilogue, out);
        },
        _ => reference::conv_f32(weights, geometry, [rows, columns], input, epilogue, out),
    }
}

/// Convolves a rectangle of one image of u8 and stores u8; otherwise as [`conv_f32`].
///
/// # Panics
/// If the geometry, the weights, the constants and the slices do not fit together.
pub fn conv_u8(
    weights: &IntegerWeights,
    geometry: &DepthwiseGeometry,
    [rows, columns]: [Range<usize>; 2],
    input: &[u8],
    requantize: &Requantize<'_>,
    out: &mut [u8],
) {
    let lens = [input.len(), out.len()];
    geometry.check(weights.extents(), [&rows, &columns], lens);
    requantize.check(geometry.channels);
    #[cfg(target_arch = "x86_64")]
    if let Some(conv) = weights.avx512(geometry) {
        // SAFETY: the assertions bound every access.
        unsafe { conv.to_u8([rows, columns], input, requantize, out) };
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if weights.isa.avx2().is_some() {
        // SAFETY: the proof, and the assertions bound every access.
        unsafe { avx2::conv_u8(weights, geometry, [rows, columns], input, requantize, out) };
        return;
    }
    let offset = requantize.acc_offset;
    let store = |acc, c| requantize.apply(acc, c);
    reference::conv_u8(
        weights,
        geometry,
        [rows, columns],
        (input, offset),
        out,
        store,
    );
}

/// Convolves a rectangle of one image of u8 and stores f32; otherwise as [`conv_f32`].
///
/// # Panics
/// If the geometry, the weights, the constants and the slices do not fit together.
pub fn conv_u8_f32(
    weights: &IntegerWeights,
    geometry: &DepthwiseGeometry,
    [rows, columns]: [Range<usize>; 2],
    input: &[u8],
    dequantize: &Dequantize<'_>,
    out: &mut [f32],
) {
    let lens = [input.len(), out.len()];
    geometry.check(weights.extents(), [&rows, &columns], lens);
    dequantize.check(geometry.channels);
    #[cfg(target_arch = "x86_64")]
    if let Some(conv) = weights.avx512(geometry) {
        // SAFETY: the assertions bound every access.
        unsafe { conv.to_f32([rows, columns], input, dequantize, out) };
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if weights.isa.avx2().is_some() {
        // SAFETY: the proof, and the assertions bound every access.
        unsafe { avx2::conv_f32(weights, geometry, [rows, columns], input, dequantize, out) };
        return;
    }
    let offset = dequantize.acc_offset;
    let store = |acc, c| dequantize.apply(acc, c);
    reference::conv_u8(
        weights,
        geometry,
        [rows, columns],
        (input, offset),
        out,
        store,
    );
}

/// Where each channel's sum begins, what it is multiplied with, and what is added then.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct ChannelConstants<'a> {
    start: &'a [i32],
    multiplier: &'a [f32],
    bias: &'a [f32],
}

#[cfg(target_arch = "x86_64")]
impl<'a> From<&Requantize<'a>> for ChannelConstants<'a> {
    fn from(of: &Requantize<'a>) -> Self {
        Self {
            start: of.acc_offset,
            multiplier: of.multiplier,
            bias: of.bias,
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl<'a> From<&Dequantize<'a>> for ChannelConstants<'a> {
    fn from(of: &Dequantize<'a>) -> Self {
        Self {
            start: of.acc_offset,
            multiplier: of.multiplier,
            bias: of.bias,
        }
    }
}

/// Cuts rows into parts of a multiple of `together` whose input is no more than some bytes.
#[cfg(target_arch = "x86_64")]
fn rows_at_a_time(
    g: &DepthwiseGeometry,
    rows: Range<usize>,
    (input, together): (usize, usize),
) -> impl Iterator<Item = Range<usize>> {
    let fitting = input / g.in_row_stride.max(1);
    let seen = g.kernel[0].saturating_mul(g.dilation[0]);
    let count = fitting.saturating_sub(seen) / g.stride[0].max(1);
    let count = (count / together).max(1) * together;
    let end = rows.end;
    rows.step_by(count)
        .map(move |first| first..end.min(first + count))
}
