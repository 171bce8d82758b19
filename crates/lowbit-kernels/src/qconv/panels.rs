//! Weights packed for register tiles.

use super::layout::{Segments, Slot};
use super::microkernel::{Kernels, PerChannel};
use crate::proof::{Amx, Avx2};
use crate::{AlignedBuffer, ConvGeometry, WeightShape};
use std::ops::Range;

/// Weights in tile order.
#[derive(Clone)]
pub(crate) struct Panels {
    /// The micro-kernels that read them, with the proof that they may run.
    pub(crate) kernels: Kernels,
    shape: WeightShape,
    /// For views whose pixels hold the channels read and nothing else.
    by_row: AlignedBuffer<u8>,
    /// For all others, where the order differs.
    by_pixel: Option<AlignedBuffer<u8>>,
    /// Added to all start values.
    pub(crate) start: i32,
    /// What Winograd's way runs on, if it may take over where it is profitable.
    pub(crate) winograd: Option<Avx2>,
    /// What matrix tiles run on, if they may take over where they are profitable.
    pub(crate) amx: Option<Amx>,
}

impl Panels {
    /// Packs `weights` (`[out, kernel_h, kernel_w, in]`); `put` writes one weight into its slot.
    pub(crate) fn pack<W: Copy>(
        kernels: Kernels,
        weights: &[W],
        shape: WeightShape,
        put: impl Fn(&mut [u8], Slot, W),
    ) -> Self {
        let layout = &kernels.layout;
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
            kernels,
            shape,
            by_row: pack(Segments::by_row(&shape)),
            by_pixel: (shape.kernel_w > 1 && !whole_steps)
                .then(|| pack(Segments::by_pixel(&shape))),
            start: 0,
            winograd: None,
            amx: None,
        }
    }

    /// The same with Winograd's way, for weights of −128 to 127 in panels of AVX2.
    pub(crate) fn with_winograd(mut self, proof: Avx2) -> Self {
        let layout = &self.kernels.layout;
        assert!(layout.lanes == 8 && layout.step_taps == 2, "panels of AVX2");
        self.winograd = Some(proof);
        self
    }

    /// Where the sums of some channels begin.
    pub(crate) fn start(&self, acc_offset: &[i32], channels: Range<usize>) -> PerChannel<i32> {
        let offset = PerChannel::of(acc_offset, channels);
        PerChannel(offset.0.map(|start| start.wrapping_add(self.start)))
    }

    /// The same with matrix tiles, where the machine has them and the format can be laid out for them.
    pub(crate) fn with_amx(mut self, proof: Option<Amx>) -> Self {
        self.amx = proof.filter(|_| self.kernels.expand.is_some());
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

    /// Whether several images can be taken at once: what is seen of a kernel row must begin with a block of steps. Matrix tiles
    /// take gathered taps instead.
    pub(crate) fn takes_images(&self) -> bool {
        let layout = &self.kernels.layout;
        let block = layout.step_taps * layout.block_steps;
        self.shape.in_channels.is_multiple_of(block) && self.amx.is_none()
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
            .field("layout", &self.kernels.layout)
            .finish_non_exhaustive()
    }
}
