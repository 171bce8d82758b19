//! The order of weights in memory: how taps fall into segments and steps, and weights into panels.
//!
//! There is no im2col buffer. In a channels-last view the taps of one kernel row (`kernel_w · in_channels` bytes) lie
//! side by side, so that each output pixel is a product of `kernel_h` *segments*, each padded with zero weights to a whole
//! number of *steps* (the taps that one instruction multiplies). Where pixels are wider than the channels read from them
//! (a group of a grouped convolution), each kernel position is a segment of its own.
//!
//! A *panel* is the weights of a few vectors of output channels in the order in which a tile reads them:
//! `[segment, step, vector, channel, tap]`.

use crate::WeightShape;

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

/// The shape of panels for one set of micro-kernels: `[panel, block of steps, vector]`, a vector's blocks being
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
    pub(super) fn place<W: Copy>(
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

/// The size of one panel.
#[derive(Clone, Copy)]
pub(crate) struct PanelShape {
    /// Segments of the kernel.
    pub(crate) segments: usize,
    /// Steps of a segment.
    pub(crate) steps: usize,
    /// Vectors of the panel.
    pub(crate) vectors: usize,
}

/// Writes a weight as i16 into its slot of a step of two taps.
#[cfg(target_arch = "x86_64")]
pub(crate) fn put_i16(panels: &mut [u8], slot: Slot, weight: i16) {
    let at = slot.block + 4 * slot.lane + 2 * slot.tap;
    panels[at..at + 2].copy_from_slice(&weight.to_ne_bytes());
}
