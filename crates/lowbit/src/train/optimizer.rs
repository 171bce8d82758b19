//! Optimizers, with PyTorch's formulas.

use super::parameter::Parameter;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How gradients change parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Optimizer {
    /// Kingma & Ba 2015, algorithm 1.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        eps: f32,
    },
    /// Stochastic gradient descent with momentum (and no dampening): `v ← μ·v + g`, `p ← p − lr·v`; with Nesterov's momentum
    /// `p ← p − lr·(g + μ·v)`.
    Sgd {
        /// μ.
        momentum: f32,
        /// Whether the step looks ahead along the velocity.
        #[serde(default)]
        nesterov: bool,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adam {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
        }
    }
}

impl std::fmt::Display for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Adam { .. } => "adam",
            Self::Sgd {
                nesterov: false, ..
            } => "sgd",
            Self::Sgd { nesterov: true, .. } => "nesterov",
        })
    }
}

impl std::str::FromStr for Optimizer {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "adam" => Ok(Self::default()),
            "sgd" | "nesterov" => Ok(Self::Sgd {
                momentum: 0.9,
                nesterov: name == "nesterov",
            }),
            _ => Err(format!(
                "unknown optimizer {name}: use adam, sgd or nesterov"
            )),
        }
    }
}

/// Elements that one thread updates at a time.
const CHUNK: usize = 16 * 1024;

impl Optimizer {
    /// Changes one parameter by its gradient; `step` counts from 1.
    pub(super) fn update(&self, parameter: &mut Parameter, lr: f32, step: u64) {
        let Parameter {
            value,
            grad,
            first,
            second,
            rate,
            ..
        } = parameter;
        let lr = lr * *rate;
        match *self {
            Self::Adam { beta1, beta2, eps } => {
                let power = |beta: f32| f64::from(beta).powi(step.min(i32::MAX as u64) as i32);
                let step_size = (f64::from(lr) / (1.0 - power(beta1))) as f32;
                let root = (1.0 - power(beta2)).sqrt() as f32;
                value
                    .par_chunks_mut(CHUNK)
                    .zip(grad.par_chunks(CHUNK))
                    .zip(first.par_chunks_mut(CHUNK))
                    .zip(second.par_chunks_mut(CHUNK))
                    .for_each(|(((value, grad), first), second)| {
                        let moments = first.iter_mut().zip(second);
                        for ((p, &g), (m, v)) in value.iter_mut().zip(grad).zip(moments) {
                            *m += (g - *m) * (1.0 - beta1);
                            *v = *v * beta2 + (1.0 - beta2) * g * g;
                            *p -= step_size * *m / (v.sqrt() / root + eps);
                        }
                    });
            }
            Self::Sgd {
                momentum,
                nesterov: false,
            } => {
                for ((p, &g), velocity) in value.iter_mut().zip(&*grad).zip(first) {
                    *velocity = momentum * *velocity + g;
                    *p -= lr * *velocity;
                }
            }
            Self::Sgd {
                momentum,
                nesterov: true,
            } => {
                for ((p, &g), velocity) in value.iter_mut().zip(&*grad).zip(first) {
                    *velocity = momentum * *velocity + g;
                    *p -= lr * (g + momentum * *velocity);
                }
            }
        }
    }
}
