//! AdaRound: whether each weight is rounded up or down is learned, so that the layer's results (behind its activation) come
//! nearest to those of FP32 (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", equations 20
//! to 25). The layer reads what the quantized layers before it give.
//!
//! Output channels do not depend on each other here: blocks of them are learned by themselves, on as many threads as there
//! are, with the same result.

use crate::exec::Patches;
use crate::graph::Epilogue;
use crate::pool::for_each_chunk;
use crate::quant::QuantizedLayer;
use lowbit_kernels::{AlignedBuffer, ConvGeometry, Isa, WeightShape, conv_f32, random};

/// Pixels that are drawn from the batch, at most.
const PIXELS: usize = 4096;

/// Pixels of one step.
const BATCH: usize = 256;

/// Output channels that are learned at once: a panel of the kernels'.
const BLOCK: usize = 16;

/// Below 0 and above 1, so that both can be reached (equation 23: ζ = 1.1, γ = −0.1).
const STRETCH: f32 = 1.2;
const BELOW: f32 = 0.1;

const RATE: f32 = 1e-2;
const WEIGHT_OF_DECISION: f32 = 0.01;
/// Share of the steps without a push towards a decision.
const WARM_UP: f32 = 0.2;

/// A layer whose rounding is learned.
pub(super) struct Rounding<'a> {
    pub(super) kernel: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) epilogue: &'a Epilogue,
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
}

impl Rounding<'_> {
    /// Learns the rounding of `layer`, whose scales and bias are set. `patches` are those of FP32 and of the quantized model;
    /// `index` numbers the layer.
    pub(super) fn learn(
        &self,
        layer: &mut QuantizedLayer,
        index: usize,
        [float, quantized]: [&Patches<'_>; 2],
    ) {
        let limit = layer.bits.magnitude_max();
        // One bit has no direction to choose, and sixteen bits have no error to repair.
        if layer.bits.get() == 1 || layer.bits.get() == 16 {
            return;
        }
        let (taps, groups) = (float.taps(), float.groups);
        let channels = self.bias.len() / groups;
        let mut drawn: Vec<usize> = (0..float.pixels()).collect();
        random::shuffle(&mut random::stream(0, "adaround", index as u64), &mut drawn);
        drawn.truncate(PIXELS);
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
            let (scale, bias) = (
                &layer.scale[of_groups.clone()],
                &layer.bias[of_groups.clone()],
            );
            let kernel = &self.kernel[of_groups.start * taps..of_groups.end * taps];
            let integers = &mut layer.weights[of_groups.start * taps..of_groups.end * taps];
            if blocks == 1 {
                for_each_chunk(integers, channels * taps, count, |at, integers| {
                    let own = at * channels..(at + 1) * channels;
                    let block = Block {
                        kernel: &kernel[own.start * taps..own.end * taps],
                        scale: &scale[own.clone()],
                        bias: &bias[own],
                        limit,
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
                    bias: &bias[own.clone()],
                    limit,
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
        Sample {
            wanted,
            read,
            pixels,
            taps,
        }
    }

    /// Learns one block of output channels; `integers` are those of rounding to the nearest, and stay where nothing better
    /// is found.
    fn block(&self, block: &Block<'_>, sample: &Sample, integers: &mut [i16]) {
        let mut learner = Learner::new(self, block, sample);
        let nearest = learner.error(integers);
        for step in 0..self.steps {
            learner.step(step as usize, self.steps as usize);
        }
        let learned = learner.decided();
        if learner.error(&learned) < nearest {
            integers.copy_from_slice(&learned);
        }
    }
}

/// Some output channels of a group.
struct Block<'a> {
    kernel: &'a [f32],
    scale: &'a [f32],
    bias: &'a [f32],
    limit: i16,
    /// The first of the group's channels.
    first: usize,
}

/// The state of learning one block.
struct Learner<'a> {
    rounding: &'a Rounding<'a>,
    block: &'a Block<'a>,
    sample: &'a Sample,
    packed: conv_f32::PackedWeights,
    /// Per weight: the whole number below it, and where between it and the next it is put.
    floor: Vec<f32>,
    at: Vec<f32>,
    /// Adam's moments.
    mean: Vec<f32>,
    square: Vec<f32>,
    weights: Vec<f32>,
    results: Vec<f32>,
    grad_results: AlignedBuffer<f32>,
    grad_weights: Vec<f32>,
}

impl<'a> Learner<'a> {
    fn new(rounding: &'a Rounding<'a>, block: &'a Block<'a>, sample: &'a Sample) -> Self {
        let (taps, channels) = (sample.taps, block.bias.len());
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
        let floor: Vec<f32> = steps.iter().map(|x| x.floor()).collect();
        let at = steps.iter().zip(&floor).map(|(x, floor)| {
            // Where the stretched sigmoid gives the weight itself.
            let rest = (x - floor).clamp(0.0, 1.0);
            -(STRETCH / (rest + BELOW) - 1.0).ln()
        });
        Self {
            rounding,
            block,
            sample,
            packed: conv_f32::PackedWeights::pack(rounding.isa, block.kernel, shape),
            at: at.collect(),
            floor,
            mean: vec![0.0; taps * channels],
            square: vec![0.0; taps * channels],
            weights: vec![0.0; taps * channels],
            results: vec![0.0; batch * channels],
            grad_results: AlignedBuffer::zeroed(batch * channels),
            grad_weights: vec![0.0; taps * channels],
        }
    }

    /// Runs the layer with `self.weights` over pixels of the sample, before its activation.
    fn forward(&mut self, first: usize, count: usize) {
        let (taps, channels) = (self.sample.taps, self.block.bias.len());
        self.packed.repack(&self.weights);
        let geometry = ConvGeometry::linear(count, taps, channels);
        let epilogue = conv_f32::Epilogue {
            bias: Some(self.block.bias),
            ..conv_f32::Epilogue::default()
        };
        let read = &self.sample.read.with_slack()[first * taps..];
        let out = &mut self.results[..count * channels];
        conv_f32::conv(&self.packed, &geometry, 0..1, read, &epilogue, out);
    }

    fn wanted(&self, pixel: usize) -> &'a [f32] {
        let channels = self.sample.wanted.len() / self.sample.pixels;
        &self.sample.wanted[pixel * channels + self.block.first..][..self.block.bias.len()]
    }

    fn activated(&self, x: f32) -> f32 {
        let epilogue = self.rounding.epilogue;
        let x = if epilogue.relu { x.max(0.0) } else { x };
        epilogue.ceiling.map_or(x, |ceiling| x.min(ceiling))
    }

    /// The squared error of these integers over the whole sample.
    fn error(&mut self, integers: &[i16]) -> f64 {
        let channels = self.block.bias.len();
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
        let mut error = 0.0;
        let batch = self.results.len() / channels;
        for first in (0..self.sample.pixels).step_by(batch) {
            let count = batch.min(self.sample.pixels - first);
            self.forward(first, count);
            for (at, row) in self.results[..count * channels]
                .chunks_exact(channels)
                .enumerate()
            {
                let pairs = row.iter().zip(self.wanted(first + at));
                let squares = pairs.map(|(&x, &y)| f64::from(self.activated(x) - y).powi(2));
                error += squares.sum::<f64>();
            }
        }
        error
    }

    /// Where a weight is put between the whole numbers beside it.
    fn rest(at: f32) -> f32 {
        (STRETCH / (1.0 + (-at).exp()) - BELOW).clamp(0.0, 1.0)
    }

    fn decided(&self) -> Vec<i16> {
        let limit = f32::from(self.block.limit);
        let pairs = self.floor.iter().zip(&self.at);
        let up = |at: f32| if Self::rest(at) >= 0.5 { 1.0 } else { 0.0 };
        pairs
            .map(|(floor, &at)| (floor + up(at)).clamp(-limit, limit) as i16)
            .collect()
    }

    fn step(&mut self, step: usize, steps: usize) {
        let (taps, channels) = (self.sample.taps, self.block.bias.len());
        let batch = self.results.len() / channels;
        let limit = f32::from(self.block.limit);
        for (index, w) in self.weights.iter_mut().enumerate() {
            let integer = self.floor[index] + Self::rest(self.at[index]);
            *w = integer.clamp(-limit, limit) * self.block.scale[index / taps];
        }
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
            for ((grad, &x), &y) in grads.zip(&self.results[row]).zip(wanted) {
                // Where both sides are cut off alike there is nothing to learn.
                *grad = match x > floor && x < ceiling {
                    true => per_pixel * (x - y),
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
        self.update(step, steps);
    }

    /// One step of Adam on the loss, and on what pushes towards a decision: `1 − |2h − 1|^β`, with β from 20 down to 2.
    fn update(&mut self, step: usize, steps: usize) {
        let (taps, channels) = (self.sample.taps, self.block.bias.len());
        let done = step as f32 / steps as f32;
        let push = done >= WARM_UP;
        let left = 1.0 - (done - WARM_UP) / (1.0 - WARM_UP);
        let beta = 2.0 + 18.0 * left.clamp(0.0, 1.0);
        let limit = f32::from(self.block.limit);
        let number = step as i32 + 1;
        let (unbias_mean, unbias_square) = (1.0 - 0.9f32.powi(number), 1.0 - 0.999f32.powi(number));
        for index in 0..self.at.len() {
            let (c, tap) = (index / taps, index % taps);
            let sigmoid = 1.0 / (1.0 + (-self.at[index]).exp());
            let stretched = STRETCH * sigmoid - BELOW;
            let rest = stretched.clamp(0.0, 1.0);
            let integer = self.floor[index] + rest;
            let mut grad = match integer > -limit && integer < limit {
                true => self.grad_weights[tap * channels + c] * self.block.scale[c],
                false => 0.0,
            };
            let side = 2.0 * rest - 1.0;
            if push {
                let slope = beta * side.abs().powf(beta - 1.0) * 2.0 * side.signum();
                grad -= WEIGHT_OF_DECISION * slope;
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
