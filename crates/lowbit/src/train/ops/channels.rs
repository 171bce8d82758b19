//! Operators that move channels: concatenation, slices, shuffles.

use super::{Layer, Pass};
use crate::graph::{Op, Step};
use crate::lower::{Layout, Plan};
use rayon::prelude::*;

/// Neighboring channels that stay together.
struct Run {
    /// Which of the inputs they come from.
    input: usize,
    from: usize,
    to: usize,
    channels: usize,
}

pub(super) struct MoveChannels {
    index: usize,
    step: Step,
    runs: Vec<Run>,
}

impl MoveChannels {
    /// Of a step that moves channels; none of another one.
    pub(super) fn new(plan: &Plan, index: usize) -> Option<Self> {
        let step = plan.exec.program.steps()[index].clone();
        let channels = step.in_shapes[0].c();
        let runs = match step.op {
            Op::Concat => {
                let mut to = 0;
                let run = |(input, shape): (usize, &crate::Shape)| {
                    to += shape.c();
                    Run {
                        input,
                        from: 0,
                        to: to - shape.c(),
                        channels: shape.c(),
                    }
                };
                step.in_shapes.iter().enumerate().map(run).collect()
            }
            Op::Slice(slice) => vec![Run {
                input: 0,
                from: slice.first,
                to: 0,
                channels: slice.channels,
            }],
            Op::ChannelShuffle(shuffle) => {
                let run = |to| Run {
                    input: 0,
                    from: shuffle.source(to, channels),
                    to,
                    channels: 1,
                };
                (0..channels).map(run).collect()
            }
            _ => return None,
        };
        Some(Self { index, step, runs })
    }
}

impl Layer for MoveChannels {
    fn forward(&mut self, pass: &mut Pass) {
        let to = self.index + 1;
        let inputs: Vec<Layout> = (0..self.step.inputs.len())
            .map(|which| pass.plan.input(self.index, which))
            .collect();
        let output = pass.plan.layouts[to];
        let (earlier, later) = pass.values.split_at_mut(to);
        later[0][..pass.count * output.image_len]
            .par_chunks_mut(output.image_len)
            .enumerate()
            .for_each(|(image, out)| {
                for (row, run) in
                    (0..output.h).flat_map(|row| self.runs.iter().map(move |run| (row, run)))
                {
                    let layout = &inputs[run.input];
                    let from = &earlier[self.step.inputs[run.input]][layout.row(image, row)];
                    let out = &mut out[output.row(0, row)];
                    let pixels = from
                        .chunks_exact(layout.c)
                        .zip(out.chunks_exact_mut(output.c));
                    for (from, out) in pixels {
                        out[run.to..][..run.channels]
                            .copy_from_slice(&from[run.from..][..run.channels]);
                    }
                }
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let to = self.index + 1;
        pass.quantize_backward(to);
        let output = pass.plan.layouts[to];
        let (earlier, later) = pass.grads.split_at_mut(to);
        for (which, &from) in self.step.inputs.iter().enumerate() {
            let input = pass.plan.input(self.index, which);
            let accumulate = std::mem::replace(&mut pass.written[from], true);
            earlier[from][..pass.count * input.dense_len()]
                .par_chunks_mut(input.row_len())
                .zip(later[0].par_chunks(output.row_len()))
                .for_each(|(grad, dy)| {
                    if !accumulate {
                        grad.fill(0.0);
                    }
                    for run in self.runs.iter().filter(|run| run.input == which) {
                        let pixels = grad
                            .chunks_exact_mut(input.c)
                            .zip(dy.chunks_exact(output.c));
                        for (grad, dy) in pixels {
                            let grads = grad[run.from..][..run.channels].iter_mut();
                            grads.zip(&dy[run.to..]).for_each(|(grad, dy)| *grad += dy);
                        }
                    }
                });
        }
    }
}
