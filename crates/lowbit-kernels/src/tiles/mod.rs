//! What all direct convolutions over u8 activations share: how the result is cut into register tiles, how weights are
//! ordered for them, and the loops around a micro-kernel.
//!
//! There is no im2col buffer. In a channels-last view the taps of one kernel row (`kernel_w · in_channels` bytes) lie
//! side by side, so that each output pixel is a product of `kernel_h` *segments*, each padded with zero weights to a whole
//! number of *steps* (the taps that one instruction multiplies). Where pixels are wider than the channels read from them
//! (a group of a grouped convolution), each kernel position is a segment of its own.
//!
//! A *panel* is the weights of a few vectors of output channels in the order in which a tile reads them:
//! `[segment, step, vector, channel, tap]`.

use crate::{ConvGeometry, WeightShape};
use std::ops::Range;

/// Most i32 values that a tile leaves behind: 14 pixels of 32 channels.
const TILE_LEN: usize = 14 * 32;

/// Most channels of a panel.
pub(crate) const MAX_PANEL: usize = 32;

/// The sums of one tile, `[stored pixel, panel channel]`.
#[repr(C, align(64))]
pub(crate) struct TileSums(pub(crate) [i32; TILE_LEN]);

/// One number per channel of a panel, zero behind the last channel.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct PerChannel<T>(pub(crate) [T; MAX_PANEL]);

impl<T: Copy + Default> PerChannel<T> {
    pub(crate) fn of(values: &[T], channels: Range<usize>) -> Self {
        let mut padded = [T::default(); MAX_PANEL];
        padded[..channels.len()].copy_from_slice(&values[channels]);
        Self(padded)
    }
}

/// How the taps of a kernel fall into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Kernel rows.
    pub(crate) rows: usize,
    /// Segments per kernel row.
    pub(crate) columns: usize,
    /// Taps of a segment.
    pub(crate) taps: usize,
}

impl Segments {
    /// One segment per kernel row.
    pub(crate) fn by_row(shape: &WeightShape) -> Self {
        Self {
            rows: shape.kernel_h,
            columns: 1,
            taps: shape.kernel_w * shape.in_channels,
        }
    }

    /// One segment per kernel position.
    pub(crate) fn by_pixel(shape: &WeightShape) -> Self {
        Self {
            rows: shape.kernel_h,
            columns: shape.kernel_w,
            taps: shape.in_channels,
        }
    }

    /// Steps of a segment when one step takes `step_taps` taps.
    pub(crate) fn steps(&self, step_taps: usize) -> usize {
        self.taps.div_ceil(step_taps)
    }

    /// Calls `put(panel position, tap)` for the weights of output channel `channel`, where a panel position counts taps
    /// in the order `[panel, segment, step, vector·lanes + channel, tap in step]`.
    pub(crate) fn place(
        &self,
        channel: usize,
        out_channels: usize,
        layout: &PanelLayout,
        mut put: impl FnMut(usize, usize),
    ) {
        let panel = channel / layout.panel_channels();
        let within = channel % layout.panel_channels();
        let width = layout.width(panel, out_channels);
        let steps = self.steps(layout.step_taps);
        let start = panel * layout.panel_channels() * layout.step_taps * steps * self.count();
        for segment in 0..self.count() {
            for tap in 0..self.taps {
                let step = segment * steps + tap / layout.step_taps;
                let at = (step * width + within) * layout.step_taps + tap % layout.step_taps;
                put(start + at, segment * self.taps + tap);
            }
        }
    }

    /// Segments in all.
    pub(crate) fn count(&self) -> usize {
        self.rows * self.columns
    }
}

/// The shape of panels for one family of micro-kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanelLayout {
    /// Output channels of a vector.
    pub(crate) lanes: usize,
    /// Vectors of a full panel; the last panel of a layer may have fewer.
    pub(crate) vectors: usize,
    /// Taps multiplied by one instruction.
    pub(crate) step_taps: usize,
}

impl PanelLayout {
    pub(crate) fn panel_channels(&self) -> usize {
        self.lanes * self.vectors
    }

    /// Channels of panel `panel`, padding to whole vectors included.
    pub(crate) fn width(&self, panel: usize, out_channels: usize) -> usize {
        let left = out_channels - panel * self.panel_channels();
        left.next_multiple_of(self.lanes).min(self.panel_channels())
    }

    /// Taps stored for all panels of a layer, padding included.
    pub(crate) fn stored_taps(&self, segments: &Segments, out_channels: usize) -> usize {
        let steps = segments.steps(self.step_taps) * segments.count();
        out_channels.next_multiple_of(self.lanes) * steps * self.step_taps
    }
}

/// What a micro-kernel works on: a rectangle of output pixels times one panel.
pub(crate) struct TileCall {
    /// First tap of the first pixel.
    pub(crate) input: *const u8,
    /// Bytes from one pixel of the tile to the next.
    pub(crate) column_step: usize,
    /// Bytes from one row of the tile to the next.
    pub(crate) row_step: usize,
    /// Segments of the kernel.
    pub(crate) segments: Segments,
    /// Bytes from one kernel row to the next.
    pub(crate) segment_row_step: usize,
    /// Bytes from one segment of a kernel row to the next.
    pub(crate) segment_column_step: usize,
    /// Steps of a segment.
    pub(crate) steps: usize,
    /// The panel's weights.
    pub(crate) panel: *const u8,
    /// Where the accumulators start.
    pub(crate) start: PerChannel<i32>,
    /// Receives the sums.
    pub(crate) sums: *mut TileSums,
}

/// A micro-kernel for one tile shape.
///
/// # Safety
/// The kernel's instruction set is available; `input` is readable for every segment of every pixel of the tile rounded up
/// to whole steps; `panel` holds the panel; `sums` is writable.
pub(crate) type Microkernel = unsafe fn(&TileCall);

/// The micro-kernels of one ISA and weight format.
pub(crate) struct Family {
    /// How their panels are laid out.
    pub(crate) layout: PanelLayout,
    /// Bytes of packed weights per stored tap, as a fraction `(bytes, taps)`.
    pub(crate) tap_bytes: (usize, usize),
    /// `plain[vectors - 1][columns - 1]`: one row of pixels.
    pub(crate) plain: &'static [&'static [Microkernel]],
    /// `pooled[vectors - 1][columns - 1]`: two rows of `2 · columns` pixels, of which the maxima are left.
    pub(crate) pooled: &'static [&'static [Microkernel]],
}

/// Turns sums into what is stored.
pub(crate) trait Store {
    /// What is stored.
    type Out;
    /// The constants of some channels.
    type Constants;

    /// Gathers the constants of `channels`.
    fn constants(&self, channels: Range<usize>) -> Self::Constants;

    /// Stores `pixels` pixels of `channels` channels, of which `sums` holds `width` each.
    ///
    /// # Safety
    /// The instruction set is available, `sums` holds `pixels · width` values, and `out` is writable for `channels`
    /// elements at each multiple of `pixel_stride` up to the last pixel.
    unsafe fn store(
        &self,
        constants: &Self::Constants,
        sums: &TileSums,
        tile: StoredTile,
        out: *mut Self::Out,
    );
}

/// The shape of a tile that is stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredTile {
    /// Stored pixels.
    pub(crate) pixels: usize,
    /// Channels to store.
    pub(crate) channels: usize,
    /// Channels in the sums.
    pub(crate) width: usize,
    /// Elements from one stored pixel to the next.
    pub(crate) pixel_stride: usize,
}

/// Cuts `len` into pieces of nearly equal length, none longer than `longest`.
fn pieces(len: usize, longest: usize) -> impl Iterator<Item = Range<usize>> {
    let count = len.div_ceil(longest);
    (0..count).map(move |i| i * len / count..(i + 1) * len / count)
}

/// Runs one convolution: panels outermost, so that a panel's weights stay in the first-level cache over the rows.
///
/// # Safety
/// The family's and the store's instruction set is available; `panels` was laid out for `segments` by the family's layout;
/// [`check`] passed for the arguments; `input` is readable 3 bytes past the geometry's extent.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn run<S: Store>(
    family: &Family,
    panels: &[u8],
    segments: Segments,
    g: &ConvGeometry,
    rows: Range<usize>,
    input: &[u8],
    acc_offset: &[i32],
    store: &S,
    out: &mut [S::Out],
) {
    let layout = family.layout;
    let kernels = if g.pool == 2 {
        family.pooled
    } else {
        family.plain
    };
    let steps = segments.steps(layout.step_taps);
    let taps_per_channel = steps * segments.count() * layout.step_taps;
    let mut sums = TileSums([0; TILE_LEN]);
    for first in (0..g.out_channels).step_by(layout.panel_channels()) {
        let channels = first..g.out_channels.min(first + layout.panel_channels());
        let width = channels.len().next_multiple_of(layout.lanes);
        let kernels = kernels[width / layout.lanes - 1];
        let panel_start = first * taps_per_channel * family.tap_bytes.0 / family.tap_bytes.1;
        let constants = store.constants(channels.clone());
        let mut call = TileCall {
            input: input.as_ptr(),
            column_step: g.stride * g.in_pixel_stride,
            row_step: g.stride * g.in_row_stride,
            segments,
            segment_row_step: g.in_row_stride,
            segment_column_step: g.in_pixel_stride,
            steps,
            panel: panels[panel_start..].as_ptr(),
            start: PerChannel::of(acc_offset, channels.clone()),
            sums: &raw mut sums,
        };
        for row in rows.clone() {
            let in_row = row * g.pool * call.row_step;
            let out_row = (row - rows.start) * g.out_row_stride + first;
            for columns in pieces(g.pooled_w(), kernels.len()) {
                // SAFETY: the tile lies in the geometry, so that by `check` its input lies in `input` and its result in
                // `out`; the instruction set is the caller's promise.
                unsafe {
                    call.input = input
                        .as_ptr()
                        .add(in_row + columns.start * g.pool * call.column_step);
                    kernels[columns.len() - 1](&call);
                    let tile = StoredTile {
                        pixels: columns.len(),
                        channels: channels.len(),
                        width,
                        pixel_stride: g.out_pixel_stride,
                    };
                    let at = out_row + columns.start * g.out_pixel_stride;
                    store.store(&constants, &sums, tile, out.as_mut_ptr().add(at));
                }
            }
        }
    }
}

/// Panics unless geometry, weights and slices fit together; what passes here is memory-safe to compute.
pub(crate) fn check(
    shape: &WeightShape,
    g: &ConvGeometry,
    rows: &Range<usize>,
    input_len: usize,
    per_channel: [usize; 3],
    out_len: usize,
) {
    let geometry_shape = WeightShape {
        out_channels: g.out_channels,
        kernel_h: g.kernel_h,
        kernel_w: g.kernel_w,
        in_channels: g.in_channels,
    };
    assert_eq!(*shape, geometry_shape, "the weights must fit the geometry");
    assert!(matches!(g.pool, 1 | 2), "pooling is by 1 or 2");
    assert!(g.stride > 0, "the stride must not be zero");
    assert!(
        rows.start <= rows.end && rows.end <= g.pooled_h(),
        "the rows must lie in the result"
    );
    assert!(
        per_channel == [g.out_channels; 3],
        "one offset, multiplier and bias per output channel"
    );
    let [kernel_h, kernel_w, stride] = [g.kernel_h, g.kernel_w, g.stride].map(bounded);
    let [out_h, out_w, rows] = [g.out_h, g.out_w, rows.len()].map(bounded);
    if out_h > 0 && out_w > 0 {
        let last_row = (out_h - 1) * stride + kernel_h.saturating_sub(1);
        let last_column = (out_w - 1) * stride + kernel_w.saturating_sub(1);
        let extent = last_row * bounded(g.in_row_stride)
            + last_column * bounded(g.in_pixel_stride)
            + bounded(g.in_channels);
        assert!(
            input_len as u128 >= extent + READ_PAST,
            "the input must hold its extent and the slack"
        );
    }
    if rows > 0 && g.pooled_w() > 0 {
        let extent = (rows - 1) * bounded(g.out_row_stride)
            + bounded(g.pooled_w() - 1) * bounded(g.out_pixel_stride)
            + bounded(g.out_channels);
        assert!(out_len as u128 >= extent, "the output must hold its extent");
    }
}

/// Bytes that a whole number of steps may read past the last tap.
const READ_PAST: u128 = 3;

/// A size in a width in which products of three such sizes cannot overflow.
fn bounded(size: usize) -> u128 {
    assert!(size < 1 << 40, "a size is absurd");
    size as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_length_in_nearly_equal_parts() {
        for len in 0..100 {
            for longest in 1..15 {
                let all: Vec<_> = pieces(len, longest).collect();
                let mut next = 0;
                for piece in &all {
                    assert_eq!(piece.start, next);
                    assert!(!piece.is_empty() && piece.len() <= longest);
                    next = piece.end;
                }
                assert_eq!(next, len);
                assert_eq!(all.len(), len.div_ceil(longest));
            }
        }
    }
}
