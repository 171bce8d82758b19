//! Convolutions and linear layers of quantized weights, whichever kind of file they come from.

use crate::LabError;
use lowbit::graph::Op;
use lowbit::quant::{ActivationQuant, QuantizedModel};

/// A convolution or linear layer with quantized weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    /// The node or layer.
    pub(super) name: String,
    /// Whether each filter sees one channel.
    pub(super) is_depthwise: bool,
    /// Bits of a weight.
    pub(super) bits: u8,
    /// The smallest and the largest integer of that type.
    pub(super) limits: [i64; 2],
    /// Integers of each filter, one behind the other, in the order in which products are summed up: rows, columns, channels.
    pub(super) codes: Vec<i64>,
    /// Number of filters.
    pub(super) filters: usize,
    /// Step of each filter, or one for all.
    pub(super) scales: Vec<f32>,
    /// The integer that stands for 0, of each filter or one for all.
    pub(super) zero_points: Vec<i64>,
    /// Whether unsigned bytes go in and integers come out in the runtimes that know the file's form.
    pub(super) takes_bytes: bool,
}

impl Product {
    /// The integers of each filter.
    pub(super) fn each_filter(&self) -> impl Iterator<Item = &[i64]> {
        self.codes.chunks_exact(self.taps().max(1))
    }

    /// Weights of a filter.
    pub(super) fn taps(&self) -> usize {
        self.codes.len() / self.filters.max(1)
    }

    /// Whether one step serves filters that could have their own.
    pub(super) fn is_per_tensor(&self) -> bool {
        self.filters > 1 && self.scales.iter().all(|scale| *scale == self.scales[0])
    }

    /// The largest magnitude of a filter, from its zero.
    pub(super) fn largest(&self, filter: usize, codes: &[i64]) -> i64 {
        let zero = match &self.zero_points[..] {
            [zero] => *zero,
            zeros => zeros.get(filter).copied().unwrap_or(0),
        };
        codes
            .iter()
            .map(|code| code.saturating_sub(zero).saturating_abs())
            .max()
            .unwrap_or(0)
    }

    /// The largest magnitude that its type has on both sides of its zero point.
    pub(super) fn reach(&self) -> i64 {
        let zero = self.zero_points.first().copied().unwrap_or(0);
        let [low, high] = self.limits;
        let reach = high.saturating_sub(zero);
        reach.max(zero.saturating_sub(low)).max(1)
    }
}

/// The products of one of lowbit's models.
pub(super) fn products_of(model: &QuantizedModel) -> Result<Vec<Product>, LabError> {
    let program = model.graph.program()?;
    let mut found = Vec::new();
    for (step, layer) in program.steps().iter().zip(&model.layers) {
        let Some(layer) = layer else { continue };
        let is_depthwise = matches!(step.op, Op::Conv(conv) if conv.groups > 1 && conv.groups == step.in_shapes[0].c());
        let largest = i64::from(layer.bits.magnitude_max());
        let filters = layer.scale.len();
        let codes = layer.weights.iter().map(|&code| i64::from(code));
        let value = program.value_shape(step.inputs[0]);
        // A flattened image is summed up channel by channel elsewhere.
        let codes: Vec<i64> = codes.collect();
        let codes = match step.op {
            Op::Linear(_) => turned(&codes, codes.len() / filters.max(1), value.c()),
            _ => codes,
        };
        found.push(Product {
            name: step.name.clone(),
            is_depthwise,
            bits: layer.bits.get(),
            limits: [-largest, largest],
            codes,
            filters,
            scales: layer.scale.clone(),
            zero_points: vec![0],
            takes_bytes: model.method == ActivationQuant::Static,
        });
    }
    Ok(found)
}

/// Turns each filter of so many weights from `[outer, inner]` to `[inner, outer]`.
pub(super) fn turned(codes: &[i64], filter: usize, inner: usize) -> Vec<i64> {
    let inner = inner.max(1);
    let filters = codes.chunks_exact(filter.max(1));
    let turned = filters.flat_map(|filter| {
        (0..inner).flat_map(move |at| filter.iter().skip(at).step_by(inner).copied())
    });
    turned.collect()
}
