//! Mean over height and width.

use super::{Layer, Pass};
use crate::graph::Block;
use crate::runtime::plan::Plan;
use lowbit_kernels::quantize;

pub(super) struct GlobalAvgPool {
    index: usize,
    block: Block,
}

impl GlobalAvgPool {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            index,
            block: plan.blocks.list()[index].clone(),
        }
    }
}

impl Layer for GlobalAvgPool {
    fn forward(&mut self, pass: &mut Pass) {
        let (from, to) = (self.block.inputs[0], self.index + 1);
        let (layout, isa, count) = (pass.plan.layouts[from], pass.isa, pass.count);
        let (input, output) = pass.value_pair(from, to);
        for image in 0..count {
            let view = &input[image * layout.image_len + layout.offset(0)..];
            let out = &mut output[image * layout.c..][..layout.c];
            let (h, w, c) = (layout.h, layout.w, layout.c);
            quantize::global_avg_pool_f32(isa, view, h, w, c, layout.row_stride, out);
            if self.block.relu {
                out.iter_mut().for_each(|x| *x = x.max(0.0));
            }
        }
        pass.quantize(self.index + 1);
    }

    fn backward(&mut self, pass: &mut Pass) {
        pass.quantize_backward(self.index + 1);
        let (from, to) = (self.block.inputs[0], self.index + 1);
        let layout = pass.plan.layouts[from];
        let scale = 1.0 / (layout.h * layout.w) as f32;
        let accumulate = pass.written[from];
        pass.written[from] = true;
        let (earlier, later) = pass.grads.split_at_mut(to);
        let c = layout.c;
        for image in 0..pass.count {
            let dy = &later[0][image * c..][..c];
            let y = &pass.values[to][image * c..][..c];
            let grads = &mut earlier[from][image * layout.dense_len()..][..layout.dense_len()];
            for pixel in grads.chunks_exact_mut(c) {
                for ((grad, &dy), &y) in pixel.iter_mut().zip(dy).zip(y) {
                    let passed = if self.block.relu && y <= 0.0 {
                        0.0
                    } else {
                        dy * scale
                    };
                    *grad = if accumulate { *grad + passed } else { passed };
                }
            }
        }
    }
}
