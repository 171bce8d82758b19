//! Operators that move channels.

use crate::exec::kernel::{Call, Kernel, out_row};
use crate::exec::picked::Picked;
use crate::lower::{Layout, Plan};

/// The inputs' channels, one input behind the other.
pub(super) struct Concat {
    inputs: Vec<Layout>,
    output: Layout,
    relu: bool,
}

impl Concat {
    pub(super) fn new(plan: &Plan, index: usize, relu: bool) -> Self {
        let inputs = 0..plan.exec.steps[index].inputs.len();
        Self {
            inputs: inputs.map(|which| plan.input(index, which)).collect(),
            output: plan.output(index),
            relu,
        }
    }
}

impl Kernel for Concat {
    fn run(&self, call: Call<'_>) {
        let (inputs, out, c) = (call.inputs, call.out.f32(), self.output.c);
        let mut first = 0;
        for (which, input) in self.inputs.iter().enumerate() {
            let from = inputs.f32(which);
            for (image, y) in rows(call.images, &self.output) {
                let pixels = out[out_row(&self.output, image, y)].chunks_exact_mut(c);
                let from = from[input.row(image, y)].chunks_exact(input.c);
                for (to, from) in pixels.zip(from) {
                    to[first..][..input.c].copy_from_slice(from);
                }
            }
            first += input.c;
        }
        if self.relu {
            for (image, y) in rows(call.images, &self.output) {
                let row = &mut out[out_row(&self.output, image, y)];
                row.iter_mut().for_each(|x| *x = x.max(0.0));
            }
        }
    }
}

/// Some of an input's channels, in any order.
pub(super) struct Pick {
    input: Layout,
    output: Layout,
    sources: Picked,
    relu: bool,
}

impl Pick {
    pub(super) fn new(plan: &Plan, index: usize, sources: Vec<usize>, relu: bool) -> Self {
        Self {
            input: plan.input(index, 0),
            output: plan.output(index),
            sources: Picked::new(sources),
            relu,
        }
    }
}

impl Kernel for Pick {
    fn run(&self, call: Call<'_>) {
        let (input, out) = (call.inputs.f32(0), call.out.f32());
        for (image, y) in rows(call.images, &self.output) {
            let pixels = out[out_row(&self.output, image, y)].chunks_exact_mut(self.output.c);
            let from = input[self.input.row(image, y)].chunks_exact(self.input.c);
            for (to, from) in pixels.zip(from) {
                let run = |from: &[f32], to: &mut [f32]| to.copy_from_slice(from);
                self.sources.write(from, to, run, |x| x);
            }
            if self.relu {
                let row = &mut out[out_row(&self.output, image, y)];
                row.iter_mut().for_each(|x| *x = x.max(0.0));
            }
        }
    }
}

/// The rows of several images.
fn rows(images: usize, layout: &Layout) -> impl Iterator<Item = (usize, usize)> + use<> {
    let h = layout.h;
    (0..images).flat_map(move |image| (0..h).map(move |y| (image, y)))
}
