//! The values and gradients of one batch.

use crate::graph::ValueId;
use crate::runtime::plan::Plan;
use lowbit_kernels::{AlignedBuffer, Isa};

/// The buffers that one step works on.
pub(super) struct Pass {
    pub(super) isa: Isa,
    pub(super) plan: Plan,
    /// Images in the batch.
    pub(super) count: usize,
    /// In their layouts, halos being zero.
    pub(super) values: Vec<AlignedBuffer<f32>>,
    /// Dense gradients, `[count, h, w, c]`.
    pub(super) grads: Vec<AlignedBuffer<f32>>,
    /// Whether a gradient holds something already: a later reader adds to it.
    pub(super) written: Vec<bool>,
    capacity: usize,
}

impl Pass {
    pub(super) fn new(mut plan: Plan, isa: Isa) -> Self {
        for layout in &mut plan.layouts {
            layout.chunked = true;
        }
        let values = plan.layouts.len();
        Self {
            isa,
            plan,
            count: 0,
            values: vec![AlignedBuffer::zeroed(0); values],
            grads: vec![AlignedBuffer::zeroed(0); values],
            written: vec![false; values],
            capacity: 0,
        }
    }

    /// Makes room for `count` images and forgets the last batch's gradients.
    pub(super) fn begin(&mut self, count: usize) {
        if count > self.capacity {
            for (value, layout) in self.plan.layouts.iter().enumerate() {
                self.values[value] = AlignedBuffer::zeroed(layout.image_len * count);
                self.grads[value] = AlignedBuffer::zeroed(layout.dense_len() * count);
            }
            self.capacity = count;
        }
        self.count = count;
        self.written.fill(false);
    }

    /// A value to read and another, later one to write.
    pub(super) fn value_pair(
        &mut self,
        read: ValueId,
        write: ValueId,
    ) -> (&AlignedBuffer<f32>, &mut AlignedBuffer<f32>) {
        let (earlier, later) = self.values.split_at_mut(write);
        (&earlier[read], &mut later[0])
    }
}
