//! What each pixel's channels do together: softmax and layer norm, with ReLU. Sums in f64.

use super::{Layer, Pass, Place};
use crate::exec::softmax;
use crate::lower::Plan;
use lowbit_kernels::Isa;
use lowbit_kernels::elementwise::layer_norm_f32;

pub(super) struct PerPixel {
    place: Place,
    function: Function,
    isa: Isa,
}

#[derive(Clone, Copy)]
enum Function {
    Softmax,
    /// With what is added to the variance.
    LayerNorm(f32),
}

impl PerPixel {
    pub(super) fn softmax(plan: &Plan, index: usize, isa: Isa) -> Self {
        Self::new(plan, index, Function::Softmax, isa)
    }

    pub(super) fn layer_norm(plan: &Plan, index: usize, eps: f32, isa: Isa) -> Self {
        Self::new(plan, index, Function::LayerNorm(eps), isa)
    }

    fn new(plan: &Plan, index: usize, function: Function, isa: Isa) -> Self {
        Self {
            place: Place::new(plan, index),
            function,
            isa,
        }
    }
}

impl Function {
    /// Of one pixel.
    fn value(self, isa: Isa, x: &[f32], y: &mut [f32]) {
        match self {
            Self::Softmax => softmax(x, y),
            Self::LayerNorm(eps) => layer_norm_f32(isa, x.len(), eps, x, y),
        }
    }

    /// Adds the gradient of a pixel from that of its result `y`.
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
        let Place { input, output, .. } = self.place;
        self.place.forward(pass, |x, y| {
            for row in 0..output.h {
                let x = x[input.row(0, row)].chunks_exact(input.c);
                let y = y[output.row(0, row)].chunks_exact_mut(output.c);
                x.zip(y)
                    .for_each(|(x, y)| self.function.value(self.isa, x, y));
            }
        });
    }

    fn backward(&mut self, pass: &mut Pass) {
        let input = self.place.input;
        self.place.backward(pass, |x, dy, grad| {
            let mut y = vec![0.0; input.c];
            let pixels = grad.chunks_exact_mut(input.c).zip(dy.chunks_exact(input.c));
            for (pixel, (grad, dy)) in pixels.enumerate() {
                let x = &x[input.first() + input.pixel(pixel)..][..input.c];
                self.function.value(self.isa, x, &mut y);
                self.function.gradient(x, &y, dy, grad);
            }
        });
    }
}
