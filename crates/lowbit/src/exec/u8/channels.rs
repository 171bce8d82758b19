//! Operators that move channels; their levels move to the result's grid where that is another one.

use super::StepParams;
use crate::exec::kernel::{Call, Kernel, out_row};
use crate::exec::picked::Picked;
use crate::lower::{Layout, Plan};
use lowbit_kernels::{Isa, elementwise};

/// The levels of an input on the result's grid; none where they stay as they are.
pub(super) type Moved = Option<Box<[u8; 256]>>;

pub(super) fn moved(params: &StepParams, which: usize) -> Moved {
    let table = params.moved(which);
    // Inputs hold no level above the highest one, whatever the table makes of those.
    let is_move = (0..=params.bounds[1]).all(|q| table[usize::from(q)] == q);
    (!is_move).then(|| Box::new(table))
}

/// The inputs' channels, one input behind the other.
pub(super) struct Concat {
    inputs: Vec<(Layout, Moved)>,
    output: Layout,
    isa: Isa,
}

impl Concat {
    pub(super) fn new(plan: &Plan, index: usize, params: &StepParams, isa: Isa) -> Self {
        let input = |which: usize| (plan.input(index, which), moved(params, which));
        Self {
            inputs: (0..params.inputs.len()).map(input).collect(),
            output: plan.output(index),
            isa,
        }
    }
}

impl Kernel for Concat {
    fn run(&self, call: Call<'_>) {
        let (inputs, out, c) = (call.inputs, call.out.u8(), self.output.c);
        let mut first = 0;
        for (which, (input, moved)) in self.inputs.iter().enumerate() {
            let from = inputs.u8(which);
            for (image, y) in rows(call.images, &self.output) {
                let pixels = out[out_row(&self.output, image, y)].chunks_exact_mut(c);
                let from = from[input.row(image, y)].chunks_exact(input.c);
                for (to, from) in pixels.zip(from) {
                    let to = &mut to[first..][..input.c];
                    match moved {
                        None => to.copy_from_slice(from),
                        Some(table) => elementwise::lut_u8(self.isa, table, from, to),
                    }
                }
            }
            first += input.c;
        }
    }
}

/// Some of an input's channels, in any order.
pub(super) struct Pick {
    input: Layout,
    output: Layout,
    sources: Picked,
    moved: Moved,
    isa: Isa,
}

impl Pick {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        sources: Vec<usize>,
        params: &StepParams,
        isa: Isa,
    ) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            sources: Picked::new(sources),
            moved: moved(params, 0),
            isa,
        }
    }
}

impl Kernel for Pick {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.u8(0), call.out.u8());
        for (image, y) in rows(call.images, &self.output) {
            let pixels = out[out_row(&self.output, image, y)].chunks_exact_mut(self.output.c);
            let from = input[self.input.row(image, y)].chunks_exact(self.input.c);
            for (to, from) in pixels.zip(from) {
                match &self.moved {
                    None => {
                        let run = |from: &[u8], to: &mut [u8]| to.copy_from_slice(from);
                        self.sources.write(from, to, run, |q| q);
                    }
                    Some(table) => {
                        let run = |from: &[u8], to: &mut [u8]| {
                            elementwise::lut_u8(self.isa, table, from, to);
                        };
                        let each = |q: u8| table[usize::from(q)];
                        self.sources.write(from, to, run, each);
                    }
                }
            }
        }
    }
}

/// The rows of several images.
fn rows(images: usize, layout: &Layout) -> impl Iterator<Item = (usize, usize)> + use<> {
    let h = layout.h;
    (0..images).flat_map(move |image| (0..h).map(move |y| (image, y)))
}
