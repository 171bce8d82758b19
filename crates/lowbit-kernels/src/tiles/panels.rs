//! The order of weights in memory: panels for register tiles.

use super::{Family, PerChannel};
use crate::{AlignedBuffer, ConvGeometry, Isa, Level, WeightShape};
use std::ops::Range;

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
            taps: shape.kernel_w.saturating_mul(shape.in_channels),
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

    /// Segments in all.
    pub(crate) fn count(&self) -> usize {
        self.rows.saturating_mul(self.columns)
    }
}

/// The shape of panels for one family of micro-kernels: `[panel, block of steps, vector]`, a vector's blocks being
/// `block_bytes` of the format's own order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanelLayout {
    /// Output channels of a vector.
    pub(crate) lanes: usize,
    /// Vectors of a full panel; the last panel of a layer may have fewer.
    pub(crate) vectors: usize,
    /// Taps multiplied by one instruction.
    pub(crate) step_taps: usize,
    /// Steps whose weights share a block.
    pub(crate) block_steps: usize,
    /// Bytes of a block.
    pub(crate) block_bytes: usize,
}

impl PanelLayout {
    /// Channels of a full panel.
    pub(crate) fn panel_channels(&self) -> usize {
        self.lanes * self.vectors
    }

    /// Bytes of all weights of one vector of channels; `usize::MAX` where that is more than can be counted.
    pub(crate) fn vector_bytes(&self, segments: &Segments) -> usize {
        let steps = segments
            .steps(self.step_taps)
            .saturating_mul(segments.count());
        let blocks = steps.div_ceil(self.block_steps);
        blocks.saturating_mul(self.block_bytes)
    }

    /// Visits the weights of output channel `channel` (`[segment, tap]`), each with the place where it goes. Training packs
    /// all weights once a step: places are counted up, not divided out.
    fn place<W: Copy>(
        &self,
        segments: &Segments,
        (out_channels, channel): (usize, usize),
        weights: &[W],
        mut put: impl FnMut(Slot, W),
    ) {
        let panel = channel / self.panel_channels();
        let left = out_channels.div_ceil(self.lanes) - panel * self.vectors;
        let to_next_block = left.min(self.vectors) * self.block_bytes;
        let panel_start = panel * self.vectors * self.vector_bytes(segments);
        let vector = channel / self.lanes % self.vectors;
        let mut slot = Slot {
            block: panel_start + vector * self.block_bytes,
            step: 0,
            lane: channel % self.lanes,
            tap: 0,
        };
        for segment in weights.chunks_exact(segments.taps.max(1)) {
            for step in segment.chunks(self.step_taps) {
                for (tap, &weight) in step.iter().enumerate() {
                    put(Slot { tap, ..slot }, weight);
                }
                slot.step += 1;
                if slot.step == self.block_steps {
                    slot.step = 0;
                    slot.block += to_next_block;
                }
            }
        }
    }
}

/// Where one weight stands in the panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// First byte of the block.
    pub(crate) block: usize,
    /// Step in the block.
    pub(crate) step: usize,
    /// Channel in the vector.
    pub(crate) lane: usize,
    /// Tap in the step.
    pub(crate) tap: usize,
}

/// Weights in tile order.
#[derive(Clone)]
pub(crate) struct Panels {
    /// The micro-kernels that read them.
    pub(crate) family: &'static Family,
    shape: WeightShape,
    /// For views whose pixels hold the channels read and nothing else.
    by_row: AlignedBuffer<u8>,
    /// For all others, where the order differs.
    by_pixel: Option<AlignedBuffer<u8>>,
    /// Added to all start values.
    pub(crate) start: i32,
    /// Whether Winograd's way takes over where it pays.
    pub(crate) winograd: bool,
    /// Whether matrix tiles take over where they pay.
    pub(crate) amx: bool,
}

impl Panels {
    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`); `put` writes one weight into its slot.
    pub(crate) fn pack<W: Copy>(
        family: &'static Family,
        weights: &[W],
        shape: WeightShape,
        put: impl Fn(&mut [u8], Slot, W),
    ) -> Self {
        let layout = &family.layout;
        let pack = |segments: Segments| {
            let vectors = shape.out_channels.div_ceil(layout.lanes);
            let mut panels =
                AlignedBuffer::zeroed(vectors.saturating_mul(layout.vector_bytes(&segments)));
            for (channel, filter) in weights.chunks_exact(shape.fan_in().max(1)).enumerate() {
                let channel = (shape.out_channels, channel);
                layout.place(&segments, channel, filter, |slot, weight| {
                    put(&mut panels, slot, weight);
                });
            }
            panels
        };
        let whole_steps = shape.in_channels.is_multiple_of(layout.step_taps);
        Self {
            family,
            shape,
            by_row: pack(Segments::by_row(&shape)),
            by_pixel: (shape.kernel_w > 1 && !whole_steps)
                .then(|| pack(Segments::by_pixel(&shape))),
            start: 0,
            winograd: false,
            amx: false,
        }
    }

    /// The same with Winograd's way, for AVX2 and weights of −128 to 127.
    pub(crate) fn with_winograd(mut self) -> Self {
        self.winograd = true;
        self
    }

    /// Where the sums of some channels begin.
    pub(crate) fn start(&self, acc_offset: &[i32], channels: Range<usize>) -> PerChannel<i32> {
        let offset = PerChannel::of(acc_offset, channels);
        PerChannel(offset.0.map(|start| start.wrapping_add(self.start)))
    }

    /// The same for `isa`, which may have more than the family needs.
    pub(crate) fn for_isa(mut self, isa: Isa) -> Self {
        self.amx = isa.level() == Level::Amx && self.family.expand.is_some();
        self
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.by_row.len() + self.by_pixel.as_ref().map_or(0, |panels| panels.len())
    }

    /// The shape that was packed.
    pub(crate) fn shape(&self) -> WeightShape {
        self.shape
    }

    /// The panels that serve `geometry`, and how its taps fall into segments.
    pub(crate) fn serving(&self, geometry: &ConvGeometry) -> (&[u8], Segments) {
        if geometry.in_pixel_stride == geometry.in_channels || geometry.kernel_w == 1 {
            (&self.by_row, Segments::by_row(&self.shape))
        } else {
            let panels = self.by_pixel.as_ref().unwrap_or(&self.by_row);
            (panels, Segments::by_pixel(&self.shape))
        }
    }
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Panels")
            .field("shape", &self.shape)
            .field("layout", &self.family.layout)
            .finish_non_exhaustive()
    }
}
