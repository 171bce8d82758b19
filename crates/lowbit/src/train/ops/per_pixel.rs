//! What each pixel's channels do together: softmax and layer norm, with ReLU. Sums in f64.

use super::{Layer, Pass, Place};
use crate::exec::{layer_norm, softmax};
use crate::lower::Plan;
use rayon::prelude::*;

pub(super) struct PerPixel {
    place: Place,
    relu: bool,
    function: Function,
}

#[derive(Clone, Copy)]
enum Function {
    Softmax,
    /// With what is added to the variance.
    LayerNorm(f32),
}

impl PerPixel {
    pub(super) fn softmax(plan: &Plan, index: usize) -> Self {
        Self::new(plan, index, Function::Softmax)
    }

    pub(super) fn layer_norm(plan: &Plan, index: usize, eps: f32) -> Self {
        Self::new(plan, index, Function::LayerNorm(eps))
    }

    fn new(plan: &Plan, index: usize, function: Function) -> Self {
        Self {
            place: Place::new(plan, index),
            relu: plan.exec.program.steps()[index].epilogue.relu,
            function,
        }
    }
}

impl Function {
    /// Of one pixel.
    fn value(self, x: &[f32], y: &mut [f32]) {
        match self {
            Self::Softmax => softmax(x, y),
            Self::LayerNorm(eps) => layer_norm(eps, x, y),
        }
    }

    /// Adds the gradient of a pixel from that of its result; `y` is the result, which may have been rounded where it was stored.
    fn gradient(self, x: &[f32], y: &[f32], dy: &[f32], grad: &mut [f32]) {
        let along = sum(y, |at, y| y * f64::from(dy[at]));
        match self {
            // ∂yᵢ/∂xⱼ = yᵢ·(δᵢⱼ − yⱼ).
            Self::Softmax => {
                for ((grad, &y), &dy) in grad.iter_mut().zip(y).zip(dy) {
                    *grad += (f64::from(y) * (f64::from(dy) - along)) as f32;
                }
            }
            // As batch-norm's (Ioffe & Szegedy 2015, section 3), over the channels: what the result is normalized by depends
            // on all of them.
            Self::LayerNorm(eps) => {
                let count = x.len() as f64;
                let mean = sum(x, |_, x| x) / count;
                let variance = sum(x, |_, x| (x - mean).powi(2)) / count;
                let factor = 1.0 / (variance + f64::from(eps)).sqrt();
                let mean_dy = sum(dy, |_, dy| dy) / count;
                let along = along / count;
                for ((grad, &y), &dy) in grad.iter_mut().zip(y).zip(dy) {
                    let rest = f64::from(dy) - mean_dy - f64::from(y) * along;
                    *grad += (factor * rest) as f32;
                }
            }
        }
    }
}

/// The sum of `term(number, element)`, in lanes: every eighth element has one.
fn sum(x: &[f32], term: impl Fn(usize, f64) -> f64) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    for (part, x) in x.chunks(LANES).enumerate() {
        for (at, (lane, &x)) in lanes.iter_mut().zip(x).enumerate() {
            *lane += term(part * LANES + at, f64::from(x));
        }
    }
    lanes.iter().sum()
}

impl Layer for PerPixel {
    fn forward(&mut self, pass: &mut Pass) {
        let Place {
            from,
            to,
            input,
            output,
        } = self.place;
        let (function, relu) = (self.function, self.relu);
        let count = pass.count;
        let (x, y) = pass.value_pair(from, to);
        y[..count * output.image_len]
            .par_chunks_mut(output.image_len)
            .enumerate()
            .for_each(|(image, out)| {
                for row in 0..output.h {
                    let x = x[input.row(image, row)].chunks_exact(input.c);
                    let out = out[output.row(0, row)].chunks_exact_mut(output.c);
                    for (x, y) in x.zip(out) {
                        function.value(x, y);
                        if relu {
                            y.iter_mut().for_each(|y| *y = y.max(0.0));
                        }
                    }
                }
            });
        pass.quantize(to);
    }

    fn backward(&mut self, pass: &mut Pass) {
        let Place {
            from, to, input, ..
        } = self.place;
        let (function, relu) = (self.function, self.relu);
        pass.quantize_backward(to);
        let accumulate = std::mem::replace(&mut pass.written[from], true);
        let (earlier, later) = pass.grads.split_at_mut(to);
        let (len, x) = (input.dense_len(), &pass.values[from]);
        earlier[from][..pass.count * len]
            .par_chunks_mut(len)
            .zip(later[0].par_chunks(len))
            .enumerate()
            .for_each(|(image, (grads, dys))| {
                if !accumulate {
                    grads.fill(0.0);
                }
                let (mut y, mut dy) = (vec![0.0; input.c], vec![0.0; input.c]);
                let grads = grads.chunks_exact_mut(input.c);
                for (pixel, (grad, whole)) in grads.zip(dys.chunks_exact(input.c)).enumerate() {
                    let first = image * input.image_len + input.first();
                    let x = &x[first + input.pixel(pixel)..][..input.c];
                    function.value(x, &mut y);
                    for ((dy, &whole), &y) in dy.iter_mut().zip(whole).zip(&y) {
                        *dy = if relu && y <= 0.0 { 0.0 } else { whole };
                    }
                    function.gradient(x, &y, &dy, grad);
                }
            });
    }
}
