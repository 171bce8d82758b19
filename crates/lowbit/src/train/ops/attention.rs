//! Attention (Vaswani et al. 2017), with ReLU: for each head of each group of pixels `O = P·V` with `P = softmax(scale·Q·Kᵀ)`.
//!
//! Backwards, with the gradient `G` of `O`: that of `V` is `Pᵀ·G`, that of the scores `S = P∘(G·Vᵀ − rows)`, `rows` being each
//! row's sum of `P∘(G·Vᵀ)`, those of `Q` and `K` `scale·S·K` and `scale·Sᵀ·Q`. `P` is computed again and not kept, as Dao et al.
//! 2022 (FlashAttention) do.

use super::{Layer, Pass};
use crate::exec::AttentionGroup as Group;
use crate::graph::Step;
use crate::lower::{Layout, Plan};
use crate::ops;
use lowbit_kernels::elementwise::exp_rows_f32;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, conv_f32};
use rayon::prelude::*;

pub(super) struct Attention {
    index: usize,
    step: Step,
    attention: ops::Attention,
    /// Of queries, keys and values, and of the result.
    layouts: [Layout; 4],
    /// Gradients of queries, keys and values, dense.
    grads: [Vec<f32>; 3],
}

/// Matrices of one head of one group, a row for each pixel.
struct Head {
    isa: Isa,
    scale: f32,
    /// Pixels of queries and of keys.
    pixels: [usize; 2],
    /// Channels of queries and keys, and of values.
    channels: [usize; 2],
    /// Queries times the scale, keys, values.
    q: AlignedBuffer<f32>,
    k: AlignedBuffer<f32>,
    v: AlignedBuffer<f32>,
    /// Weights of the keys for each query.
    p: AlignedBuffer<f32>,
}

fn matrix(rows: usize, columns: usize) -> AlignedBuffer<f32> {
    AlignedBuffer::zeroed(rows * columns)
}

impl Head {
    fn new(attention: &Attention, isa: Isa) -> Self {
        let [of_q, of_k, of_v, _] = &attention.layouts;
        let ops::Attention {
            heads,
            scale,
            patch,
        } = attention.attention;
        let pixels @ [queries, keys] = [of_q, of_k].map(|layout| Group::len_of(patch, layout));
        let channels @ [d, e] = [of_q.c / heads, of_v.c / heads];
        Self {
            isa,
            scale,
            pixels,
            channels,
            q: matrix(queries, d),
            k: matrix(keys, d),
            v: matrix(keys, e),
            p: matrix(queries, keys),
        }
    }

    /// `a·bᵀ`, `a` having `rows` rows and `b` as many as the result has columns.
    fn times_transposed(&self, a: &AlignedBuffer<f32>, b: &[f32], rows: usize, out: &mut [f32]) {
        let (inner, columns) = (a.len() / rows, out.len() / rows);
        let packed =
            conv_f32::PackedWeights::pack(self.isa, b, WeightShape::linear(columns, inner));
        self.product(&packed, a, [rows, inner, columns], out);
    }

    /// `a·b`, `a` having `rows` rows.
    fn times(&self, a: &AlignedBuffer<f32>, b: &[f32], rows: usize, out: &mut [f32]) {
        let (inner, columns) = (a.len() / rows, out.len() / rows);
        let packed = conv_f32::PackedWeights::pack_backward(
            self.isa,
            b,
            WeightShape::linear(inner, columns),
        );
        self.product(&packed, a, [rows, inner, columns], out);
    }

    fn product(
        &self,
        packed: &conv_f32::PackedWeights,
        a: &AlignedBuffer<f32>,
        [rows, inner, columns]: [usize; 3],
        out: &mut [f32],
    ) {
        let geometry = ConvGeometry::linear(rows, inner, columns);
        let plain = conv_f32::Epilogue::default();
        conv_f32::conv(packed, &geometry, 0..1, a.with_slack(), &plain, out);
    }

    /// `aᵀ·b`, both having `rows` rows.
    fn transposed_times(
        &self,
        a: &AlignedBuffer<f32>,
        b: &AlignedBuffer<f32>,
        rows: usize,
    ) -> AlignedBuffer<f32> {
        let (inner, columns) = (a.len() / rows, b.len() / rows);
        let mut out = matrix(inner, columns);
        let geometry = ConvGeometry::linear(rows, inner, columns);
        let (a, b) = (a.with_slack(), b.with_slack());
        conv_f32::conv_grad_weights(self.isa, &geometry, a, b, &mut out);
        out
    }

    /// Sets the weights of the keys.
    fn attend(&mut self) {
        let [queries, keys] = self.pixels;
        let mut scores = matrix(queries, keys);
        self.times_transposed(&self.q, &self.k, queries, &mut scores);
        let mut totals = vec![0.0; queries];
        exp_rows_f32(self.isa, keys, &mut scores, &mut self.p, &mut totals);
        for (weights, total) in self.p.chunks_exact_mut(keys).zip(totals) {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
    }

    /// The result, `[queries, e]`.
    fn result(&self) -> AlignedBuffer<f32> {
        let mut out = matrix(self.pixels[0], self.channels[1]);
        self.times(&self.p, &self.v, self.pixels[0], &mut out);
        out
    }

    /// The gradients of queries, keys and values from that of the result.
    fn gradients(&self, dy: &AlignedBuffer<f32>) -> [AlignedBuffer<f32>; 3] {
        let [queries, keys] = self.pixels;
        let of_values = self.transposed_times(&self.p, dy, queries);
        let mut of_scores = matrix(queries, keys);
        self.times_transposed(dy, &self.v, queries, &mut of_scores);
        let rows = of_scores
            .chunks_exact_mut(keys)
            .zip(self.p.chunks_exact(keys));
        for (scores, weights) in rows {
            let pairs = scores.iter().zip(weights);
            let along: f32 = pairs.map(|(score, weight)| score * weight).sum();
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score = weight * (*score - along);
            }
        }
        let mut of_queries = matrix(queries, self.channels[0]);
        self.times(&of_scores, &self.k, queries, &mut of_queries);
        of_queries.iter_mut().for_each(|x| *x *= self.scale);
        // The queries are multiplied by the scale already.
        let of_keys = self.transposed_times(&of_scores, &self.q, queries);
        [of_queries, of_keys, of_values]
    }
}

impl Attention {
    pub(super) fn new(plan: &Plan, index: usize, attention: ops::Attention) -> Self {
        let step = plan.exec.program.steps()[index].clone();
        let [q, k, v] = [0, 1, 2].map(|which| plan.input(index, which));
        Self {
            index,
            step,
            attention,
            layouts: [q, k, v, plan.output(index)],
            grads: Default::default(),
        }
    }

    /// All heads of all groups.
    fn places(&self) -> impl Iterator<Item = (Group, usize)> + use<> {
        let heads = self.attention.heads;
        Group::all(self.attention.patch)
            .flat_map(move |group| (0..heads).map(move |head| (group, head)))
    }

    /// Calls `each(where a pixel's channels of the head begin, the row of a matrix that is theirs)`, places counting from an image's
    /// first pixel in `layout`.
    fn each_row<'a, T>(
        (group, head): &(Group, usize),
        layout: &Layout,
        rows: impl Iterator<Item = T> + 'a,
        channels: usize,
        mut each: impl FnMut(usize, T),
    ) {
        for (number, row) in rows.enumerate() {
            each(group.pixel(layout, number) + head * channels, row);
        }
    }

    /// Reads queries, keys and values, which begin with an image's first pixel each.
    fn read(&self, place: &(Group, usize), values: [&[f32]; 3], head: &mut Head) {
        let [d, e] = head.channels;
        let to = [(&mut head.q, d), (&mut head.k, d), (&mut head.v, e)];
        for (((to, channels), layout), values) in to.into_iter().zip(&self.layouts).zip(values) {
            let rows = to.chunks_exact_mut(channels);
            Self::each_row(place, layout, rows, channels, |at, row| {
                row.copy_from_slice(&values[at..][..channels]);
            });
        }
        head.q.iter_mut().for_each(|x| *x *= self.attention.scale);
    }

    /// An image's queries, keys and values.
    fn inputs<'a>(&self, values: &'a [AlignedBuffer<f32>], image: usize) -> [&'a [f32]; 3] {
        [0, 1, 2].map(|which| {
            let layout = &self.layouts[which];
            &values[self.step.inputs[which]][image * layout.image_len + layout.first()..]
        })
    }
}

impl Layer for Attention {
    fn forward(&mut self, pass: &mut Pass) {
        let (to, isa, relu) = (self.index + 1, pass.isa, self.step.epilogue.relu);
        let output = self.layouts[3];
        let (earlier, later) = pass.values.split_at_mut(to);
        later[0][..pass.count * output.image_len]
            .par_chunks_mut(output.image_len)
            .enumerate()
            .for_each(|(image, out)| {
                let mut head = Head::new(self, isa);
                let out = &mut out[output.first()..];
                for place in self.places() {
                    self.read(&place, self.inputs(earlier, image), &mut head);
                    head.attend();
                    let (result, e) = (head.result(), head.channels[1]);
                    Self::each_row(&place, &output, result.chunks_exact(e), e, |at, row| {
                        for (to, &x) in out[at..].iter_mut().zip(row) {
                            *to = if relu { x.max(0.0) } else { x };
                        }
                    });
                }
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let (to, isa, relu) = (self.index + 1, pass.isa, self.step.epilogue.relu);
        pass.quantize_backward(to);
        let dense = self.layouts.map(|layout| {
            let extents = crate::Shape::new(layout.h, layout.w, layout.c);
            Layout::new(extents, [0; 4])
        });
        let mut grads = std::mem::take(&mut self.grads);
        for (grads, layout) in grads.iter_mut().zip(&dense) {
            grads.resize(pass.count * layout.dense_len(), 0.0);
        }
        let [of_q, of_k, of_v] = &mut grads;
        let (values, dys, output) = (&pass.values, &pass.grads[to], self.layouts[3]);
        of_q.par_chunks_mut(dense[0].dense_len())
            .zip(of_k.par_chunks_mut(dense[1].dense_len()))
            .zip(of_v.par_chunks_mut(dense[2].dense_len()))
            .enumerate()
            .for_each(|(image, ((of_q, of_k), of_v))| {
                let mut head = Head::new(self, isa);
                let ([d, e], [queries, _]) = (head.channels, head.pixels);
                let dys = &dys[image * dense[3].dense_len()..];
                let y = &values[to][image * output.image_len + output.first()..];
                let mut dy = matrix(queries, e);
                for place in self.places() {
                    self.read(&place, self.inputs(values, image), &mut head);
                    head.attend();
                    Self::each_row(&place, &dense[3], dy.chunks_exact_mut(e), e, |at, row| {
                        row.copy_from_slice(&dys[at..][..e]);
                    });
                    if relu {
                        Self::each_row(&place, &output, dy.chunks_exact_mut(e), e, |at, row| {
                            let cut = row.iter_mut().zip(&y[at..]).filter(|(_, y)| **y <= 0.0);
                            cut.for_each(|(dy, _)| *dy = 0.0);
                        });
                    }
                    let parts = [&mut *of_q, &mut *of_k, &mut *of_v].into_iter();
                    let parts = parts.zip(head.gradients(&dy)).zip([d, d, e]).zip(&dense);
                    for (((to, part), channels), layout) in parts {
                        let rows = part.chunks_exact(channels);
                        Self::each_row(&place, layout, rows, channels, |at, row| {
                            to[at..][..channels].copy_from_slice(row);
                        });
                    }
                }
            });
        for (&from, own) in self.step.inputs.iter().zip(&grads) {
            let accumulate = std::mem::replace(&mut pass.written[from], true);
            for (grad, own) in pass.grads[from].iter_mut().zip(own) {
                *grad = if accumulate { *grad + own } else { *own };
            }
        }
        self.grads = grads;
    }
}
