//! Sums of two products that do not fit 16 bits.
//!
//! CPUs with AVX2 and without VNNI multiply u8 by i8 two at a time, and cut the sum of the two products to 16 bits
//! (`vpmaddubsw`). lowbit's kernels widen first. Other engines do not: where 255·|a + b| of two neighbouring weights passes
//! 2¹⁵ − 1, their answers may be wrong. Weights of 7 bits cannot.

use super::{ActivationQuant, QuantizedLayer, QuantizedModel, QuantizedModelError};
use crate::bits::WeightBits;
use crate::graph::{Op, Program, Step};

/// The largest sum of two weights of one sign that times 255 fits 16 bits.
const LARGEST_SUM: i32 = i16::MAX as i32 / 255;
/// Weights between it and its negative fit in any pair.
const REDUCED: f32 = 63.0;

/// Whether two neighbours, in the order in which a product sums them up, pass 16 bits with the largest input.
fn may_saturate(program: &Program, step: &Step, layer: &QuantizedLayer) -> bool {
    let fan_in = layer.weights.len() / layer.scale.len().max(1);
    // A flattened image is summed up channel by channel elsewhere.
    let value = program.value_shape(step.inputs[0]);
    let (rest, channels) = match step.op {
        Op::Linear(_) => (fan_in / value.c().max(1), value.c()),
        _ => (1, fan_in),
    };
    let at = |filter: &[i16], k: usize| i32::from(filter[k % rest * channels + k / rest]);
    let mut filters = layer.weights.chunks_exact(fan_in.max(1));
    filters.any(|filter| {
        let pairs = 0..fan_in / 2;
        let sum = |pair: usize| at(filter, 2 * pair) + at(filter, 2 * pair + 1);
        pairs.map(sum).any(|sum| sum.abs() > LARGEST_SUM)
    })
}

impl QuantizedModel {
    /// The layers, as indices of steps, of which two neighbouring products may not fit 16 bits.
    fn saturating(&self, program: &Program) -> Vec<usize> {
        if self.method != ActivationQuant::Static {
            return Vec::new();
        }
        let steps = program.steps().iter().zip(&self.layers).enumerate();
        let found = steps.filter(|(_, (step, layer))| {
            // Those of one channel are multiplied one by one.
            let is_depthwise = matches!(step.op, Op::Conv(conv) if conv.groups > 1 && conv.groups == step.in_shapes[0].c());
            layer.as_ref().is_some_and(|layer| {
                !is_depthwise
                    && layer.bits == WeightBits::B8
                    && may_saturate(program, step, layer)
            })
        });
        found.map(|(index, _)| index).collect()
    }

    /// Names the layers of 8-bit weights that engines which add two products in 16 bits may compute wrongly: on CPUs with
    /// AVX2 and without VNNI. lowbit does not.
    ///
    /// # Errors
    /// [`QuantizedModelError`] where the parts do not make a model.
    pub fn saturating_layers(&self) -> Result<Vec<String>, QuantizedModelError> {
        self.validate()?;
        let program = self.graph.program()?;
        let names = self.saturating(&program).into_iter();
        Ok(names
            .map(|index| program.steps()[index].name.clone())
            .collect())
    }

    /// Returns the model with weights of 7 bits in [those layers](Self::saturating_layers): their scales are 127/63 of what
    /// they were. (`reduce_range` of ONNX Runtime's quantizer does so to all layers.)
    ///
    /// # Errors
    /// [`QuantizedModelError`] where the parts do not make a model.
    pub fn with_reduced_range(mut self) -> Result<Self, QuantizedModelError> {
        self.validate()?;
        let program = self.graph.program()?;
        let ratio = REDUCED / f32::from(i8::MAX);
        for index in self.saturating(&program) {
            let layer = self.layers[index].as_mut().expect("it was found");
            for weight in &mut layer.weights {
                let reduced = (f32::from(*weight) * ratio).round_ties_even();
                *weight = reduced.clamp(-REDUCED, REDUCED) as i16;
            }
            for scale in &mut layer.scale {
                *scale /= ratio;
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv, GraphBuilder, Linear};
    use crate::{Quantizer, Shape, Weights};

    /// A 1×1 convolution of four channels on 2×2 pixels, and a linear layer on its flattened result; all weights are zero.
    fn model(groups: usize) -> QuantizedModel {
        let names = ["a", "b"].map(String::from);
        let mut builder = GraphBuilder::new("pairs", Shape::new(2, 2, 4), &names);
        let Op::Conv(conv) = Op::conv(4, 1, 1, 0) else {
            unreachable!()
        };
        let conv = builder.add("conv", Op::Conv(Conv { groups, ..conv }), &[0]);
        let flat = builder.add("flat", Op::Flatten, &[conv]);
        builder.add("fc", Op::Linear(Linear { out_features: 2 }), &[flat]);
        let graph = builder.finish().unwrap();
        let weights = Weights::init(&graph, 1);
        let images: Vec<u8> = (0..64).map(|i| i * 4).collect();
        let mut model = Quantizer::new(&graph, &weights).calibrate(&images).unwrap();
        for layer in model.layers.iter_mut().flatten() {
            layer.weights.fill(0);
        }
        model
    }

    fn set(model: &mut QuantizedModel, layer: usize, weights: &[(usize, i16)]) {
        let layer = model.layers.iter_mut().flatten().nth(layer).unwrap();
        for &(at, weight) in weights {
            layer.weights[at] = weight;
        }
    }

    #[test]
    fn neighbours_of_one_sign_saturate_from_129_on() {
        for (weights, saturates) in [
            ([(4, 127), (5, 1)], false),
            ([(4, 127), (5, 2)], true),
            ([(4, -127), (5, -2)], true),
            ([(4, 127), (5, -127)], false),
            // The second of one pair and the first of the next.
            ([(5, 127), (6, 127)], false),
        ] {
            let mut model = model(1);
            set(&mut model, 0, &weights);
            let found = model.saturating_layers().unwrap();
            assert_eq!(found, ["conv"][..usize::from(saturates)], "{weights:?}");
        }
    }

    #[test]
    fn a_flattened_image_is_summed_up_channel_by_channel() {
        // Pixels 0 and 1 of channel 2 stand 4 apart; channels 0 and 1 of a pixel are no neighbours.
        for (weights, saturates) in [([(2, 100), (6, 100)], true), ([(0, 100), (1, 100)], false)] {
            let mut model = model(1);
            set(&mut model, 1, &weights);
            let found = model.saturating_layers().unwrap();
            assert_eq!(found, ["fc"][..usize::from(saturates)], "{weights:?}");
        }
    }

    #[test]
    fn weights_of_seven_bits_are_the_same_numbers_nearly_and_never_saturate() {
        let mut model = model(1);
        set(&mut model, 0, &[(0, 127), (1, 127), (2, -126), (3, 3)]);
        set(&mut model, 1, &[(0, 100)]);
        let reduced = model.clone().with_reduced_range().unwrap();
        assert!(reduced.saturating_layers().unwrap().is_empty());
        let layers = |model: &QuantizedModel| {
            let layers = model.layers.iter().flatten().cloned();
            layers.collect::<Vec<_>>()
        };
        let (before, after) = (layers(&model), layers(&reduced));
        assert_eq!(after[0].weights[..4], [63, 63, -63, 1]);
        assert!((after[0].scale[0] / before[0].scale[0] - 127.0 / 63.0).abs() < 1e-6);
        assert_eq!(after[1], before[1]);
    }

    #[test]
    fn a_depthwise_convolution_multiplies_one_by_one() {
        assert!(model(4).saturating_layers().unwrap().is_empty());
    }
}
