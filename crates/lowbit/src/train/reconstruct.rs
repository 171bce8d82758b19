//! Reconstruction by blocks: after training, without labels, weights and steps of one block after the other are learned so that
//! what the quantized block gives comes nearest to what the f32 one gives (Li et al. 2021, "BRECQ", section 3.2: errors of layers
//! within a block are not independent, those of blocks nearly are).
//!
//! A block lies between two values that alone cross from one part of the network to the next: of a residual network those are its
//! residual blocks, of a chain its layers. A quantized block reads what the quantized blocks before it give.
//!
//! What differs from the paper: it begins with whatever other passes made, and weights are learned as quantization-aware training
//! learns them, through a straight-through estimator with learned steps (Hubara et al. 2021, "AdaQuant", equation 4, layer by
//! layer), and so are the steps of activations and the channels' factors and biases; errors weigh the same everywhere (no Fisher
//! information). Of the images one in eight is not learned from: a block keeps what it has learned where that gives a smaller
//! error on those, and the model stays as it was where its logits' error on those has not become smaller in the end.

use super::TrainError;
use super::network::Network;
use super::optimizer::Optimizer;
use super::parameter::Parameter;
use super::pass::Statistics;
use super::qat::{ActivationQuantizer, QatConfig, WeightQuantizer};
use super::schedule::Schedule;
use crate::bits::WeightBits;
use crate::graph::{Graph, Program, ValueId, fold_batch_norm};
use crate::pool::awake;
use crate::quant::QuantizedModel;
use crate::{Tensor, Weights};
use lowbit_kernels::{Isa, random};
use rayon::prelude::*;
use std::ops::Range;

/// Images that are looked at, at most.
const IMAGES: usize = 1024;

/// Bytes that kept values may take: of larger ones there are fewer images.
const MEMORY: usize = 1 << 30;

/// Images of a step.
const BATCH: usize = 32;

/// One image in so many tells whether what was learned is better.
const HELD_OUT: usize = 8;

/// How far from its integer a latent weight may lie at first, in the distance of two integers.
const WITHIN: f32 = 0.49;

/// How far a step of the optimizer moves a tensor at first, in its root mean square, and the logarithm of a quantizer's step.
const RATE: f32 = 0.003;

/// The smallest root mean square that a tensor is taken to have: biases may begin with zeros.
const SMALLEST: f32 = 0.01;

/// Learns the blocks of `model`, which was made of `weights` with a scale for each channel and the widths of `config`, in
/// `steps` steps each, from `images` (`[n, h, w, c]`).
///
/// # Errors
/// [`TrainError`] when the weights do not fit, a layer cannot be trained, or there is no whole image.
pub(crate) fn reconstruct(
    weights: &Weights,
    model: &mut QuantizedModel,
    config: QatConfig,
    steps: u32,
    images: &[u8],
    isa: Isa,
) -> Result<Reconstruction, TrainError> {
    let graph = model.graph.clone();
    let image_len = graph.input().len();
    if images.is_empty() || !images.len().is_multiple_of(image_len) {
        let count = images.len() / image_len;
        return Err(TrainError::Images {
            labels: count,
            bytes: images.len(),
            expected: count.max(1) * image_len,
        });
    }
    let program = graph.program()?;
    let mut float = Network::compile(&graph, weights, None, isa)?;
    let mut quantized = begin(weights, model, config, isa)?;
    float.pass.statistics = Statistics::Keep;
    let blocks = blocks(&program);
    let crossing = blocks.iter().map(|block| block.end);
    let largest = crossing.map(|value| float.pass.plan.layouts[value].image_len);
    // The values that f32 and the quantized block read, the latter's integers, and what f32 gives.
    let per_image = 13 * largest.max().unwrap_or(1);
    let count = (images.len() / image_len)
        .min(IMAGES)
        .min((MEMORY / per_image).max(1));
    let images = &images[..count * image_len];
    let (judges, _) = told_apart(count);
    let held_out: Vec<u8> = judges
        .iter()
        .flat_map(|&image| &images[image as usize * image_len..][..image_len])
        .copied()
        .collect();
    let expected = awake(|| float.logits(&held_out));
    let before = squared_error(&expected, &awake(|| quantized.logits(&held_out)));
    let mut read = [Kept::default(), Kept::default()];
    for (number, block) in blocks.iter().enumerate() {
        awake(|| {
            let wanted = float.keep(block, (&read[0], images), count);
            let mut learner = Learner {
                network: &mut quantized,
                block: block.clone(),
                read: (&read[1], images),
                wanted: &wanted,
                count,
            };
            learner.learn(number as u64, steps);
            let given = quantized.keep(block, (&read[1], images), count);
            read = [wanted, given];
        });
    }
    let after = squared_error(&expected, &awake(|| quantized.logits(&held_out)));
    let is_kept = is_less(after, before);
    if is_kept {
        let learned = quantized.quantized_model();
        let learned = learned.expect("every value has been rounded");
        model.layers = learned.layers;
        model.activations = learned.activations;
    }
    Ok(Reconstruction {
        images: count,
        is_kept,
    })
}

/// Whether [`reconstruct`] knows every layer of a graph.
///
/// # Errors
/// [`TrainError`] when the weights do not fit, or a layer cannot be trained.
pub(crate) fn can_reconstruct(
    graph: &Graph,
    weights: &Weights,
    config: QatConfig,
    isa: Isa,
) -> Result<(), TrainError> {
    Network::compile(graph, weights, Some(config), isa).map(drop)
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reconstruction {
    /// Images that it looked at.
    pub(crate) images: usize,
    /// Whether the model is what was learned; else it is as it was.
    pub(crate) is_kept: bool,
}

/// The network in training that gives what `model` gives.
fn begin(
    weights: &Weights,
    model: &QuantizedModel,
    config: QatConfig,
    isa: Isa,
) -> Result<Network, TrainError> {
    let config = QatConfig {
        quantizer: WeightQuantizer::Lsq,
        activation_quantizer: ActivationQuantizer::Lsq,
        ..config
    };
    let program = model.graph.program()?;
    let begun = as_it_stands(&program, weights, model);
    let mut quantized = Network::compile(&model.graph, &begun, Some(config), isa)?;
    let quantizers = quantized.pass.quantizers.iter_mut();
    for (quantizer, params) in quantizers.zip(&model.activations) {
        if let (Some(quantizer), Some(params)) = (quantizer, params) {
            quantizer.begin_with(*params);
        }
    }
    quantized.pass.statistics = Statistics::Keep;
    Ok(quantized)
}

/// Latent weights that round to the model's integers, batch-norm being folded into them, with the steps of its layers.
fn as_it_stands(program: &Program, weights: &Weights, model: &QuantizedModel) -> Weights {
    let mut begun = weights.clone();
    for (step, layer) in program.steps().iter().zip(&model.layers) {
        let Some(layer) = layer else {
            continue;
        };
        let (mut kernel, _) = fold_batch_norm(step, weights);
        let reach = WITHIN * if layer.bits.is_odd() { 2.0 } else { 1.0 };
        let fan_in = kernel.len() / layer.scale.len();
        let integers = layer.weights.chunks_exact(fan_in);
        for ((kernel, integers), &scale) in kernel
            .chunks_exact_mut(fan_in)
            .zip(integers)
            .zip(&layer.scale)
        {
            for (w, &q) in kernel.iter_mut().zip(integers) {
                let q = f32::from(q);
                *w = match layer.bits {
                    // The mean magnitude is the step, and stays.
                    WeightBits::B1 => q * w.abs(),
                    _ => w.clamp((q - reach) * scale, (q + reach) * scale),
                };
            }
        }
        let channels = layer.scale.len();
        let mut set = |of: &str, suffix: &str, values: Vec<f32>| {
            let name = format!("{of}.{suffix}");
            let shape = weights
                .get(&name)
                .map_or(vec![values.len()], |tensor| tensor.shape().to_vec());
            begun.insert(name, Tensor::new(shape, values));
        };
        set(&step.name, "weight", kernel);
        let ln_scale = layer.scale.iter().map(|scale| scale.ln()).collect();
        set(&step.name, "weight_ln_scale", ln_scale);
        let Some(norm) = &step.epilogue.batch_norm else {
            set(&step.name, "bias", layer.bias.clone());
            continue;
        };
        if step.has_bias() {
            set(&step.name, "bias", vec![0.0; channels]);
        }
        set(&norm.name, "weight", vec![1.0; channels]);
        set(&norm.name, "bias", layer.bias.clone());
        set(&norm.name, "running_mean", vec![0.0; channels]);
        set(&norm.name, "running_var", vec![1.0 - norm.eps; channels]);
    }
    begun
}

/// The images that are not learned from, and the others; all are both where there are few.
fn told_apart(count: usize) -> (Vec<u32>, Vec<u32>) {
    let is_held_out = |image: &u32| *image as usize % HELD_OUT == HELD_OUT - 1;
    let (held_out, others): (Vec<u32>, Vec<u32>) = (0..count as u32).partition(is_held_out);
    match held_out.is_empty() {
        true => (others.clone(), others),
        false => (held_out, others),
    }
}

fn squared_error(expected: &[f32], found: &[f32]) -> f64 {
    let pairs = expected.iter().zip(found);
    pairs.map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

/// Whether an error has become smaller; one that is no number has not.
fn is_less(after: f64, before: f64) -> bool {
    after < before
}

/// The steps between values that alone cross, each range with a step that has weights.
fn blocks(program: &Program) -> Vec<Range<usize>> {
    let steps = program.steps();
    // The earliest value that a step from `index` on reads, from the last to the first.
    let mut earliest = steps.len();
    let mut crossing = vec![steps.len()];
    for (index, step) in steps.iter().enumerate().rev() {
        earliest = earliest.min(step.inputs.iter().copied().min().unwrap_or(0));
        if earliest == index && index > 0 {
            crossing.push(index);
        }
    }
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for end in crossing.into_iter().rev() {
        if steps[start..end].iter().any(|step| step.has_weights()) {
            blocks.push(start..end);
            start = end;
        }
    }
    match blocks.last_mut() {
        Some(last) => last.end = steps.len(),
        None => blocks.push(0..steps.len()),
    }
    blocks
}

/// A value of all images, in its layout.
#[derive(Default)]
struct Kept {
    values: Vec<f32>,
    /// What integers they stand for; empty in f32.
    codes: Vec<u8>,
}

impl Network {
    /// Makes a batch of some images: the pixels before the first step, and what was kept before the others.
    fn show(&mut self, value: ValueId, (kept, images): (&Kept, &[u8]), batch: &[u32]) {
        self.pass.begin(batch.len());
        if value == 0 {
            let size = self.graph.input().len();
            let of_image = |&image: &u32| &images[image as usize * size..][..size];
            let batch: Vec<u8> = batch.iter().flat_map(of_image).copied().collect();
            return self.load(&batch);
        }
        let layout = self.pass.plan.layouts[value];
        let len = layout.image_len;
        let into = self.pass.values[value].chunks_exact_mut(len);
        for (into, &image) in into.zip(batch) {
            into.copy_from_slice(&kept.values[image as usize * len..][..len]);
        }
        if let Some(Some(quantizer)) = self.pass.quantizers.get_mut(value) {
            quantizer.reserve(&layout, batch.len());
            let into = quantizer.codes.chunks_exact_mut(len);
            for (into, &image) in into.zip(batch) {
                into.copy_from_slice(&kept.codes[image as usize * len..][..len]);
            }
        }
    }

    /// The logits of images (`[n, h, w, c]`).
    fn logits(&mut self, images: &[u8]) -> Vec<f32> {
        let (size, classes) = (self.graph.input().len(), self.graph.classes());
        let mut logits = Vec::new();
        for batch in images.chunks(BATCH * size) {
            let count = batch.len() / size;
            self.forward(batch, count);
            logits.extend_from_slice(&self.pass.values[self.layers.len()][..count * classes]);
        }
        logits
    }

    /// What a block gives for all images.
    fn keep(&mut self, block: &Range<usize>, read: (&Kept, &[u8]), count: usize) -> Kept {
        let len = self.pass.plan.layouts[block.end].image_len;
        let mut kept = Kept::default();
        let order: Vec<u32> = (0..count as u32).collect();
        for batch in order.chunks(BATCH) {
            self.show(block.start, read, batch);
            self.run(block.clone());
            let values = &self.pass.values[block.end][..batch.len() * len];
            kept.values.extend_from_slice(values);
            if let Some(Some(quantizer)) = self.pass.quantizers.get(block.end) {
                kept.codes
                    .extend_from_slice(&quantizer.codes[..batch.len() * len]);
            }
        }
        kept
    }
}

/// A block that learns to give what the f32 one gives.
struct Learner<'a> {
    network: &'a mut Network,
    block: Range<usize>,
    read: (&'a Kept, &'a [u8]),
    wanted: &'a Kept,
    count: usize,
}

impl Learner<'_> {
    fn learn(&mut self, number: u64, steps: u32) {
        let (judges, mut order) = told_apart(self.count);
        let before = self.error(&judges);
        let start = self.values();
        self.set_rates();
        let mut random = random::stream(0, "reconstruct", number);
        let batches = order.len().div_ceil(BATCH);
        for step in 0..steps {
            let at = step as usize % batches;
            if at == 0 {
                random::shuffle(&mut random, &mut order);
            }
            let batch = &order[at * BATCH..order.len().min((at + 1) * BATCH)];
            let lr = Schedule::Cosine.lr(RATE, u64::from(step), u64::from(steps));
            self.step(batch, u64::from(step) + 1, lr);
        }
        if !is_less(self.error(&judges), before) {
            self.set_values(start);
        }
    }

    /// One step of Adam on the block's squared error over a batch, in that of giving nothing but zeros.
    fn step(&mut self, batch: &[u32], number: u64, lr: f32) {
        self.network.show(self.block.start, self.read, batch);
        self.network.run(self.block.clone());
        let value = self.block.end;
        let layout = self.network.pass.plan.layouts[value];
        let (len, dense) = (layout.image_len, layout.dense_len());
        let wanted = &self.wanted.values;
        let square: f64 = batch
            .iter()
            .flat_map(|&image| &wanted[image as usize * len..][..len])
            .map(|&x| f64::from(x).powi(2))
            .sum();
        let unit = (2.0 / square.max(f64::MIN_POSITIVE)) as f32;
        let pass = &mut self.network.pass;
        pass.grads[value]
            .par_chunks_mut(dense)
            .zip(pass.values[value].par_chunks(len))
            .zip(batch)
            .for_each(|((grads, given), &image)| {
                let wanted = &wanted[image as usize * len..][..len];
                for y in 0..layout.h {
                    let row = layout.row(0, y);
                    let pairs = given[row.clone()].iter().zip(&wanted[row]);
                    let grads = &mut grads[y * layout.row_len()..][..layout.row_len()];
                    let each = grads.iter_mut().zip(pairs);
                    each.for_each(|(grad, (x, wanted))| *grad = unit * (x - wanted));
                }
            });
        self.network.backward(self.block.clone());
        self.each_parameter(|parameter| Optimizer::default().update(parameter, lr, number));
    }

    /// The squared error over some images.
    fn error(&mut self, images: &[u32]) -> f64 {
        let len = self.network.pass.plan.layouts[self.block.end].image_len;
        let mut sum = 0.0;
        for batch in images.chunks(BATCH) {
            self.network.show(self.block.start, self.read, batch);
            self.network.run(self.block.clone());
            let given = self.network.pass.values[self.block.end].chunks_exact(len);
            for (given, &image) in given.zip(batch) {
                let wanted = &self.wanted.values[image as usize * len..][..len];
                sum += squared_error(wanted, given);
            }
        }
        sum
    }

    /// Calls `change` with all that the block learns.
    fn each_parameter(&mut self, mut change: impl FnMut(&mut Parameter)) {
        let block = self.block.clone();
        self.network
            .each_parameter(block, |parameter, _| change(parameter));
    }

    /// Makes a rate of one move each tensor in its own measure.
    fn set_rates(&mut self) {
        self.each_parameter(|parameter| {
            let squares = parameter.value.iter().map(|&x| f64::from(x).powi(2));
            let mean = squares.sum::<f64>() / parameter.value.len() as f64;
            parameter.rate = match parameter.is_of_quantizer() {
                true => 1.0,
                false => (mean.sqrt() as f32).max(SMALLEST),
            };
        });
    }

    fn values(&mut self) -> Vec<Vec<f32>> {
        let mut values = Vec::new();
        self.each_parameter(|parameter| values.push(parameter.value.clone()));
        values
    }

    fn set_values(&mut self, values: Vec<Vec<f32>>) {
        let mut values = values.into_iter();
        self.each_parameter(|parameter| {
            parameter.value = values.next().expect("the parameters are the same");
        });
    }
}

#[cfg(test)]
mod tests;
