//! Attention in f32: two products and a softmax for each head, a block of queries at a time.
//!
//! The products are those of linear layers whose weights are the keys, and the values turned; sums are taken in one order
//! whatever the instruction set.

use crate::exec::kernel::{Call, Kernel};
use crate::exec::scratch::Scratch;
use crate::lower::{Layout, Plan};
use crate::ops;
use lowbit_kernels::elementwise::exp_rows_f32;
use lowbit_kernels::geometry::SLACK;
use lowbit_kernels::{ConvGeometry, Isa, WeightShape, conv_f32};

/// Queries of a block: whole tiles on every ISA, and few enough that their weights of all keys stay in cache.
const BLOCK: usize = 84;

pub(super) struct Attention {
    /// Queries, keys, values.
    inputs: [Layout; 3],
    output: Layout,
    attention: ops::Attention,
    relu: bool,
    isa: Isa,
}

/// The pixels that attend each other: those of one place within patches.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    start: [usize; 2],
    step: [usize; 2],
}

impl Group {
    /// Those of every place within patches of this size.
    pub(crate) fn all(patch: [usize; 2]) -> impl Iterator<Item = Self> {
        let starts = (0..patch[0]).flat_map(move |y| (0..patch[1]).map(move |x| [y, x]));
        starts.map(move |start| Self { start, step: patch })
    }

    /// How many pixels of an image each of them has.
    pub(crate) fn len_of(patch: [usize; 2], layout: &Layout) -> usize {
        (layout.h / patch[0]) * (layout.w / patch[1])
    }

    /// Where the one of this number begins, from the image's first pixel.
    pub(crate) fn pixel(&self, layout: &Layout, number: usize) -> usize {
        let columns = layout.w / self.step[1];
        let y = number / columns * self.step[0] + self.start[0];
        let x = number % columns * self.step[1] + self.start[1];
        y * layout.row_stride + x * layout.c
    }
}

/// What one thread needs for one head of one group.
struct Buffers<'a> {
    keys: &'a mut [f32],
    values: &'a mut [f32],
    queries: &'a mut [f32],
    scores: &'a mut [f32],
    weights: &'a mut [f32],
    totals: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Buffers<'_> {
    /// Calls `f` with buffers for so many keys, of so many channels.
    fn with<R>(keys: usize, [d, e]: [usize; 2], f: impl FnOnce(&mut Buffers<'_>) -> R) -> R {
        let lens = [
            keys * d,
            keys * e,
            BLOCK * d + SLACK,
            BLOCK * keys + SLACK,
            BLOCK * keys + SLACK,
            BLOCK,
            BLOCK * e,
        ];
        f32::with(lens.iter().sum(), |mut rest| {
            // What products read beyond their inputs must be numbers.
            rest.fill(0.0);
            let parts = lens.map(|len| {
                let part;
                (part, rest) = std::mem::take(&mut rest).split_at_mut(len);
                part
            });
            let [keys, values, queries, scores, weights, totals, sums] = parts;
            f(&mut Buffers {
                keys,
                values,
                queries,
                scores,
                weights,
                totals,
                sums,
            })
        })
    }
}

/// The keys and the values of one head, as weights of two products.
struct Packed {
    keys: conv_f32::PackedWeights,
    values: conv_f32::PackedWeights,
}

impl Attention {
    pub(super) fn new(plan: &Plan, index: usize, attention: ops::Attention, isa: Isa) -> Self {
        let layer = plan.exec.layer(&plan.exec.steps[index]);
        Self {
            inputs: [0, 1, 2].map(|which| plan.input(index, which)),
            output: plan.output(index),
            attention,
            relu: layer.epilogue.relu,
            isa,
        }
    }

    /// Channels of a head: of queries and keys, of values.
    fn channels(&self) -> [usize; 2] {
        [self.inputs[0].c, self.inputs[2].c].map(|c| c / self.attention.heads)
    }

    /// Lays out the keys and the values of a head; images begin with their first pixel.
    fn pack(
        &self,
        packed: &mut Packed,
        buffers: &mut Buffers<'_>,
        (group, head): (&Group, usize),
        [keys, values]: [&[f32]; 2],
    ) {
        let [d, e] = self.channels();
        let [_, of_keys, of_values] = &self.inputs;
        for (number, to) in buffers.keys.chunks_exact_mut(d).enumerate() {
            to.copy_from_slice(&keys[group.pixel(of_keys, number) + head * d..][..d]);
        }
        for (number, to) in buffers.values.chunks_exact_mut(e).enumerate() {
            to.copy_from_slice(&values[group.pixel(of_values, number) + head * e..][..e]);
        }
        packed.keys.repack(buffers.keys);
        // A row of them for each key, as a layer's weights stand for its gradient: nothing is turned.
        packed.values.repack_backward(buffers.values);
    }

    /// Computes a block of queries, from number `first` on.
    fn block(
        &self,
        packed: &Packed,
        buffers: &mut Buffers<'_>,
        (group, head): (&Group, usize),
        [first, count]: [usize; 2],
        (queries, out): (&[f32], &mut [f32]),
    ) {
        let [d, e] = self.channels();
        let of_queries = &self.inputs[0];
        let keys = packed.keys.shape().out_channels;
        for (number, to) in buffers.queries[..count * d].chunks_exact_mut(d).enumerate() {
            let from = group.pixel(of_queries, first + number) + head * d;
            for (to, &x) in to.iter_mut().zip(&queries[from..][..d]) {
                *to = x * self.attention.scale;
            }
        }
        let plain = conv_f32::Epilogue::default();
        let product = |weights: &conv_f32::PackedWeights, input: &[f32], out: &mut [f32]| {
            let shape = weights.shape();
            let geometry = ConvGeometry::linear(count, shape.in_channels, shape.out_channels);
            conv_f32::conv(weights, &geometry, 0..1, input, &plain, out);
        };
        product(&packed.keys, buffers.queries, buffers.scores);
        let [scores, weights] = [&mut *buffers.scores, &mut *buffers.weights];
        let (scores, weights) = (&mut scores[..count * keys], &mut weights[..count * keys]);
        let totals = &mut buffers.totals[..count];
        exp_rows_f32(self.isa, keys, scores, weights, totals);
        product(&packed.values, buffers.weights, buffers.sums);
        let sums = buffers.sums.chunks_exact(e);
        for (number, (total, sums)) in totals.iter().zip(sums).enumerate() {
            let to = group.pixel(&self.output, first + number) + head * e;
            for (to, &sum) in out[to..][..e].iter_mut().zip(sums) {
                let mean = sum / total;
                *to = if self.relu { mean.max(0.0) } else { mean };
            }
        }
    }
}

impl Kernel for Attention {
    fn run(&self, call: Call<'_>) {
        let images = [0, 1, 2].map(|which| call.inputs.f32(which));
        let out = call.out.f32();
        let [d, e] = self.channels();
        let patch = self.attention.patch;
        let [queries, keys] = [0, 1].map(|which| Group::len_of(patch, &self.inputs[which]));
        let packed = |out_channels: usize, in_channels: usize| {
            let shape = WeightShape::linear(out_channels, in_channels);
            conv_f32::PackedWeights::pack(self.isa, &vec![0.0; shape.len()], shape)
        };
        let mut packed = Packed {
            keys: packed(keys, d),
            values: packed(e, keys),
        };
        Buffers::with(keys, [d, e], |buffers| {
            for image in 0..call.images {
                let from = |which: usize| {
                    let layout: &Layout = &self.inputs[which];
                    &images[which][image * layout.image_len + layout.first()..]
                };
                let out = &mut out[image * self.output.image_len..];
                for group in Group::all(self.attention.patch) {
                    for head in 0..self.attention.heads {
                        let place = (&group, head);
                        self.pack(&mut packed, buffers, place, [from(1), from(2)]);
                        for first in (0..queries).step_by(BLOCK) {
                            let block = [first, BLOCK.min(queries - first)];
                            let values = (from(0), &mut *out);
                            self.block(&packed, buffers, place, block, values);
                        }
                    }
                }
            }
        });
    }
}
