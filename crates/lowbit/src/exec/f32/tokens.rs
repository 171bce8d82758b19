//! Operators that move pixels.

use crate::exec::kernel::{Call, Kernel};
use crate::exec::moves::{Move, Moves};
use crate::lower::Plan;

pub(super) struct Tokens {
    moves: Moves,
    relu: bool,
}

impl Tokens {
    pub(super) fn new(plan: &Plan, index: usize, how: Move, relu: bool) -> Self {
        Self {
            moves: Moves::new(plan, index, how),
            relu,
        }
    }
}

impl Kernel for Tokens {
    fn run(&self, call: Call<'_>) {
        let values = (call.inputs.f32(0), call.out.f32());
        self.moves.run(call.images, values, 0.0, |out| {
            if self.relu {
                out.iter_mut().for_each(|x| *x = x.max(0.0));
            }
        });
    }
}
