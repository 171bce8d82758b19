//! Operators that move pixels, with ReLU: gradients move back.

use super::{Layer, Pass, Place};
use crate::exec::{Move, Moves};
use crate::lower::Plan;

pub(super) struct MovePixels {
    place: Place,
    how: Move,
    moves: Moves,
}

impl MovePixels {
    pub(super) fn new(plan: &Plan, index: usize, how: Move) -> Self {
        Self {
            place: Place::new(plan, index),
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

impl Layer for MovePixels {
    fn forward(&mut self, pass: &mut Pass) {
        let first = self.place.output.first();
        self.place.forward(pass, |x, y| {
            self.moves.run(1, (x, &mut y[first..]), 0.0, |_| {});
        });
    }

    fn backward(&mut self, pass: &mut Pass) {
        self.place.backward(pass, |_, dy, grad| {
            self.each(|to, from| grad[from] += dy[to]);
        });
    }
}
