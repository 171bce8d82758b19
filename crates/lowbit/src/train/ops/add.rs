//! Sum of two values, with ReLU.

use super::{Layer, Pass};
use crate::graph::Block;
use crate::runtime::plan::Plan;
use lowbit_kernels::quantize;
use rayon::prelude::*;

pub(super) struct Add {
    index: usize,
    block: Block,
}

impl Add {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            index,
            block: plan.blocks.list()[index].clone(),
        }
    }
}

impl Layer for Add {
    fn forward(&mut self, pass: &mut Pass) {
        let to = self.index + 1;
        let isa = pass.isa;
        let [a, b] = [self.block.inputs[0], self.block.inputs[1]];
        let (la, lb, lo) = (
            pass.plan.layouts[a],
            pass.plan.layouts[b],
            pass.plan.layouts[to],
        );
        let (earlier, later) = pass.values.split_at_mut(to);
        let (a, b) = (&earlier[a], &earlier[b]);
        let relu = self.block.relu;
        later[0][..pass.count * lo.image_len]
            .par_chunks_mut(lo.image_len)
            .enumerate()
            .for_each(|(image, out)| {
                let len = lo.w * lo.c;
                for row in 0..lo.h {
                    let a = &a[image * la.image_len + la.offset(0) + row * la.row_stride..][..len];
                    let b = &b[image * lb.image_len + lb.offset(0) + row * lb.row_stride..][..len];
                    let out = &mut out[lo.offset(0) + row * lo.row_stride..][..len];
                    quantize::add_f32(isa, a, b, relu, out);
                }
            });
        pass.quantize(self.index + 1);
    }

    fn backward(&mut self, pass: &mut Pass) {
        pass.quantize_backward(self.index + 1);
        let to = self.index + 1;
        let layout = pass.plan.layouts[to];
        let row_len = layout.w * layout.c;
        let (earlier, later) = pass.grads.split_at_mut(to);
        let value = &pass.values[to];
        for &from in &self.block.inputs {
            let accumulate = pass.written[from];
            pass.written[from] = true;
            let rows = earlier[from][..pass.count * layout.dense_len()].par_chunks_mut(row_len);
            rows.zip(later[0].par_chunks(row_len))
                .enumerate()
                .for_each(|(row, (grad, dy))| {
                    let start = row / layout.h * layout.image_len
                        + layout.offset(0)
                        + row % layout.h * layout.row_stride;
                    let y = &value[start..][..row_len];
                    for ((grad, &dy), &y) in grad.iter_mut().zip(dy).zip(y) {
                        let passed = if self.block.relu && y <= 0.0 { 0.0 } else { dy };
                        *grad = if accumulate { *grad + passed } else { passed };
                    }
                });
        }
    }
}
