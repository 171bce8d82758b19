//! The order of weights in memory: panels for register tiles.

use super::Family;
use crate::{AlignedBuffer, ConvGeometry, WeightShape};

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

    /// Where a tap of output channel `channel` goes: tap `tap` of segment `segment`.
    fn slot(&self, segments: &Segments, out_channels: usize, channel: usize, place: Place) -> Slot {
        let panel = channel / self.panel_channels();
        let steps = segments.steps(self.step_taps);
        let panel_taps = self.panel_channels() * self.step_taps * steps * segments.count();
        Slot {
            panel_start: panel * panel_taps,
            step: place.segment * steps + place.tap / self.step_taps,
            width: self.width(panel, out_channels),
            channel: channel % self.panel_channels(),
            tap: place.tap % self.step_taps,
        }
    }

    /// Taps stored for all panels of a layer, padding included.
    fn stored_taps(&self, segments: &Segments, out_channels: usize) -> usize {
        let steps = segments.steps(self.step_taps) * segments.count();
        out_channels.next_multiple_of(self.lanes) * steps * self.step_taps
    }
}

#[derive(Clone, Copy)]
struct Place {
    segment: usize,
    tap: usize,
}

/// Where one weight stands in the panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// Taps of all panels before.
    pub(crate) panel_start: usize,
    /// Step in the panel.
    pub(crate) step: usize,
    /// Channels of the panel.
    pub(crate) width: usize,
    /// Channel in the panel.
    pub(crate) channel: usize,
    /// Tap in the step.
    pub(crate) tap: usize,
}

impl Slot {
    /// Its index where all taps stand in the order `[panel, step, channel, tap]`.
    pub(crate) fn index(&self, step_taps: usize) -> usize {
        self.panel_start + (self.step * self.width + self.channel) * step_taps + self.tap
    }
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
            let taps = layout.stored_taps(&segments, shape.out_channels);
            let mut panels = AlignedBuffer::zeroed(family.bytes(taps));
            for (channel, filter) in weights.chunks_exact(shape.fan_in().max(1)).enumerate() {
                for (index, &weight) in filter.iter().enumerate() {
                    let (segment, tap) = (index / segments.taps, index % segments.taps);
                    let place = Place { segment, tap };
                    let slot = layout.slot(&segments, shape.out_channels, channel, place);
                    put(&mut panels, slot, weight);
                }
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
        }
    }

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
