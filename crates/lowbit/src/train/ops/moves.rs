//! Operators that move pixels, with ReLU: gradients move back.

use super::{Layer, Pass, Place};
use crate::exec::{Move, Moves};
use crate::lower::{Layout, Plan};

pub(super) struct MovePixels {
    place: Place,
    relu: bool,
    how: Move,
    moves: Moves,
}

impl MovePixels {
    pub(super) fn new(plan: &Plan, index: usize, how: Move) -> Self {
        Self {
            place: Place::new(plan, index),
            relu: plan.exec.program.steps()[index].epilogue.relu,
            how,
            moves: Moves::new(plan, index, how),
        }
    }

    /// Calls `each(where a result is, where its element came from)`, both dense; what came from nowhere is left out.
    fn each(&self, mut each: impl FnMut(usize, usize)) {
        let Place { input, output, .. } = self.place;
        let len = input.dense_len();
        match self.how {
            Move::Reshape => (0..len).for_each(|at| each(at, at)),
            Move::Prefix(prefix) => {
                let before = prefix.tokens * output.c;
                (0..len).for_each(|at| each(before + at, at));
            }
            Move::Transpose => {
                let pixels = output.c;
                (0..len).for_each(|at| each(at % input.c * pixels + at / input.c, at));
            }
        }
    }
}

/// Where an element that is counted without halo lies, from the image's first pixel on.
fn with_halo(layout: &Layout, dense: usize) -> usize {
    layout.pixel(dense / layout.c) + dense % layout.c
}

impl Layer for MovePixels {
    fn forward(&mut self, pass: &mut Pass) {
        let Place {
            from, to, output, ..
        } = self.place;
        let (count, relu) = (pass.count, self.relu);
        let (x, y) = pass.value_pair(from, to);
        self.moves
            .run(count, (x, &mut y[output.first()..]), 0.0, |moved| {
                if relu {
                    moved.iter_mut().for_each(|x| *x = x.max(0.0));
                }
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place {
            from,
            to,
            input,
            output,
        } = self.place;
        pass.quantize_backward(to);
        let accumulate = std::mem::replace(&mut pass.written[from], true);
        let (earlier, later) = pass.grads.split_at_mut(to);
        for image in 0..pass.count {
            let grads = &mut earlier[from][image * input.dense_len()..][..input.dense_len()];
            let dys = &later[0][image * output.dense_len()..];
            let y = &pass.values[to][image * output.image_len + output.first()..];
            if !accumulate {
                grads.fill(0.0);
            }
            self.each(|to, from| {
                if !self.relu || y[with_halo(&output, to)] > 0.0 {
                    grads[from] += dys[to];
                }
            });
        }
    }
}
