//! AdaRound: whether each weight is rounded up or down is learned, so that the layer's results (behind its activation) come
//! nearest to those of FP32 (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", equations 20
//! to 25). The layer reads what the quantized layers before it give.
//!
//! What differs from the paper, which learns for 10,000 steps where a laptop's minutes allow some 500: each channel's loss is
//! counted in that of rounding to the nearest, so that the push towards a decision weighs the same in layers of small and of
//! large numbers; the push grows a thousandfold, so that all weights are decided in the end; and where the bias is corrected
//! afterwards, it is corrected in every step, so that rounding need not repair means.
//!
//! Output channels do not depend on each other: blocks of them are learned by themselves, on as many threads as there are,
//! with the same result. A channel whose learned rounding is no better than that to the nearest keeps the latter.

use crate::bits::WeightBits;
use crate::exec::Patches;
use crate::graph::Epilogue;
use crate::pool::for_each_chunk;
use crate::quant::QuantizedLayer;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, conv_f32};

/// Pixels that are drawn from the batch, at most.
const PIXELS: usize = 4096;

/// Pixels of one step.
const BATCH: usize = 256;

/// Output channels that are learned at once: a panel of the kernels'.
const BLOCK: usize = 16;

/// Below 0 and above 1, so that both can be reached (equation 23: ζ = 1.1, γ = −0.1).
const STRETCH: f32 = 1.2;
const BELOW: f32 = 0.1;

const RATE: f32 = 0.05;
/// What an undecided channel costs when the push begins, as a share of the loss of rounding to the nearest; and how many times
/// as much at the end.
const UNDECIDED: f32 = 0.1;
const GROWTH: f32 = 1000.0;
/// Share of the steps without a push towards a decision.
const WARM_UP: f32 = 0.2;

/// A layer whose rounding is learned.
pub(super) struct Rounding<'a> {
    pub(super) kernel: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) epilogue: &'a Epilogue,
    /// The mean input at each tap (`[groups, taps]`) of FP32 and of the quantized model, where the bias is corrected by them.
    pub(super) means: Option<&'a [Vec<f64>; 2]>,
    pub(super) steps: u32,
    pub(super) isa: Isa,
}

/// What all blocks of a group share.
struct Sample {
    /// What FP32 gives, `[pixels, channels of the group]`, behind the activation.
    wanted: Vec<f32>,
    /// What the quantized layer reads, `[pixels, taps]`.
    read: AlignedBuffer<f32>,
    pixels: usize,
    taps: usize,
    /// The mean at each tap of the quantized layer; zeros where the bias is not corrected.
    mean: Vec<f32>,
    /// The bias of each channel of the group, and what the mean input of FP32 adds to it.
    bias: Vec<f32>,
}

impl Rounding<'_> {
    /// Learns the rounding of `layer`, whose scales are set. `patches` are those of FP32 and of the quantized model;
    /// `index` numbers the layer.
    pub(super) fn learn(
        &self,
        layer: &mut QuantizedLayer,
        index: usize,
        [float, quantized]: [&Patches<'_>; 2],
    ) {
        let lattice = Lattice::of(layer.bits);
        // One bit has no direction to choose, and sixteen bits have no error to repair.
        if layer.bits.get() == 1 || layer.bits.get() == 16 {
            return;
        }
        let (taps, groups) = (float.taps(), float.groups);
        let channels = self.bias.len() / groups;
        let drawn = float.draw("adaround", index, PIXELS);
        // All groups at once where they are small, so that each thread has something to do.
        let blocks = channels.div_ceil(BLOCK);
        let together = match channels {
            1..BLOCK => BLOCK.min(groups),
            _ => 1,
        };
        for first in (0..groups).step_by(together) {
            let count = together.min(groups - first);
            let samples: Vec<Sample> = (first..first + count)
                .map(|group| self.sample(group, &drawn, [float, quantized]))
                .collect();
            let of_groups = first * channels..(first + count) * channels;
            let scale = &layer.scale[of_groups.clone()];
            let kernel = &self.kernel[of_groups.start * taps..of_groups.end * taps];
            let integers = &mut layer.weights[of_groups.start * taps..of_groups.end * taps];
            if blocks == 1 {
                for_each_chunk(integers, channels * taps, count, |at, integers| {
                    let own = at * channels..(at + 1) * channels;
                    let block = Block {
                        kernel: &kernel[own.start * taps..own.end * taps],
                        scale: &scale[own],
                        lattice,
                        first: 0,
                    };
                    self.block(&block, &samples[at], integers);
                });
                continue;
            }
            for_each_chunk(integers, BLOCK * taps, blocks, |at, integers| {
                let own = at * BLOCK..at * BLOCK + integers.len() / taps;
                let block = Block {
                    kernel: &kernel[own.start * taps..own.end * taps],
                    scale: &scale[own.clone()],
                    lattice,
                    first: own.start,
                };
                self.block(&block, &samples[0], integers);
            });
        }
    }

    fn sample(
        &self,
        group: usize,
        drawn: &[usize],
        [float, quantized]: [&Patches<'_>; 2],
    ) -> Sample {
        let (taps, pixels) = (float.taps(), drawn.len());
        let channels = self.bias.len() / float.groups;
        let mut read = AlignedBuffer::zeroed(pixels * taps);
        float.gather(group, drawn, &mut read);
        let kernel = &self.kernel[group * channels * taps..][..channels * taps];
        let shape = WeightShape::linear(channels, taps);
        let packed = conv_f32::PackedWeights::pack(self.isa, kernel, shape);
        let geometry = ConvGeometry::linear(pixels, taps, channels);
        let epilogue = conv_f32::Epilogue {
            bias: Some(&self.bias[group * channels..][..channels]),
            relu: self.epilogue.relu,
            ceiling: self.epilogue.ceiling,
        };
        let mut wanted = vec![0.0; pixels * channels];
        conv_f32::conv(
            &packed,
            &geometry,
            0..1,
            read.with_slack(),
            &epilogue,
            &mut wanted,
        );
        quantized.gather(group, drawn, &mut read);
        let mut bias = self.bias[group * channels..][..channels].to_vec();
        let mut mean = vec![0.0; taps];
        if let Some([float, quantized]) = self.means {
            let of_group = group * taps..(group + 1) * taps;
            for (bias, weights) in bias.iter_mut().zip(kernel.chunks_exact(taps)) {
                let pairs = weights.iter().zip(&float[of_group.clone()]);
                *bias += pairs.map(|(&w, x)| f64::from(w) * x).sum::<f64>() as f32;
            }
            let pairs = mean.iter_mut().zip(&quantized[of_group]);
            pairs.for_each(|(mean, &x)| *mean = x as f32);
        }
        Sample {
            wanted,
            read,
            pixels,
            taps,
            mean,
            bias,
        }
    }

    /// Learns one block of output channels; `integers` are those of rounding to the nearest, and stay where nothing better
    /// is found.
    fn block(&self, block: &Block<'_>, sample: &Sample, integers: &mut [i16]) {
        let mut learner = Learner::new(self, block, sample);
        let nearest = learner.errors(integers);
        learner.count_in(&nearest);
        for step in 0..self.steps {
            learner.step(step as usize, self.steps as usize);
        }
        let learned = learner.decided();
        let errors = nearest.iter().zip(learner.errors(&learned));
        let channels = integers.chunks_exact_mut(sample.taps);
        for ((nearest, found), (integers, learned)) in
            errors.zip(channels.zip(learned.chunks_exact(sample.taps)))
        {
            if found < *nearest {
                integers.copy_from_slice(learned);
            }
        }
    }
}

/// The integers of a width: `start + stride·n`, up to a limit.
#[derive(Clone, Copy)]
struct Lattice {
    stride: f32,
    start: f32,
    limit: f32,
}

impl Lattice {
    fn of(bits: WeightBits) -> Self {
        let (stride, start) = match bits.is_odd() {
            true => (2.0, 1.0),
            false => (1.0, 0.0),
        };
        Self {
            stride,
            start,
            limit: bits.magnitude_max().into(),
        }
    }

    /// The integer that is not above `x`, without a limit.
    fn floor(self, x: f32) -> f32 {
        self.start + self.stride * ((x - self.start) / self.stride).floor()
    }

    /// Between an integer and the next, cut at the limits.
    fn at(self, floor: f32, rest: f32) -> f32 {
        (floor + self.stride * rest).clamp(-self.limit, self.limit)
    }
}

/// Some output channels of a group.
struct Block<'a> {
    kernel: &'a [f32],
    scale: &'a [f32],
    lattice: Lattice,
    /// The first of the group's channels.
    first: usize,
}

/// The state of learning one block.
struct Learner<'a> {
    rounding: &'a Rounding<'a>,
    block: &'a Block<'a>,
    sample: &'a Sample,
    packed: conv_f32::PackedWeights,
    /// Per weight: the integer below it, and where between it and the next it is put.
    floor: Vec<f32>,
    at: Vec<f32>,
    /// The sigmoid of that.
    sigmoid: Vec<f32>,
    /// One over each channel's squared error per pixel when its weights are rounded to the nearest.
    unit: Vec<f32>,
    /// Adam's moments.
    mean: Vec<f32>,
    square: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    results: Vec<f32>,
    grad_results: AlignedBuffer<f32>,
    grad_weights: Vec<f32>,
}

impl<'a> Learner<'a> {
    fn new(rounding: &'a Rounding<'a>, block: &'a Block<'a>, sample: &'a Sample) -> Self {
        let (taps, channels) = (sample.taps, block.scale.len());
        let batch = BATCH.min(sample.pixels);
        let shape = WeightShape::linear(channels, taps);
        let scales = block
            .scale
            .iter()
            .flat_map(|&s| std::iter::repeat_n(s, taps));
        let steps: Vec<f32> = block
            .kernel
            .iter()
            .zip(scales)
            .map(|(w, s)| w / s)
            .collect();
        let lattice = block.lattice;
        let floor: Vec<f32> = steps.iter().map(|&x| lattice.floor(x)).collect();
        let at = steps.iter().zip(&floor).map(|(x, floor)| {
            // Where the stretched sigmoid gives the weight itself.
            let rest = ((x - floor) / lattice.stride).clamp(0.0, 1.0);
            -(STRETCH / (rest + BELOW) - 1.0).ln()
        });
        Self {
            rounding,
            block,
            sample,
            packed: conv_f32::PackedWeights::pack(rounding.isa, block.kernel, shape),
            at: at.collect(),
            floor,
            sigmoid: vec![0.0; taps * channels],
            unit: vec![0.0; channels],
            mean: vec![0.0; taps * channels],
            square: vec![0.0; taps * channels],
            weights: vec![0.0; taps * channels],
            bias: vec![0.0; channels],
            results: vec![0.0; batch * channels],
            grad_results: AlignedBuffer::zeroed(batch * channels),
            grad_weights: vec![0.0; taps * channels],
        }
    }

    /// Runs the layer with `self.weights` over pixels of the sample, before its activation.
    fn forward(&mut self, first: usize, count: usize) {
        let (taps, channels) = (self.sample.taps, self.block.scale.len());
        let geometry = ConvGeometry::linear(count, taps, channels);
        let epilogue = conv_f32::Epilogue {
            bias: Some(&self.bias),
            ..conv_f32::Epilogue::default()
        };
        let read = &self.sample.read.with_slack()[first * taps..];
        let out = &mut self.results[..count * channels];
        conv_f32::conv(&self.packed, &geometry, 0..1, read, &epilogue, out);
    }

    /// Packs `self.weights`, and corrects the bias by them.
    fn take_weights(&mut self) {
        self.packed.repack(&self.weights);
        let (first, mean) = (self.block.first, &self.sample.mean);
        let channels = self.weights.chunks_exact(self.sample.taps);
        for ((bias, weights), whole) in self
            .bias
            .iter_mut()
            .zip(channels)
            .zip(&self.sample.bias[first..])
        {
            let pairs = weights.iter().zip(mean);
            *bias = whole - pairs.map(|(w, x)| w * x).sum::<f32>();
        }
    }

    /// Takes each channel's squared error as the unit of its loss.
    fn count_in(&mut self, errors: &[f64]) {
        let pixels = self.sample.pixels as f64;
        for (unit, &error) in self.unit.iter_mut().zip(errors) {
            *unit = match error > 0.0 {
                true => (pixels / error).min(f64::from(f32::MAX)) as f32,
                false => 0.0,
            };
        }
    }

    fn wanted(&self, pixel: usize) -> &'a [f32] {
        let channels = self.sample.wanted.len() / self.sample.pixels;
        &self.sample.wanted[pixel * channels + self.block.first..][..self.block.scale.len()]
    }

    fn activated(&self, x: f32) -> f32 {
        let epilogue = self.rounding.epilogue;
        let x = if epilogue.relu { x.max(0.0) } else { x };
        epilogue.ceiling.map_or(x, |ceiling| x.min(ceiling))
    }

    /// The squared error of each channel with these integers, over the whole sample.
    fn errors(&mut self, integers: &[i16]) -> Vec<f64> {
        let channels = self.block.scale.len();
        for (c, (weights, integers)) in self
            .weights
            .chunks_exact_mut(self.sample.taps)
            .zip(integers.chunks_exact(self.sample.taps))
            .enumerate()
        {
            let scale = self.block.scale[c];
            let pairs = weights.iter_mut().zip(integers);
            pairs.for_each(|(w, &q)| *w = f32::from(q) * scale);
        }
        self.take_weights();
        let mut errors = vec![0.0; channels];
        let batch = self.results.len() / channels;
        for first in (0..self.sample.pixels).step_by(batch) {
            let count = batch.min(self.sample.pixels - first);
            self.forward(first, count);
            for (at, row) in self.results[..count * channels]
                .chunks_exact(channels)
                .enumerate()
            {
                let pairs = row.iter().zip(self.wanted(first + at));
                for (error, (&x, &y)) in errors.iter_mut().zip(pairs) {
                    *error += f64::from(self.activated(x) - y).powi(2);
                }
            }
        }
        errors
    }

    fn decided(&self) -> Vec<i16> {
        let lattice = self.block.lattice;
        let pairs = self.floor.iter().zip(&self.at);
        // The stretched sigmoid is ½ where the sigmoid is.
        let up = |at: f32| if at >= 0.0 { 1.0 } else { 0.0 };
        pairs
            .map(|(&floor, &at)| lattice.at(floor, up(at)) as i16)
            .collect()
    }

    fn step(&mut self, step: usize, steps: usize) {
        let (taps, channels) = (self.sample.taps, self.block.scale.len());
        let batch = self.results.len() / channels;
        let lattice = self.block.lattice;
        for (index, w) in self.weights.iter_mut().enumerate() {
            let sigmoid = 1.0 / (1.0 + (-self.at[index]).exp());
            self.sigmoid[index] = sigmoid;
            let integer = lattice.at(self.floor[index], rest(sigmoid));
            *w = integer * self.block.scale[index / taps];
        }
        self.take_weights();
        let batches = self.sample.pixels / batch;
        let first = step % batches * batch;
        self.forward(first, batch);
        let ceiling = self.rounding.epilogue.ceiling.unwrap_or(f32::INFINITY);
        let floor = match self.rounding.epilogue.relu {
            true => 0.0,
            false => f32::NEG_INFINITY,
        };
        let per_pixel = 2.0 / batch as f32;
        for at in 0..batch {
            let wanted = self.wanted(first + at);
            let row = at * channels..(at + 1) * channels;
            let grads = self.grad_results[row.clone()].iter_mut();
            let results = self.results[row].iter().zip(&self.unit);
            for ((grad, (&x, unit)), &y) in grads.zip(results).zip(wanted) {
                // What the activation cuts off does not move.
                *grad = match x > floor && x < ceiling {
                    true => per_pixel * unit * (x - y),
                    false => 0.0,
                };
            }
        }
        self.grad_weights.fill(0.0);
        let geometry = ConvGeometry::linear(batch, taps, channels);
        let read = &self.sample.read.with_slack()[first * taps..];
        let grads = self.grad_results.with_slack();
        conv_f32::conv_grad_weights(
            self.rounding.isa,
            &geometry,
            read,
            grads,
            &mut self.grad_weights,
        );
        self.correct_gradient(batch);
        self.update(step, steps);
    }

    /// The corrected bias takes back what a weight adds to its channel's mean: as if inputs were counted from their means.
    fn correct_gradient(&mut self, batch: usize) {
        let channels = self.block.scale.len();
        let mut sums = vec![0.0f32; channels];
        for row in self.grad_results[..batch * channels].chunks_exact(channels) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let rows = self.grad_weights.chunks_exact_mut(channels);
        for (row, mean) in rows.zip(&self.sample.mean) {
            row.iter_mut()
                .zip(&sums)
                .for_each(|(grad, sum)| *grad -= sum * mean);
        }
    }

    /// One step of Adam on the loss, and on what pushes towards a decision: `1 − |2h − 1|^β`, with β from 20 down to 2.
    fn update(&mut self, step: usize, steps: usize) {
        let (taps, channels) = (self.sample.taps, self.block.scale.len());
        let done = (step as f32 / steps as f32 - WARM_UP) / (1.0 - WARM_UP);
        let beta = 20.0 - 18.0 * done.clamp(0.0, 1.0);
        let push = match done >= 0.0 {
            true => UNDECIDED / taps as f32 * GROWTH.powf(done),
            false => 0.0,
        };
        let Lattice { stride, limit, .. } = self.block.lattice;
        let number = step as i32 + 1;
        let (unbias_mean, unbias_square) = (1.0 - 0.9f32.powi(number), 1.0 - 0.999f32.powi(number));
        for index in 0..self.at.len() {
            let (c, tap) = (index / taps, index % taps);
            let sigmoid = self.sigmoid[index];
            let stretched = STRETCH * sigmoid - BELOW;
            let rest = rest(sigmoid);
            let integer = self.floor[index] + stride * rest;
            let mut grad = match integer > -limit && integer < limit {
                true => self.grad_weights[tap * channels + c] * stride * self.block.scale[c],
                false => 0.0,
            };
            let side = 2.0 * rest - 1.0;
            if push > 0.0 {
                grad -= push * beta * side.abs().powf(beta - 1.0) * 2.0 * side.signum();
            }
            grad *= match (0.0..=1.0).contains(&stretched) {
                true => STRETCH * sigmoid * (1.0 - sigmoid),
                false => 0.0,
            };
            let mean = &mut self.mean[index];
            *mean = 0.9 * *mean + 0.1 * grad;
            let square = &mut self.square[index];
            *square = 0.999 * *square + 0.001 * grad * grad;
            let rate = RATE / unbias_mean;
            self.at[index] -= rate * *mean / ((*square / unbias_square).sqrt() + 1e-8);
        }
    }
}

/// Where a weight is put between the integers beside it.
fn rest(sigmoid: f32) -> f32 {
    (STRETCH * sigmoid - BELOW).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;
