//! Where the values of a program live while it runs.
//!
//! The leading steps, whose values are images, run image by image, so that their buffers stay in cache; from the first step
//! on whose values are all vectors or maps of a few pixels, steps run over a chunk of images at once, so that weights are read
//! once.

use super::bands::{Band, bands};
use super::forms::{ExecProgram, ExecStep, Work};
use super::layout::{ConvView, Layout, halo};
use crate::graph::GraphError;
use crate::ops::Op;

/// A program, the layouts of its values, and where its chunked part begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) exec: ExecProgram,
    pub(crate) layouts: Vec<Layout>,
    /// Index of the first step that runs over a chunk at once.
    pub(crate) split: usize,
    /// Index of the first step from which on all values are vectors.
    pub(crate) vectors: usize,
    /// Whether a chunk of images of a value is kept, not one image.
    pub(crate) chunked: Vec<bool>,
    /// Whether all steps run over the whole batch, one after the other: where parameters are found in it.
    pub(crate) whole_batch: bool,
    /// Steps that run a few rows at a time, where an image runs by itself.
    pub(crate) bands: Vec<Band>,
}

/// Most pixels of a map whose layers run over a chunk of images: their weights are more than their values.
const FEW_PIXELS: usize = 9;

/// The same for layers that are [heavy](is_heavy).
const MORE_PIXELS: usize = 16;

/// The same for layers that are [intense](is_intense): of several images at once, nothing is multiplied with padding.
const MANY_PIXELS: usize = 64;

/// Products for each number that is read or written from which on layers are intense.
const INTENSE: u64 = 64;

/// By how many times the weights of heavy layers are more than what one image reads and writes there: reading these again for
/// each image costs more than values that leave the nearest caches.
const HEAVY: usize = 16;

impl Plan {
    /// # Errors
    /// [`GraphError`] for a combination of layers that cannot be laid out.
    pub(crate) fn new(exec: ExecProgram) -> Result<Self, GraphError> {
        let steps = &exec.steps;
        let pixels = |value: usize| {
            let shape = exec.values[value].shape;
            shape.h() * shape.w()
        };
        let is_vector = |value: usize| exec.values[value].shape.is_vector();
        // From which step on all values are as `suits` says.
        let from = |suits: &dyn Fn(usize) -> bool| {
            let all = |step: &ExecStep| {
                let reads = step.inputs.iter().all(|&input| suits(input));
                suits(step.output) && (reads || reads_all(&exec, step))
            };
            let last = steps.iter().rposition(|step| !all(step));
            last.map_or(0, |last| last + 1)
        };
        let vectors = from(&is_vector);
        let whole_batch = steps.iter().any(|step| step.work == Work::QuantizeDynamic);
        let split = match whole_batch {
            true => vectors,
            false => {
                let few = from(&|value| pixels(value) <= FEW_PIXELS);
                let more = from(&|value| pixels(value) <= MORE_PIXELS);
                let many = from(&|value| pixels(value) <= MANY_PIXELS);
                if is_intense(&exec, &steps[many..more]) || has_groups(&exec, &steps[many..more]) {
                    many
                } else if is_heavy(&exec, &steps[more..few]) || has_groups(&exec, &steps[more..few])
                {
                    more
                } else {
                    few
                }
            }
        };
        let layout = |value: usize| {
            let readers = steps.iter().filter(|step| step.inputs.contains(&value));
            let paddings = readers
                .filter(|step| matches!(step.work, Work::Operator(_)))
                .map(|step| exec.layer(step).padding());
            Layout::new(exec.values[value].shape, halo(paddings))
        };
        let layouts: Vec<Layout> = (0..exec.values.len()).map(layout).collect();
        for step in steps {
            for (which, &input) in step.inputs.iter().enumerate() {
                let layer = exec.layer(step);
                let is_operator = matches!(step.work, Work::Operator(_));
                let flattened = is_operator && layer.in_shapes[which] != exec.values[input].shape;
                if flattened && !layouts[input].is_dense() {
                    return Err(GraphError::Node {
                        node: layer.name.clone(),
                        reason: "its flattened input is also read by a padded convolution".into(),
                    });
                }
            }
        }
        let mut chunked = vec![whole_batch; exec.values.len()];
        for step in &steps[split..] {
            for &value in step.inputs.iter().chain([&step.output]) {
                chunked[value] = true;
            }
        }
        let bands = match whole_batch {
            true => Vec::new(),
            false => bands(&exec, &layouts, split),
        };
        Ok(Self {
            bands,
            layouts,
            split,
            vectors,
            chunked,
            whole_batch,
            exec,
        })
    }

    /// The same, with all steps over the whole batch, one after the other.
    pub(crate) fn step_by_step(mut self) -> Self {
        self.whole_batch = true;
        self.split = self.vectors;
        self.chunked.fill(true);
        self.bands.clear();
        self
    }

    /// The band that begins with a step.
    pub(crate) fn band_from(&self, step: usize) -> Option<&Band> {
        self.bands.iter().find(|band| band.steps.start == step)
    }

    /// The layout of a step's input as the step sees it: flattened where it is.
    pub(crate) fn input(&self, step: usize, which: usize) -> Layout {
        let step = &self.exec.steps[step];
        let layout = self.layouts[step.inputs[which]];
        match step.work {
            Work::Operator(_) if layout.is_dense() => {
                Layout::new(self.exec.layer(step).in_shapes[which], [0; 4])
            }
            _ => layout,
        }
    }

    /// The layout of a step's result.
    pub(crate) fn output(&self, step: usize) -> Layout {
        self.layouts[self.exec.steps[step].output]
    }

    /// The view of a convolution's step.
    ///
    /// # Panics
    /// If it is another operator's.
    pub(crate) fn conv(&self, step: usize) -> ConvView {
        let layer = self.exec.layer(&self.exec.steps[step]);
        let Op::Conv(conv) = &layer.op else {
            panic!("{} is no convolution", layer.name)
        };
        let (input, output) = (self.input(step, 0), self.output(step));
        ConvView::new(
            conv,
            layer.main_shape,
            layer.epilogue.max_pool,
            &input,
            &output,
        )
    }
}

/// Numbers that some steps read and write for one image.
fn elements(exec: &ExecProgram, steps: &[ExecStep]) -> usize {
    let of_step = |step: &ExecStep| {
        let values = step.inputs.iter().chain([&step.output]);
        values
            .map(|&value| exec.values[value].shape.len())
            .sum::<usize>()
    };
    steps.iter().map(of_step).sum()
}

/// Whether some steps have many weights for their values.
fn is_heavy(exec: &ExecProgram, steps: &[ExecStep]) -> bool {
    let operators = steps
        .iter()
        .filter(|step| matches!(step.work, Work::Operator(_)));
    let weights = operators.filter_map(|step| exec.layer(step).weight_shape());
    weights.map(|shape| shape.len()).sum::<usize>() > HEAVY * elements(exec, steps)
}

/// Whether some steps have many products for their values, so that these may leave the nearest caches.
fn is_intense(exec: &ExecProgram, steps: &[ExecStep]) -> bool {
    let operators = steps
        .iter()
        .filter(|step| matches!(step.work, Work::Operator(_)));
    let products: u64 = operators.map(|step| exec.layer(step).macs).sum();
    products > INTENSE * elements(exec, steps) as u64
}

/// Whether some steps are convolutions of groups that can take several images at once: each is a product for few channels, which
/// fills no tiles with one image's few pixels.
fn has_groups(exec: &ExecProgram, steps: &[ExecStep]) -> bool {
    steps.iter().any(|step| {
        let layer = exec.layer(step);
        match &layer.op {
            Op::Conv(conv) if matches!(step.work, Work::Operator(_)) => {
                let is_depthwise = conv.is_depthwise(layer.in_shapes[0].c());
                let is_even = conv.stride[0] == conv.stride[1] && conv.dilation == [1, 1];
                conv.groups > 1 && !is_depthwise && is_even && !layer.epilogue.max_pool
            }
            _ => false,
        }
    })
}

/// Whether a step reads a whole image as one vector.
fn reads_all(exec: &ExecProgram, step: &ExecStep) -> bool {
    matches!(step.work, Work::Operator(_)) && exec.layer(step).is_linear()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;
    use crate::ops::Conv;
    use crate::shape::Shape;

    /// Where the chunked part of a network begins whose map of `side`² goes through a convolution of groups.
    fn split(side: usize, groups: usize, dilation: usize) -> usize {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut graph = GraphBuilder::new("test", Shape::new(2 * side, 2 * side, 3), &classes);
        let conv = Conv {
            padding: [dilation; 4],
            dilation: [dilation; 2],
            groups,
            ..Conv::same(16, 3)
        };
        let halved = Conv {
            stride: [2; 2],
            ..Conv::same(16, 3)
        };
        let x = graph.add("stem", Op::Conv(halved), &[0]);
        let x = graph.add("groups", Op::Conv(conv), &[x]);
        let x = graph.add("mean", Op::GlobalAvgPool, &[x]);
        graph.add("fc", Op::linear(2), &[x]);
        let program = graph.finish().unwrap().program().unwrap();
        Plan::new(ExecProgram::float(program)).unwrap().split
    }

    #[test]
    fn groups_on_few_pixels_run_over_a_chunk_of_images() {
        for side in [4, 8] {
            assert_eq!(split(side, 4, 1), 1, "{side}");
            // One product, filters of single channels and taps with holes wait for fewer pixels.
            for (groups, dilation) in [(1, 1), (16, 1), (4, 2)] {
                assert!(
                    split(side, groups, dilation) > 1,
                    "{side} {groups} {dilation}"
                );
            }
        }
        // More pixels than that fill tiles by themselves.
        assert!(split(9, 4, 1) > 1);
    }
}
