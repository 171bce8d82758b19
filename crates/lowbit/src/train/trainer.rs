//! The training step.

use super::TrainError;
use super::loss::{Targets, cross_entropy, soft_cross_entropy};
use super::network::Network;
use super::optimizer::Optimizer;
use super::pass::Statistics;
use super::qat::{ActivationState, QatConfig};
use super::regularization::Regularization;
use crate::Weights;
use crate::exec::RuntimeError;
use crate::graph::Graph;
use crate::pool::awake;
use crate::quant::QuantizedModel;
use lowbit_kernels::{Isa, random};

/// A model in training.
///
/// ```
/// use lowbit::train::{Optimizer, QatConfig, Trainer};
/// use lowbit::{Shape, WeightBits, Weights, graph::zoo};
///
/// let classes = ["dark", "bright"].map(String::from);
/// let graph = zoo::build("mlp", Shape::new(8, 8, 1), &classes)?;
/// // Four images, `[n, h, w, c]`, with one label each.
/// let images: Vec<u8> = [20, 220, 30, 240].iter().flat_map(|&x| [x; 64]).collect();
/// let labels = [0, 1, 0, 1];
///
/// let mut trainer = Trainer::new(&graph, &Weights::init(&graph, 1), Optimizer::default())?;
/// let first = trainer.step(&images, &labels, 1e-2)?.loss;
/// let last = (0..20).try_fold(first, |_, _| trainer.step(&images, &labels, 1e-2).map(|m| m.loss))?;
/// assert!(last < first);
///
/// // From there with weights of four bits, which the forward pass packs and runs as a deployed model does.
/// let config = QatConfig::of(WeightBits::B4);
/// let mut trainer = Trainer::quantized(&graph, &trainer.weights(), Optimizer::default(), config)?;
/// trainer.step(&images, &labels, 1e-3)?;
/// assert!(trainer.quantized_model().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    network: Network,
    optimizer: Optimizer,
    regularization: Regularization,
    steps: u64,
}

/// What a step saw before it changed the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMetrics {
    /// What the step went down: the batch's mean cross-entropy, of smoothed or mixed targets and with a teacher's part where
    /// there are such.
    pub loss: f64,
    /// Images whose own label was predicted; of mixed images the first one's.
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

fn chosen_isa() -> Result<Isa, RuntimeError> {
    Ok(Isa::current()?)
}

impl Trainer {
    /// Starts from `weights`, on rayon's current pool, for the machine's best instruction set or that of `LOWBIT_ISA`.
    ///
    /// # Errors
    /// [`TrainError`] when the weights do not fit, a layer cannot be trained, or `LOWBIT_ISA` names no instruction set of this
    /// machine.
    pub fn new(graph: &Graph, weights: &Weights, optimizer: Optimizer) -> Result<Self, TrainError> {
        Self::compile(graph, weights, optimizer, None, chosen_isa()?)
    }

    /// Starts quantization-aware training from `weights`, fresh or trained in f32, on rayon's current pool.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn quantized(
        graph: &Graph,
        weights: &Weights,
        optimizer: Optimizer,
        config: QatConfig,
    ) -> Result<Self, TrainError> {
        Self::compile(graph, weights, optimizer, Some(config), chosen_isa()?)
    }

    /// Starts training for `isa`: in f32, or quantization-aware with a configuration.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn compile(
        graph: &Graph,
        weights: &Weights,
        optimizer: Optimizer,
        qat: Option<QatConfig>,
        isa: Isa,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            network: Network::compile(graph, weights, qat, isa)?,
            optimizer,
            regularization: Regularization::default(),
            steps: 0,
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
        self.step_towards(images, &Targets::of(labels), lr)
    }

    /// Takes one step on `images` (`[n, h, w, c]`) towards targets that may be softer than labels.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_towards(
        &mut self,
        images: &[u8],
        targets: &Targets<'_>,
        lr: f32,
    ) -> Result<StepMetrics, TrainError> {
        awake(|| self.step_awake(images, targets, lr))
    }

    fn step_awake(
        &mut self,
        images: &[u8],
        targets: &Targets<'_>,
        lr: f32,
    ) -> Result<StepMetrics, TrainError> {
        let metrics = self.gradients(images, targets)?;
        self.steps += 1;
        let (steps, optimizer) = (self.steps, self.optimizer);
        let Regularization {
            weight_decay,
            clip_norm,
            label_smoothing: _,
        } = self.regularization;
        let all = 0..self.network.layers.len();
        self.network
            .each_parameter(all.clone(), |parameter, of_layer| {
                if of_layer {
                    parameter.pull();
                }
            });
        if clip_norm > 0.0 {
            self.clip(f64::from(clip_norm));
        }
        self.network.each_parameter(all, |parameter, of_layer| {
            if of_layer && weight_decay > 0.0 {
                parameter.decay(weight_decay);
            }
            optimizer.update(parameter, lr, steps);
        });
        Ok(metrics)
    }

    /// Scales all gradients so that together they are at most `most` long, with PyTorch's 1e-6 in the denominator.
    fn clip(&mut self, most: f64) {
        let all = 0..self.network.layers.len();
        let mut square = 0.0;
        self.network.each_parameter(all.clone(), |parameter, _| {
            square += parameter.grad_square()
        });
        let factor = most / (square.sqrt() + 1e-6);
        if factor < 1.0 {
            self.network.each_parameter(all, |parameter, _| {
                let grads = parameter.grad.iter_mut();
                grads.for_each(|g| *g = (f64::from(*g) * factor) as f32);
            });
        }
    }

    /// Sets what steps do besides going down the gradient, from the next one on.
    pub fn regularize(&mut self, regularization: Regularization) {
        self.regularization = regularization;
    }

    /// Forward and backward: the gradients are left in the parameters.
    fn gradients(
        &mut self,
        images: &[u8],
        targets: &Targets<'_>,
    ) -> Result<StepMetrics, TrainError> {
        let labels = targets.labels;
        let (count, classes) = (labels.len(), self.network.graph.classes());
        let expected = count * self.network.graph.input().len();
        if images.len() != expected || count == 0 {
            return Err(TrainError::Images {
                labels: count,
                bytes: images.len(),
                expected,
            });
        }
        self.check(targets)?;
        self.network.forward(images, count);
        let last = self.network.layers.len();
        let (logits, grad) = (
            &self.network.pass.values[last],
            &mut self.network.pass.grads[last],
        );
        let n = count * classes;
        let smoothing = self.regularization.label_smoothing;
        let (logits, grad) = (&logits[..n], &mut grad[..n]);
        let (loss, correct) = match targets.is_plain() && smoothing == 0.0 {
            true => cross_entropy(logits, labels, classes, grad),
            false => soft_cross_entropy(logits, targets, smoothing, classes, grad),
        };
        if !loss.is_finite() {
            return Err(TrainError::Diverged {
                step: self.steps,
                loss,
            });
        }
        self.network.backward(0..last);
        Ok(StepMetrics { loss, correct })
    }

    /// Shows `images` (`[n, h, w, c]`) to the network as it stands without training it: batch-norm's running statistics become
    /// the mean over this batch and the `earlier` ones that were shown before it, and nothing else moves, though activations' steps
    /// that no batch has set yet are set (`torch.optim.swa_utils.update_bn`; in quantized networks Nagel et al. 2022). So the
    /// statistics fit weights that the running averages never saw: averaged ones, above all where these are rounded.
    ///
    /// # Errors
    /// [`TrainError::Images`] when these are no images, or none.
    pub fn observe(&mut self, images: &[u8], earlier: usize) -> Result<(), TrainError> {
        let size = self.network.graph.input().len();
        let count = images.len() / size;
        if count == 0 || !images.len().is_multiple_of(size) {
            return Err(TrainError::Images {
                labels: count,
                bytes: images.len(),
                expected: count.max(1) * size,
            });
        }
        let before = std::mem::replace(
            &mut self.network.pass.statistics,
            Statistics::Take(1.0 / (earlier + 1) as f64),
        );
        awake(|| self.network.forward(images, count));
        self.network.pass.statistics = before;
        Ok(())
    }

    fn check(&self, targets: &Targets<'_>) -> Result<(), TrainError> {
        let classes = self.network.graph.classes();
        let others = targets.mixed.map_or(&[][..], |(others, _)| others);
        for labels in [targets.labels, others] {
            if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
                return Err(TrainError::Label {
                    index,
                    label: labels[index],
                    classes,
                });
            }
        }
        let count = targets.labels.len();
        let other = |what, found| TrainError::Targets {
            labels: count,
            what,
            found,
        };
        if targets.mixed.is_some() && others.len() != count {
            return Err(other("labels of mixed images", others.len()));
        }
        match targets.teacher {
            Some(teacher) if teacher.logits.len() != count * classes => {
                Err(other("a teacher's logits", teacher.logits.len() / classes))
            }
            _ => Ok(()),
        }
    }

    /// The weights as they stand, running statistics included.
    #[must_use]
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::new();
        for layer in &self.network.layers {
            layer.save(&mut weights);
        }
        for quantizer in self.network.pass.quantizers.iter().flatten() {
            quantizer.save(&mut weights);
        }
        weights
    }

    /// What, besides the weights, the next step depends on.
    #[must_use]
    pub fn state(&mut self) -> TrainerState {
        let mut tensors = Weights::new();
        for layer in &mut self.network.layers {
            for parameter in layer.parameters() {
                parameter.save_moments(&mut tensors);
            }
        }
        for quantizer in self.network.pass.quantizers.iter_mut().flatten() {
            quantizer.parameter().save_moments(&mut tensors);
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
        weights.check(&self.network.graph)?;
        let quantizers = self.network.pass.quantizers.iter_mut().flatten();
        let mut parameters: Vec<_> = quantizers.map(ActivationState::parameter).collect();
        for layer in &mut self.network.layers {
            layer.restore(weights);
            parameters.extend(layer.parameters());
        }
        for parameter in parameters {
            if !parameter.restore(weights, &state.tensors) {
                return Err(TrainError::Unsupported {
                    layer: parameter.name.clone(),
                    reason: "the checkpoint lacks it or its optimizer state".into(),
                });
            }
        }
        self.steps = state.steps;
        Ok(())
    }

    /// Adds `mu / 2 · ‖w − w₀‖²` to the loss from the next step on, w₀ being all that layers train, as it
    /// stands (Li et al. 2020, FedProx).
    pub fn pull_back(&mut self, mu: f32) {
        for layer in &mut self.network.layers {
            for parameter in layer.parameters() {
                parameter.anchor_here(mu);
            }
        }
    }

    /// Makes batch-norm use its running statistics, and leave them and moving activation ranges as they are, from the next
    /// step on.
    pub fn freeze_statistics(&mut self, frozen: bool) {
        self.network.pass.statistics = match frozen {
            true => Statistics::Keep,
            false => Statistics::Move,
        };
    }

    /// The integer model of the weights as they stand: what evaluation runs, and what is shipped. None in f32 training,
    /// or before the first step has set the activations' scales.
    #[must_use]
    pub fn quantized_model(&mut self) -> Option<QuantizedModel> {
        self.network.quantized_model()
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
