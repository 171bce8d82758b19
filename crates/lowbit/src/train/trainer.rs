//! The training step.

use super::TrainError;
use super::loss::cross_entropy;
use super::ops::{self, Layer};
use super::optimizer::Optimizer;
use super::pass::Pass;
use crate::Weights;
use crate::graph::Graph;
use crate::runtime::PixelMap;
use crate::runtime::plan::Plan;
use lowbit_kernels::{Isa, random};
use rayon::prelude::*;

/// A model in training.
pub struct Trainer {
    graph: Graph,
    pixel: PixelMap,
    optimizer: Optimizer,
    steps: u64,
    layers: Vec<Box<dyn Layer>>,
    pass: Pass,
}

/// What a step saw before it changed the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMetrics {
    /// Mean cross-entropy of the batch.
    pub loss: f64,
    /// Images whose class was predicted.
    pub correct: usize,
}

/// What, besides the weights, the next step depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainerState {
    /// Steps taken.
    pub steps: u64,
    /// The optimizer's moments, `<parameter>.first` and `.second`.
    pub tensors: Weights,
}

/// The order of the `len` training images in epoch `epoch`: a permutation that seed and epoch alone determine.
#[must_use]
pub fn epoch_order(seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    random::shuffle(&mut random::stream(seed, "shuffle", epoch), &mut order);
    order
}

impl Trainer {
    /// Starts from `weights`, on rayon's current pool.
    ///
    /// # Errors
    /// [`TrainError`] when the weights do not fit or a layer cannot be trained.
    pub fn new(
        graph: &Graph,
        weights: &Weights,
        optimizer: Optimizer,
        isa: Isa,
    ) -> Result<Self, TrainError> {
        weights.check(graph)?;
        let pass = Pass::new(Plan::new(graph.blocks()?)?, isa);
        let blocks = pass.plan.blocks.list();
        let layers = (0..blocks.len())
            .map(|index| ops::layer(&pass.plan, index, weights, isa))
            .collect::<Result<Vec<_>, _>>()?;
        let pixel = PixelMap::of(graph);
        Ok(Self {
            graph: graph.clone(),
            pixel,
            optimizer,
            steps: 0,
            layers,
            pass,
        })
    }

    /// Takes one step on `images` (`[n, h, w, c]`) with one label each.
    ///
    /// # Errors
    /// [`TrainError`] when labels or images do not fit, or the loss is not finite; nothing is changed then (but
    /// batch-norm's running statistics in the last case).
    pub fn step(
        &mut self,
        images: &[u8],
        labels: &[u32],
        lr: f32,
    ) -> Result<StepMetrics, TrainError> {
        let metrics = self.gradients(images, labels)?;
        self.steps += 1;
        let steps = self.steps;
        for layer in &mut self.layers {
            for parameter in layer.parameters() {
                self.optimizer.update(parameter, lr, steps);
            }
        }
        Ok(metrics)
    }

    /// Forward and backward: the gradients are left in the parameters.
    fn gradients(&mut self, images: &[u8], labels: &[u32]) -> Result<StepMetrics, TrainError> {
        let (count, classes) = (labels.len(), self.graph.classes());
        let expected = count * self.graph.input().len();
        if images.len() != expected || count == 0 {
            return Err(TrainError::Images {
                labels: count,
                bytes: images.len(),
                expected,
            });
        }
        if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
            return Err(TrainError::Label {
                index,
                label: labels[index],
                classes,
            });
        }
        self.pass.begin(count);
        self.load(images);
        for layer in &mut self.layers {
            layer.forward(&mut self.pass);
        }
        let last = self.layers.len();
        let (logits, grad) = (&self.pass.values[last], &mut self.pass.grads[last]);
        let n = count * classes;
        let (loss, correct) = cross_entropy(&logits[..n], labels, classes, &mut grad[..n]);
        if !loss.is_finite() {
            return Err(TrainError::Diverged {
                step: self.steps,
                loss,
            });
        }
        self.pass.written[last] = true;
        for layer in self.layers.iter_mut().rev() {
            layer.backward(&mut self.pass);
        }
        Ok(StepMetrics { loss, correct })
    }

    fn load(&mut self, images: &[u8]) {
        let layout = self.pass.plan.layouts[0];
        let row_len = layout.w * layout.c;
        let pixel = self.pixel;
        self.pass.values[0]
            .par_chunks_mut(layout.image_len)
            .zip(images.par_chunks(layout.dense_len()))
            .for_each(|(out, image)| {
                for (row, pixels) in image.chunks_exact(row_len).enumerate() {
                    let start = layout.offset(0) + row * layout.row_stride;
                    for (out, &x) in out[start..][..row_len].iter_mut().zip(pixels) {
                        *out = f32::from(x).mul_add(pixel.scale, pixel.shift);
                    }
                }
            });
    }

    /// The weights as they stand, running statistics included.
    #[must_use]
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::new();
        for layer in &self.layers {
            layer.save(&mut weights);
        }
        weights
    }

    /// What, besides the weights, the next step depends on.
    #[must_use]
    pub fn state(&mut self) -> TrainerState {
        let mut tensors = Weights::new();
        for layer in &mut self.layers {
            for parameter in layer.parameters() {
                parameter.save_moments(&mut tensors);
            }
        }
        TrainerState {
            steps: self.steps,
            tensors,
        }
    }

    /// Goes back to where `weights` and `state` were taken.
    ///
    /// # Errors
    /// [`TrainError`] when they are of another model.
    pub fn restore(&mut self, weights: &Weights, state: &TrainerState) -> Result<(), TrainError> {
        weights.check(&self.graph)?;
        for layer in &mut self.layers {
            layer.restore(weights);
            for parameter in layer.parameters() {
                if !parameter.restore(weights, &state.tensors) {
                    return Err(TrainError::Unsupported {
                        layer: parameter.name.clone(),
                        reason: "the checkpoint lacks its optimizer state".into(),
                    });
                }
            }
        }
        self.steps = state.steps;
        Ok(())
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests;
