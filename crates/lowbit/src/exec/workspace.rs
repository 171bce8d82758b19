//! The buffers of one thread.

use super::found::FoundParams;
use crate::lower::{ExecStep, Numbers, Plan, Slots};
use crate::quant::ActivationParams;
use lowbit_kernels::AlignedBuffer;
use lowbit_kernels::geometry::SLACK;
use lowbit_kernels::pages::in_large_pages;
use std::sync::Arc;

/// Buffers for a chunk of images.
pub(super) struct Workspace {
    slots: Arc<Slots>,
    buffers: Vec<Buffer>,
    found: Vec<FoundParams>,
    chunk: usize,
}

pub(super) enum Buffer {
    F32(AlignedBuffer<f32>),
    U8(AlignedBuffer<u8>),
    /// A step writes to it.
    Taken,
}

impl Workspace {
    pub(super) fn new(plan: &Plan, slots: &Arc<Slots>, chunk: usize) -> Self {
        let buffer = |slot: &crate::lower::Slot| match slot.numbers {
            // Halos of f32 are zeros.
            Numbers::F32 => Buffer::F32(AlignedBuffer::zeroed(slot.len(chunk))),
            Numbers::U8 => {
                let mut buffer = AlignedBuffer::zeroed(slot.len(chunk));
                // The interior is overwritten by every image; the halo stays.
                buffer.fill(slot.filling as u8);
                Buffer::U8(buffer)
            }
        };
        // What lies behind each, and up to the next cache line.
        let slack = SLACK * size_of::<f32>() + 64;
        Self {
            slots: Arc::clone(slots),
            buffers: in_large_pages(slots.bytes(chunk) + slack * slots.slots.len(), || {
                slots.slots.iter().map(buffer).collect()
            }),
            found: plan
                .layouts
                .iter()
                .map(|_| FoundParams::default())
                .collect(),
            chunk,
        }
    }

    /// Whether it has these buffers, for so many images.
    pub(super) fn fits(&self, slots: &Arc<Slots>, chunk: usize) -> bool {
        Arc::ptr_eq(&self.slots, slots) && self.chunk >= chunk
    }

    pub(super) fn take(&mut self, value: usize) -> Buffer {
        let slot = self.slots.of_value[value];
        std::mem::replace(&mut self.buffers[slot], Buffer::Taken)
    }

    pub(super) fn put(&mut self, value: usize, buffer: Buffer) {
        let slot = self.slots.of_value[value];
        self.buffers[slot] = buffer;
    }

    fn buffer(&self, value: usize) -> &Buffer {
        &self.buffers[self.slots.of_value[value]]
    }

    /// The buffer of a value.
    ///
    /// # Panics
    /// If it is of bytes.
    pub(super) fn f32(&self, value: usize) -> &AlignedBuffer<f32> {
        match self.buffer(value) {
            Buffer::F32(buffer) => buffer,
            Buffer::U8(_) | Buffer::Taken => panic!("values of an f32 program are f32"),
        }
    }

    /// Forgets what was found in the last batch.
    pub(super) fn forget(&mut self) {
        self.found.iter_mut().for_each(FoundParams::clear);
    }
}

/// The inputs of a step, for one image or from one image on.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) plan: &'a Plan,
    pub(super) step: &'a ExecStep,
    /// Number of the first image in its chunk.
    pub(super) number: usize,
    /// Some rows of the one input, from the first one that the call sees, instead of the whole.
    pub(super) rows: Option<SomeRows<'a>>,
}

/// Some rows of a value, halo included, with slack behind.
#[derive(Clone, Copy)]
pub(super) enum SomeRows<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
}

impl<'a> Inputs<'a> {
    fn start(&self, value: usize) -> usize {
        match self.plan.chunked[value] {
            true => self.number * self.plan.layouts[value].image_len,
            false => 0,
        }
    }

    /// An input from its image's first element (halo included), with slack behind.
    ///
    /// # Panics
    /// If it is of bytes: programs give each step the numbers that it was compiled for.
    pub(super) fn f32(&self, which: usize) -> &'a [f32] {
        if let Some(SomeRows::F32(rows)) = self.rows {
            return rows;
        }
        let value = self.step.inputs[which];
        match self.workspace.buffer(value) {
            Buffer::F32(buffer) => &buffer.with_slack()[self.start(value)..],
            Buffer::U8(_) | Buffer::Taken => panic!("the step reads another value as f32"),
        }
    }

    /// An input of bytes; otherwise as [`Inputs::f32`].
    ///
    /// # Panics
    /// If it is of floats.
    pub(super) fn u8(&self, which: usize) -> &'a [u8] {
        if let Some(SomeRows::U8(rows)) = self.rows {
            return rows;
        }
        let value = self.step.inputs[which];
        match self.workspace.buffer(value) {
            Buffer::U8(buffer) => &buffer.with_slack()[self.start(value)..],
            Buffer::F32(_) | Buffer::Taken => panic!("the step reads another value as u8"),
        }
    }

    /// The parameters that were found for an input in this batch.
    pub(super) fn found(&self, which: usize) -> ActivationParams {
        self.workspace.found[self.step.inputs[which]].get()
    }

    /// Keeps the parameters of the result.
    pub(super) fn keep_found(&self, params: ActivationParams) {
        self.workspace.found[self.step.output].set(params);
    }
}
