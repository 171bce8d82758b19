//! Activations and their integers.

use super::{ActivationQuantizer, best_scale};
use crate::Weights;
use crate::bits::ActivationBits;
use crate::lower::Layout;
use crate::quant::ActivationParams;
use crate::train::parameter::Parameter;
use lowbit_kernels::elementwise::{self, FakeQuantGradient};
use lowbit_kernels::{AlignedBuffer, Isa};
use rayon::prelude::*;

/// A step's logarithm that was never set.
const UNSET: f32 = -1e30;

/// Weight of a new batch in a moving range.
const EMA: f32 = 0.05;

/// Values of the first batch that choose the first scale.
const SAMPLE: usize = 1 << 15;

/// Values whose range one thread finds at a time.
const LOOK: usize = 1 << 15;

/// The quantizer of one value.
pub(in crate::train) struct ActivationState {
    kind: ActivationQuantizer,
    bits: ActivationBits,
    zero_point: u8,
    ln_scale: Parameter,
    /// Integers in the value's layout, the halo holding the zero point.
    pub(in crate::train) codes: AlignedBuffer<u8>,
    /// Per element, dense: what its gradient contributes to the step's logarithm, `x̂ − x` inside the range and `x̂`
    /// where it was clipped.
    terms: AlignedBuffer<f32>,
}

impl ActivationState {
    /// `relu` says that the value is never negative.
    pub(in crate::train) fn new(
        kind: ActivationQuantizer,
        bits: ActivationBits,
        relu: bool,
        layer: &str,
        weights: &Weights,
    ) -> Self {
        let name = format!("{layer}.activation_ln_scale");
        Self {
            kind,
            bits,
            zero_point: if relu {
                0
            } else {
                bits.level_max().div_ceil(2)
            },
            ln_scale: Parameter::or(name, vec![UNSET], weights).at_rate(super::STEP_RATE),
            codes: AlignedBuffer::zeroed(0),
            terms: AlignedBuffer::zeroed(0),
        }
    }

    /// The parameters as they stand; none before the first batch.
    pub(in crate::train) fn params(&self) -> Option<ActivationParams> {
        let ln_scale = self.ln_scale.value[0];
        (ln_scale > UNSET).then(|| ActivationParams {
            scale: ln_scale.exp(),
            zero_point: self.zero_point,
        })
    }

    /// Begins with these instead of what the first batch shows.
    pub(in crate::train) fn begin_with(&mut self, params: ActivationParams) {
        self.ln_scale.value[0] = params.scale.ln();
        self.zero_point = params.zero_point;
    }

    /// Makes room for `count` images.
    pub(in crate::train) fn reserve(&mut self, layout: &Layout, count: usize) {
        if self.codes.len() < count * layout.image_len {
            self.codes = AlignedBuffer::zeroed(count * layout.image_len);
            self.codes.fill(self.zero_point);
            self.terms = AlignedBuffer::zeroed(count * layout.dense_len());
        }
    }

    /// Rounds the value: integers to `codes`, what they stand for back into `value`. A moving range stays unless it `moves`.
    pub(in crate::train) fn forward(
        &mut self,
        isa: Isa,
        (layout, count): (&Layout, usize),
        value: &mut [f32],
        moves: bool,
    ) {
        self.reserve(layout, count);
        let dense = layout.dense_len();
        let value = &mut value[..count * layout.image_len];
        let is_moving = self.kind == ActivationQuantizer::Ema && moves;
        if self.ln_scale.value[0] <= UNSET || is_moving {
            self.look(isa, value);
        }
        let scale = self.ln_scale.value[0].exp();
        let zero = f32::from(self.zero_point);
        let high = f32::from(self.bits.level_max());
        let row_len = layout.w * layout.c;
        value
            .par_chunks_mut(layout.image_len)
            .zip(self.codes.par_chunks_mut(layout.image_len))
            .zip(self.terms.par_chunks_mut(dense))
            .for_each(|((value, codes), terms)| {
                for row in 0..layout.h {
                    let at = layout.row(0, row);
                    let value = &mut value[at.clone()];
                    let codes = &mut codes[at];
                    let terms = &mut terms[row * row_len..][..row_len];
                    elementwise::fake_quant(isa, scale, zero, high, value, codes, terms);
                }
            });
    }

    /// Chooses the first scale, or moves the range. The halo's zeros do no harm: zero is always in range.
    fn look(&mut self, isa: Isa, value: &[f32]) {
        let zero = f32::from(self.zero_point);
        let high = f32::from(self.bits.level_max());
        let largest = value
            .par_chunks(LOOK)
            .map(|part| elementwise::min_max(isa, part))
            .map(|(low, high)| high.max(-low))
            .reduce(|| f32::MIN_POSITIVE, f32::max);
        let covering = largest / (high - zero).max(1.0);
        let current = self.ln_scale.value[0];
        let scale = if self.kind != ActivationQuantizer::Ema {
            let step = (value.len() / SAMPLE).max(1);
            let sample = value.iter().copied().step_by(step);
            let rounded =
                |x: f32, s: f32| ((x / s).round_ties_even().clamp(-zero, high - zero)) * s;
            best_scale(sample, covering, rounded)
        } else if current > UNSET {
            current.exp() * (1.0 - EMA) + covering * EMA
        } else {
            covering
        };
        self.ln_scale.value[0] = scale.max(1e-12).ln();
    }

    /// Turns the gradient of the rounded value into that of the value itself, in place: straight through inside the
    /// range, zero outside; and sums the step's.
    pub(in crate::train) fn backward(
        &mut self,
        isa: Isa,
        count: usize,
        dense: usize,
        grad: &mut [f32],
        ste: bool,
    ) {
        let gradient = FakeQuantGradient {
            half_step: 0.500_01 * self.ln_scale.value[0].exp(),
            straight_through: ste,
            inside_counts: self.kind != ActivationQuantizer::Pact,
        };
        let sums: Vec<f64> = grad[..count * dense]
            .par_chunks_mut(dense)
            .zip(self.terms.par_chunks(dense))
            .map(|(grad, terms)| elementwise::fake_quant_gradient(isa, gradient, grad, terms))
            .collect();
        let scale = 1.0 / (dense as f64 * f64::from(self.bits.level_max())).sqrt();
        let learned = self.kind != ActivationQuantizer::Ema;
        let sum: f64 = sums.iter().sum();
        self.ln_scale.grad[0] = if learned { (sum * scale) as f32 } else { 0.0 };
    }

    pub(in crate::train) fn parameter(&mut self) -> &mut Parameter {
        &mut self.ln_scale
    }

    pub(in crate::train) fn save(&self, weights: &mut Weights) {
        self.ln_scale.save(weights);
    }
}
