//! Operators that move pixels; their levels move to the result's grid where that is another one.

use super::StepParams;
use super::channels::{Moved, moved};
use crate::exec::kernel::{Call, Kernel};
use crate::exec::moves::{Move, Moves};
use crate::lower::Plan;

pub(super) struct Tokens {
    moves: Moves,
    zero: u8,
    moved: Moved,
}

impl Tokens {
    pub(super) fn new(plan: &Plan, index: usize, how: Move, params: &StepParams) -> Self {
        Self {
            moves: Moves::new(plan, index, how),
            zero: params.output.zero_point,
            moved: moved(params, 0),
        }
    }
}

impl Kernel for Tokens {
    fn run(&self, call: Call<'_>) {
        let values = (call.inputs.u8(0), call.out.u8());
        self.moves.run(call.images, values, self.zero, |out| {
            if let Some(table) = &self.moved {
                out.iter_mut().for_each(|q| *q = table[usize::from(*q)]);
            }
        });
    }
}
