//! A whole batch, step by step: for what is found over all images, and for passes that look at layers.

use super::{Clock, Engine, run_rectangle};
use crate::exec::kernel::{Kernel, Out};
use crate::exec::workspace::{Inputs, Workspace};
use crate::lower::Work;
use crate::pool::for_each_chunk;

impl Engine {
    /// Runs the whole batch step by step: what is found at run time is found over all of its images.
    pub(super) fn batch(
        &self,
        images: &[u8],
        count: usize,
        mut clock: Clock<'_>,
        logits: &mut [f32],
    ) {
        let mut workspace = self.begin_batch(images, count);
        for index in 0..self.plan.exec.steps.len() {
            self.timed(clock.as_deref_mut(), index, &mut || {
                self.batch_step(&mut workspace, index, count, logits);
            });
        }
        self.give_back(workspace);
    }

    /// Brings a batch into the first value.
    pub(in crate::exec) fn begin_batch(&self, images: &[u8], count: usize) -> Workspace {
        let mut workspace = self.workspace(&self.slots, count);
        workspace.forget();
        for (number, image) in images.chunks(images.len() / count).enumerate() {
            self.load(&mut workspace, image, number, None);
        }
        workspace
    }

    /// One step for all images of a batch that was begun.
    pub(in crate::exec) fn batch_step(
        &self,
        workspace: &mut Workspace,
        index: usize,
        count: usize,
        logits: &mut [f32],
    ) {
        let step = &self.plan.exec.steps[index];
        match index < self.plan.split && step.work != Work::QuantizeDynamic {
            true => self.batch_of_images(workspace, index, count, logits),
            false => self.chunk_step(workspace, index, count, None, logits),
        }
    }

    /// Takes another kernel for a step.
    pub(in crate::exec) fn replace(&mut self, index: usize, kernel: Box<dyn Kernel>) {
        self.kernels[index] = kernel;
    }

    /// Bytes of the values of one image in a batch that runs step by step.
    pub(in crate::exec) fn bytes_per_image(&self) -> usize {
        self.slots.bytes(1)
    }

    /// One step for all images of a batch, the images over threads.
    fn batch_of_images(
        &self,
        workspace: &mut Workspace,
        index: usize,
        images: usize,
        logits: &mut [f32],
    ) {
        let layout = self.plan.output(index);
        let kernel = self.kernels[index].as_ref();
        self.with_output(workspace, (index, 0), logits, |inputs, out| {
            let one = |number: usize, out: Out<'_>| {
                let inputs = Inputs { number, ..inputs };
                run_rectangle(kernel, inputs, 0..layout.h, 0..layout.w, out);
            };
            match out {
                Out::F32(out) => for_each_chunk(out, layout.image_len, images, |number, out| {
                    one(number, Out::F32(out));
                }),
                Out::U8(out) => for_each_chunk(out, layout.image_len, images, |number, out| {
                    one(number, Out::U8(out));
                }),
            }
        });
    }
}
