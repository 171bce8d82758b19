//! The values and gradients of one batch.

use super::qat::{ActivationState, QatConfig};
use crate::Weights;
use crate::graph::{Graph, Pixels, Step, ValueId};
use crate::lower::Plan;
use crate::quant::InputParams;
use lowbit_kernels::{AlignedBuffer, Isa};

/// What a batch does to the statistics that outlive it: batch-norm's running ones, and moving activation ranges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Statistics {
    /// It moves both, batch-norm's by their own momentum.
    Move,
    /// Batch-norm's take this share from it; ranges stay.
    Take(f64),
    /// Both serve, and stay.
    Keep,
}

/// The buffers that one step works on.
pub(super) struct Pass {
    pub(super) isa: Isa,
    pub(super) plan: Plan,
    /// Images in the batch.
    pub(super) count: usize,
    /// In their layouts, halos being zero.
    pub(super) values: Vec<AlignedBuffer<f32>>,
    /// Dense gradients, `[count, h, w, c]`.
    pub(super) grads: Vec<AlignedBuffer<f32>>,
    /// Whether a gradient holds something already: a later reader adds to it.
    pub(super) written: Vec<bool>,
    /// Quantizers of the values; empty in f32 training, none for the logits and (as pixels are integers) the image, and
    /// none at all where weights alone are quantized.
    pub(super) quantizers: Vec<Option<ActivationState>>,
    /// The image's own integers, with its halo; empty in f32 training.
    pub(super) pixels: AlignedBuffer<u8>,
    /// What the image's integers stand for.
    pub(super) pixel_params: InputParams,
    /// What quantization-aware training does; none in f32 training.
    pub(super) qat: Option<QatConfig>,
    /// What a batch does to statistics that outlive it.
    pub(super) statistics: Statistics,
    capacity: usize,
}

impl Pass {
    pub(super) fn new(
        plan: Plan,
        isa: Isa,
        qat: Option<QatConfig>,
        graph: &Graph,
        weights: &Weights,
    ) -> Self {
        let values = plan.layouts.len();
        let quantizers = match &qat {
            None => Vec::new(),
            Some(config) => (0..values)
                .map(|value| {
                    let inner = value > 0 && value + 1 < values && !config.has_float_activations();
                    let step = inner.then(|| &plan.exec.program.steps()[value - 1])?;
                    Some(ActivationState::new(
                        config.activation_quantizer,
                        config.activation_bits,
                        is_never_negative(step),
                        &step.name,
                        weights,
                    ))
                })
                .collect(),
        };
        Self {
            quantizers,
            pixels: AlignedBuffer::zeroed(0),
            pixel_params: Pixels::of(graph).params,
            qat,
            statistics: Statistics::Move,
            isa,
            plan,
            count: 0,
            values: vec![AlignedBuffer::zeroed(0); values],
            grads: vec![AlignedBuffer::zeroed(0); values],
            written: vec![false; values],
            capacity: 0,
        }
    }

    /// Makes room for `count` images and forgets the last batch's gradients.
    pub(super) fn begin(&mut self, count: usize) {
        if count > self.capacity {
            for (value, layout) in self.plan.layouts.iter().enumerate() {
                self.values[value] = AlignedBuffer::zeroed(layout.image_len * count);
                self.grads[value] = AlignedBuffer::zeroed(layout.dense_len() * count);
            }
            if self.qat.is_some() {
                self.pixels = AlignedBuffer::zeroed(self.plan.layouts[0].image_len * count);
                self.pixels.fill(self.pixel_params.params.zero_point);
            }
            self.capacity = count;
        }
        self.count = count;
        self.written.fill(false);
    }

    /// Rounds a value that a block has just written.
    pub(super) fn quantize(&mut self, value: ValueId) {
        if let Some(Some(quantizer)) = self.quantizers.get_mut(value) {
            let layout = &self.plan.layouts[value];
            let (batch, value) = ((layout, self.count), &mut self.values[value]);
            let moves = self.statistics == Statistics::Move;
            quantizer.forward(self.isa, batch, value, moves);
        }
    }

    /// Takes a value's gradient back through its rounding.
    pub(super) fn quantize_backward(&mut self, value: ValueId) {
        if let (Some(Some(quantizer)), Some(config)) = (self.quantizers.get_mut(value), &self.qat) {
            let dense = self.plan.layouts[value].dense_len();
            quantizer.backward(
                self.isa,
                self.count,
                dense,
                &mut self.grads[value],
                config.ste,
            );
        }
    }

    /// A value's integers and what they stand for.
    pub(super) fn codes(&self, value: ValueId) -> (&AlignedBuffer<u8>, InputParams) {
        if value == 0 {
            return (&self.pixels, self.pixel_params);
        }
        let quantizer = self.quantizers[value]
            .as_ref()
            .expect("inner values are quantized");
        let params = quantizer
            .params()
            .expect("a value is rounded before it is read");
        (&quantizer.codes, params.into())
    }

    /// Whether layers multiply integers; else f32, though weights may be rounded.
    pub(super) fn has_integer_products(&self) -> bool {
        self.qat
            .is_some_and(|config| !config.has_float_activations())
    }

    /// A value to read and another, later one to write.
    pub(super) fn value_pair(
        &mut self,
        read: ValueId,
        write: ValueId,
    ) -> (&AlignedBuffer<f32>, &mut AlignedBuffer<f32>) {
        let (earlier, later) = self.values.split_at_mut(write);
        (&earlier[read], &mut later[0])
    }
}

/// Whether a step's result is never negative, so that its integers need no zero point but 0.
fn is_never_negative(step: &Step) -> bool {
    step.epilogue.relu || step.op.nature().is_never_negative
}
