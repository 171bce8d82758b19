//! A trained tensor with its gradient and the optimizer's memory of it.

use crate::{Tensor, Weights};

/// A trained tensor.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) value: Vec<f32>,
    pub(super) grad: Vec<f32>,
    /// What its learning rate is multiplied by.
    pub(super) rate: f32,
    /// First moment or velocity.
    pub(super) first: Vec<f32>,
    /// Second moment.
    pub(super) second: Vec<f32>,
    /// What the value is pulled back to, and how strongly; empty for not at all.
    anchor: (Vec<f32>, f32),
}

impl Parameter {
    /// The tensor `name` of checked weights.
    pub(super) fn new(name: String, weights: &Weights) -> Self {
        let tensor = weights.get(&name).expect("the weights were checked");
        let zeros = vec![0.0; tensor.data().len()];
        Self {
            shape: tensor.shape().to_vec(),
            value: tensor.data().to_vec(),
            grad: zeros.clone(),
            rate: 1.0,
            first: zeros.clone(),
            second: zeros,
            anchor: (Vec::new(), 0.0),
            name,
        }
    }

    /// The tensor `name` if the weights have it, else a vector of `initial` values.
    pub(super) fn or(name: String, initial: Vec<f32>, weights: &Weights) -> Self {
        if weights
            .get(&name)
            .is_some_and(|tensor| tensor.data().len() == initial.len())
        {
            return Self::new(name, weights);
        }
        let zeros = vec![0.0; initial.len()];
        Self {
            name,
            shape: vec![initial.len()],
            value: initial,
            grad: zeros.clone(),
            rate: 1.0,
            first: zeros.clone(),
            second: zeros,
            anchor: (Vec::new(), 0.0),
        }
    }

    /// With a multiple of the learning rate.
    pub(super) fn at_rate(self, rate: f32) -> Self {
        Self { rate, ..self }
    }

    /// Pulls the value back to where it is, from now on.
    pub(super) fn anchor_here(&mut self, mu: f32) {
        self.anchor = (self.value.clone(), mu);
    }

    /// Adds the pull's gradient, `mu · (value − anchor)`.
    pub(super) fn pull(&mut self) {
        let (anchor, mu) = &self.anchor;
        for ((grad, x), anchor) in self.grad.iter_mut().zip(&self.value).zip(anchor) {
            *grad += mu * (x - anchor);
        }
    }

    /// Whether weight decay is for it: weights of products, which have a row for each output; not biases, the factors of batch-norm
    /// and layer norm or quantizers' steps.
    fn decays(&self) -> bool {
        self.shape.iter().skip(1).any(|&extent| extent > 1)
    }

    /// Whether it is the logarithm of a quantizer's step.
    pub(super) fn is_of_quantizer(&self) -> bool {
        self.name.ends_with("_ln_scale")
    }

    /// Adds the gradient of `decay / 2 · ‖value‖²` where that is for it.
    pub(super) fn decay(&mut self, decay: f32) {
        if self.decays() {
            for (grad, x) in self.grad.iter_mut().zip(&self.value) {
                *grad += decay * x;
            }
        }
    }

    /// Sum of the gradient's squares.
    pub(super) fn grad_square(&self) -> f64 {
        self.grad.iter().map(|&g| f64::from(g).powi(2)).sum()
    }

    pub(super) fn save(&self, weights: &mut Weights) {
        weights.insert(
            self.name.clone(),
            Tensor::new(self.shape.clone(), self.value.clone()),
        );
    }

    pub(super) fn save_moments(&self, tensors: &mut Weights) {
        for (suffix, data) in [("first", &self.first), ("second", &self.second)] {
            let tensor = Tensor::new(self.shape.clone(), data.clone());
            tensors.insert(format!("{}.{suffix}", self.name), tensor);
        }
    }

    /// Takes value and moments from a state; false if one is missing or of another size.
    pub(super) fn restore(&mut self, weights: &Weights, moments: &Weights) -> bool {
        let (first, second) = (
            format!("{}.first", self.name),
            format!("{}.second", self.name),
        );
        let sources = [
            (weights.get(&self.name), &mut self.value),
            (moments.get(&first), &mut self.first),
            (moments.get(&second), &mut self.second),
        ];
        for (tensor, into) in sources {
            match tensor {
                Some(tensor) if tensor.data().len() == into.len() => {
                    into.copy_from_slice(tensor.data());
                }
                _ => return false,
            }
        }
        true
    }
}
