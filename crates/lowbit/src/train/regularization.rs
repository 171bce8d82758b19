//! What keeps weights small and steps short.

/// What a step does besides going down the gradient of the cross-entropy. `Default` is nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Regularization {
    /// λ of `λ / 2 · ‖w‖²`, whose gradient is added to that of the loss, behind clipping, as PyTorch's `weight_decay` is; for weights of
    /// convolutions and linear layers, not for biases, batch-norm and quantizers.
    pub weight_decay: f32,
    /// Share of each target that is spread over all classes, 0–1 (Szegedy et al. 2016, section 7).
    pub label_smoothing: f32,
    /// Largest Euclidean norm of all gradients together, by which longer ones are scaled down (Pascanu et al. 2013,
    /// algorithm 1); 0 for any.
    pub clip_norm: f32,
}

impl Regularization {
    /// Sets λ of the weights' decay.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f32) -> Self {
        Self {
            weight_decay,
            ..self
        }
    }

    /// Sets the share of targets that is spread over all classes.
    #[must_use]
    pub fn label_smoothing(self, label_smoothing: f32) -> Self {
        Self {
            label_smoothing,
            ..self
        }
    }

    /// Sets the largest norm of the gradients.
    #[must_use]
    pub fn clip_norm(self, clip_norm: f32) -> Self {
        Self { clip_norm, ..self }
    }
}
