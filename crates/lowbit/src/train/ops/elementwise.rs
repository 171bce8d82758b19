//! ReLU and 2×2 max-pool that stand alone.

use super::{Layer, Pass};
use crate::graph::Block;
use crate::runtime::plan::Plan;

pub(super) struct Elementwise {
    index: usize,
    block: Block,
}

impl Elementwise {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            index,
            block: plan.blocks.list()[index].clone(),
        }
    }

    /// Calls `visit(result's offset in its value, in its gradient, winner's offset in the input's value, in its gradient)`
    /// for every result; the first maximum of a window wins.
    fn each(&self, pass: &Pass, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (from, to) = (self.block.inputs[0], self.index + 1);
        let (input, output) = (pass.plan.layouts[from], pass.plan.layouts[to]);
        let pool = self.block.pool;
        for at in 0..pass.count * output.dense_len() {
            let (image, within) = (at / output.dense_len(), at % output.dense_len());
            let (pixel, c) = (within / output.c, within % output.c);
            let (row, column) = (pixel / output.w, pixel % output.w);
            let place = |tap: usize| {
                let (y, x) = (row * pool + tap / pool, column * pool + tap % pool);
                let value = image * input.image_len
                    + input.offset(0)
                    + y * input.row_stride
                    + x * input.c
                    + c;
                (
                    value,
                    image * input.dense_len() + (y * input.w + x) * input.c + c,
                )
            };
            let mut winner = place(0);
            for tap in 1..pool * pool {
                let other = place(tap);
                if pass.values[from][other.0] > pass.values[from][winner.0] {
                    winner = other;
                }
            }
            let value = image * output.image_len
                + output.offset(0)
                + row * output.row_stride
                + column * output.c
                + c;
            visit(value, at, winner.0, winner.1);
        }
    }
}

impl Layer for Elementwise {
    fn forward(&mut self, pass: &mut Pass) {
        let (from, to) = (self.block.inputs[0], self.index + 1);
        let mut results = Vec::with_capacity(pass.count * pass.plan.layouts[to].dense_len());
        self.each(pass, |value, _, winner, _| {
            results.push((value, pass.values[from][winner]))
        });
        for (at, x) in results {
            pass.values[to][at] = if self.block.relu { x.max(0.0) } else { x };
        }
        pass.quantize(self.index + 1);
    }

    fn backward(&mut self, pass: &mut Pass) {
        pass.quantize_backward(self.index + 1);
        let (from, to) = (self.block.inputs[0], self.index + 1);
        let mut passed = Vec::new();
        self.each(pass, |value, grad, _, winner| {
            if !self.block.relu || pass.values[to][value] > 0.0 {
                passed.push((winner, pass.grads[to][grad]));
            }
        });
        if !pass.written[from] {
            pass.grads[from].fill(0.0);
        }
        pass.written[from] = true;
        for (at, dy) in passed {
            pass.grads[from][at] += dy;
        }
    }
}
