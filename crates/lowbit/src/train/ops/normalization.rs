//! Batch-norm behind a convolution (Ioffe & Szegedy 2015).

use super::Parameter;
use crate::graph::Step;
use crate::train::pass::Statistics;
use crate::{Tensor, Weights};

/// The scale and shift of a convolution's map per channel: batch-norm's, or 1 and 0 without one.
pub(super) struct Normalization {
    norm: Option<BatchNorm>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    /// Of the scale: -1 or 1.
    pub(super) sign: Vec<f32>,
    /// What the batch's moments are taken about: the running mean before this batch.
    pub(super) pivot: Vec<f32>,
    mean: Vec<f64>,
    inv_std: Vec<f64>,
}

struct BatchNorm {
    name: String,
    eps: f64,
    momentum: f64,
    gamma: Parameter,
    beta: Parameter,
    running_mean: Vec<f32>,
    running_var: Vec<f32>,
}

/// The total over all images of channel `channel` of sum `which`, `sums` being `[images, 2, channels]`.
fn total(sums: &[f64], channels: usize, which: usize, channel: usize) -> f64 {
    sums.chunks_exact(2 * channels)
        .map(|image| image[which * channels + channel])
        .sum()
}

impl Normalization {
    pub(super) fn new(step: &Step, weights: &Weights) -> Self {
        let c = step.main_shape.c();
        let norm = step.epilogue.batch_norm.as_ref().map(|norm| {
            let statistic = |of: &str| weights.slice(&format!("{}.{of}", norm.name)).to_vec();
            BatchNorm {
                eps: f64::from(norm.eps),
                momentum: f64::from(norm.momentum),
                gamma: Parameter::new(format!("{}.weight", norm.name), weights),
                beta: Parameter::new(format!("{}.bias", norm.name), weights),
                running_mean: statistic("running_mean"),
                running_var: statistic("running_var"),
                name: norm.name.clone(),
            }
        });
        Self {
            norm,
            scale: vec![1.0; c],
            shift: vec![0.0; c],
            sign: vec![1.0; c],
            pivot: vec![0.0; c],
            mean: vec![0.0; c],
            inv_std: vec![1.0; c],
        }
    }

    /// Whether there is a batch-norm.
    pub(super) fn is_there(&self) -> bool {
        self.norm.is_some()
    }

    /// Scale, shift and pivot.
    pub(super) fn affine(&self) -> [&[f32]; 3] {
        [&self.scale, &self.shift, &self.pivot]
    }

    /// Sets what is known before the batch is seen: signs and pivots.
    pub(super) fn prepare(&mut self) {
        if let Some(norm) = &self.norm {
            self.pivot.copy_from_slice(&norm.running_mean);
            for (sign, &gamma) in self.sign.iter_mut().zip(&norm.gamma.value) {
                *sign = if gamma < 0.0 { -1.0 } else { 1.0 };
            }
        }
    }

    /// Sets scale and shift from the batch's moments about the pivot (`[images, 2, channels]`, over `pixels` in all), and
    /// moves the running statistics as PyTorch does: with the unbiased variance, while the biased one normalizes.
    /// Where they are kept, the running statistics serve and stay.
    pub(super) fn see(&mut self, moments: &[f64], pixels: f64, statistics: Statistics) {
        let Some(norm) = &mut self.norm else {
            return;
        };
        let channels = self.scale.len();
        let share = match statistics {
            Statistics::Move => Some(norm.momentum),
            Statistics::Take(share) => Some(share),
            Statistics::Keep => None,
        };
        for channel in 0..channels {
            let (mean, var) = if share.is_none() {
                (
                    f64::from(norm.running_mean[channel]),
                    f64::from(norm.running_var[channel]),
                )
            } else {
                let offset = total(moments, channels, 0, channel) / pixels;
                let square = total(moments, channels, 1, channel) / pixels;
                (
                    f64::from(self.pivot[channel]) + offset,
                    (square - offset * offset).max(0.0),
                )
            };
            let inv_std = 1.0 / (var + norm.eps).sqrt();
            let scale = f64::from(norm.gamma.value[channel]) * inv_std;
            self.mean[channel] = mean;
            self.inv_std[channel] = inv_std;
            self.scale[channel] = scale as f32;
            self.shift[channel] = (f64::from(norm.beta.value[channel]) - mean * scale) as f32;
            if let Some(share) = share {
                let unbiased = var * pixels / (pixels - 1.0).max(1.0);
                let blend =
                    |old: f32, new: f64| (f64::from(old) * (1.0 - share) + new * share) as f32;
                norm.running_mean[channel] = blend(norm.running_mean[channel], mean);
                norm.running_var[channel] = blend(norm.running_var[channel], unbiased);
            }
        }
    }

    /// Sets the gradients of γ and β (without batch-norm, of the bias) from the sums of `dy` and `dy·(x − pivot)`
    /// (`[images, 2, channels]`), and gives the coefficients a, b and c of the map's gradient `a·dy + (b·x + c)`.
    pub(super) fn gradients(
        &mut self,
        sums: &[f64],
        pixels: f64,
        statistics: Statistics,
        bias: Option<&mut Parameter>,
    ) -> [Vec<f32>; 3] {
        let channels = self.scale.len();
        let mut coefficients = [
            vec![1.0; channels],
            vec![0.0; channels],
            vec![0.0; channels],
        ];
        let Some(norm) = &mut self.norm else {
            if let Some(bias) = bias {
                for (channel, grad) in bias.grad.iter_mut().enumerate() {
                    *grad = total(sums, channels, 0, channel) as f32;
                }
            }
            return coefficients;
        };
        for channel in 0..channels {
            let (mean, inv_std) = (self.mean[channel], self.inv_std[channel]);
            let dy = total(sums, channels, 0, channel);
            let about_pivot = total(sums, channels, 1, channel);
            let dy_xhat = (about_pivot - (mean - f64::from(self.pivot[channel])) * dy) * inv_std;
            norm.beta.grad[channel] = dy as f32;
            norm.gamma.grad[channel] = dy_xhat as f32;
            // Ioffe & Szegedy 2015, the last equations of section 3, solved for the coefficients of dy and x.
            let a = f64::from(norm.gamma.value[channel]) * inv_std;
            coefficients[0][channel] = a as f32;
            if statistics == Statistics::Keep {
                // Running statistics do not depend on the batch.
                continue;
            }
            let b = -a * inv_std * dy_xhat / pixels;
            coefficients[1][channel] = b as f32;
            coefficients[2][channel] = (-a * dy / pixels - b * mean) as f32;
        }
        coefficients
    }

    /// Factor, mean and shift that inference folds into the channel's weights: `(x − mean) · factor + shift`.
    pub(super) fn folded(&self, channel: usize) -> (f64, f64, f64) {
        let Some(norm) = &self.norm else {
            return (1.0, 0.0, 0.0);
        };
        let std = (f64::from(norm.running_var[channel]) + norm.eps).sqrt();
        let factor = f64::from(norm.gamma.value[channel]) / std;
        let (mean, beta) = (norm.running_mean[channel], norm.beta.value[channel]);
        (factor, f64::from(mean), f64::from(beta))
    }

    pub(super) fn parameters(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let norm = self.norm.iter_mut();
        norm.flat_map(|norm| [&mut norm.gamma, &mut norm.beta])
    }

    pub(super) fn save(&self, weights: &mut Weights) {
        if let Some(norm) = &self.norm {
            norm.gamma.save(weights);
            norm.beta.save(weights);
            for (suffix, data) in [
                ("running_mean", &norm.running_mean),
                ("running_var", &norm.running_var),
            ] {
                let tensor = Tensor::new(vec![data.len()], data.clone());
                weights.insert(format!("{}.{suffix}", norm.name), tensor);
            }
        }
    }

    /// Reads the running statistics.
    pub(super) fn restore(&mut self, weights: &Weights) {
        if let Some(norm) = &mut self.norm {
            let statistic = |of: &str| weights.slice(&format!("{}.{of}", norm.name));
            norm.running_mean.copy_from_slice(statistic("running_mean"));
            norm.running_var.copy_from_slice(statistic("running_var"));
        }
    }
}
