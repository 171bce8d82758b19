//! Which values share a buffer: those that are never alive at the same time, so that a deep network needs the memory of its
//! widest place, not of all its layers.
//!
//! A halo is written once, when its buffer is made. So values with a halo share a buffer only with values of the same layout
//! and the same filling; values without one share with any of their kind.

use super::forms::Numbers;
use super::layout::Layout;
use super::plan::Plan;

/// A buffer that values share.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) numbers: Numbers,
    /// Elements for one image, and for each image of a chunk.
    pub(crate) image_len: usize,
    pub(crate) chunked_len: usize,
    /// The layout of its values where they have a halo, and what fills it.
    halo: Option<(Layout, u32)>,
    /// The last step that reads what it holds now.
    busy_until: usize,
    /// What fills it at first.
    pub(crate) filling: u32,
}

/// Buffers, and which of them holds each value.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pub(crate) slots: Vec<Slot>,
    pub(crate) of_value: Vec<usize>,
}

impl Slot {
    /// Elements that it needs for a chunk of images.
    pub(crate) fn len(&self, chunk: usize) -> usize {
        self.image_len.max(self.chunked_len * chunk)
    }
}

impl Slots {
    /// Bytes of all buffers for a chunk of images.
    pub(crate) fn bytes(&self, chunk: usize) -> usize {
        let bytes = |slot: &Slot| slot.numbers.size() * slot.len(chunk);
        self.slots.iter().map(bytes).sum()
    }
}

/// Whether steps of bands may also run one after the other, each over a whole value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// No: values within bands have no buffer.
    Rows,
    /// Each band one way or the other.
    Values,
}

/// Assigns the values of a plan to buffers in the order in which they are written. `filling` gives the bits of what fills
/// a value's halo.
pub(crate) fn assign(plan: &Plan, within: Within, filling: impl Fn(usize) -> u32) -> Slots {
    let (steps, bands) = (&plan.exec.steps, &plan.bands);
    let values = plan.exec.values.len();
    // A band begins to write its result while its first step still reads.
    let band_of = |step: usize| {
        let mut all = bands.iter().map(|band| &band.steps);
        all.find(|steps| steps.contains(&step))
    };
    let last_read = |value: usize| {
        let mut readers = steps.iter().enumerate().rev();
        let last = readers.find(|(_, step)| step.inputs.contains(&value));
        // A value without readers is the logits'; it has no buffer of its own, but a place in the order.
        last.map_or(steps.len(), |(index, _)| index + 1)
    };
    let writer = |value: usize| steps.iter().position(|step| step.output == value);
    let written = |value: usize| {
        writer(value).map_or(0, |index| {
            band_of(index).map_or(index, |band| band.start) + 1
        })
    };
    let has_buffer = |value: &usize| {
        let index = writer(*value);
        let band = index.and_then(|index| Some((index, band_of(index)?)));
        within == Within::Values || band.is_none_or(|(index, band)| index + 1 == band.end)
    };
    let mut order: Vec<usize> = (0..values).filter(has_buffer).collect();
    order.sort_by_key(|&value| written(value));
    let mut slots: Vec<Slot> = Vec::new();
    let mut of_value = vec![0; values];
    for value in order {
        let layout = plan.layouts[value];
        let numbers = plan.exec.values[value].numbers;
        let halo = (!layout.is_dense()).then(|| (layout, filling(value)));
        let chunked = plan.chunked[value];
        // What the image-wise part leaves for the chunk is written again for each image: it is alive all the time.
        let from = match chunked && !plan.whole_batch && written(value) <= plan.split {
            true => 0,
            false => written(value),
        };
        let fits = |slot: &Slot| {
            let is_free = slot.busy_until < from;
            is_free && slot.numbers == numbers && slot.halo == halo && from > 0
        };
        let at = slots.iter().position(fits).unwrap_or_else(|| {
            slots.push(Slot {
                numbers,
                image_len: 0,
                chunked_len: 0,
                halo,
                busy_until: 0,
                filling: halo.map_or(0, |(_, bits)| bits),
            });
            slots.len() - 1
        });
        let slot = &mut slots[at];
        match chunked {
            true => slot.chunked_len = slot.chunked_len.max(layout.image_len),
            false => slot.image_len = slot.image_len.max(layout.image_len),
        }
        slot.busy_until = last_read(value);
        of_value[value] = at;
    }
    Slots { slots, of_value }
}
