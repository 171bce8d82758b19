//! A network in training: its layers, and the values and gradients of one batch.

use super::TrainError;
use super::ops::{self, Layer};
use super::parameter::Parameter;
use super::pass::Pass;
use super::qat::QatConfig;
use crate::Weights;
use crate::graph::{Graph, Pixels};
use crate::lower::{ExecProgram, Plan};
use crate::quant::{ActivationQuant, Arithmetic, FloatParts, QuantizedModel};
use lowbit_kernels::Isa;
use rayon::prelude::*;
use std::ops::Range;

/// A graph whose steps run forward and backward.
pub(super) struct Network {
    pub(super) graph: Graph,
    pixels: Pixels,
    /// What each pixel value is to the network, for all channels or for each.
    reals: Vec<[f32; 256]>,
    pub(super) layers: Vec<Box<dyn Layer>>,
    pub(super) pass: Pass,
}

impl Network {
    /// In f32, or quantization-aware with a configuration.
    pub(super) fn compile(
        graph: &Graph,
        weights: &Weights,
        qat: Option<QatConfig>,
        isa: Isa,
    ) -> Result<Self, TrainError> {
        let qat = qat.map(QatConfig::chosen);
        weights.check(graph)?;
        let pass = Pass::new(
            Plan::new(ExecProgram::float(graph.program()?))?,
            isa,
            qat,
            graph,
            weights,
        );
        let steps = pass.plan.exec.program.steps().len();
        let layers = (0..steps)
            .map(|index| ops::layer(&pass.plan, index, weights, isa, qat.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let pixels = Pixels::of(graph);
        Ok(Self {
            graph: graph.clone(),
            reals: pixels.reals(),
            pixels,
            layers,
            pass,
        })
    }

    /// Calls `change` with what these steps train, in order, and whether it is a layer's; quantizers of the values that they give
    /// come last.
    pub(super) fn each_parameter(
        &mut self,
        steps: Range<usize>,
        mut change: impl FnMut(&mut Parameter, bool),
    ) {
        for layer in &mut self.layers[steps.clone()] {
            for parameter in layer.parameters() {
                change(parameter, true);
            }
        }
        // There are none in f32 training.
        let given = self.pass.quantizers.get_mut(steps.start + 1..=steps.end);
        for quantizer in given.into_iter().flatten().flatten() {
            change(quantizer.parameter(), false);
        }
    }

    /// Runs the network on `count` images (`[n, h, w, c]`).
    pub(super) fn forward(&mut self, images: &[u8], count: usize) {
        self.pass.begin(count);
        self.load(images);
        self.run(0..self.layers.len());
    }

    /// Runs some steps of it, whose inputs are in `pass`.
    pub(super) fn run(&mut self, steps: Range<usize>) {
        for layer in &mut self.layers[steps] {
            layer.forward(&mut self.pass);
        }
    }

    /// Takes the gradient of what the last of these steps gives back to the input of the first; gradients of parameters are left
    /// in them.
    pub(super) fn backward(&mut self, steps: Range<usize>) {
        self.pass.written[steps.end] = true;
        for layer in self.layers[steps].iter_mut().rev() {
            layer.backward(&mut self.pass);
        }
    }

    /// Takes images (`[n, h, w, c]`) for a batch that has begun.
    pub(super) fn load(&mut self, images: &[u8]) {
        let layout = self.pass.plan.layouts[0];
        let row_len = layout.row_len();
        let pixels = &self.pixels;
        if self.pass.qat.is_some() {
            self.pass
                .pixels
                .par_chunks_mut(layout.image_len)
                .zip(images.par_chunks(layout.dense_len()))
                .for_each(|(out, image)| {
                    for (row, of_row) in image.chunks_exact(row_len).enumerate() {
                        pixels.write_integers(of_row, &mut out[layout.row(0, row)]);
                    }
                });
        }
        let reals = &self.reals;
        self.pass.values[0]
            .par_chunks_mut(layout.image_len)
            .zip(images.par_chunks(layout.dense_len()))
            .for_each(|(out, image)| {
                for (row, of_row) in image.chunks_exact(row_len).enumerate() {
                    let out = &mut out[layout.row(0, row)];
                    if let [table] = &reals[..] {
                        let pairs = out.iter_mut().zip(of_row);
                        pairs.for_each(|(real, &x)| *real = table[usize::from(x)]);
                        continue;
                    }
                    let channels = reals.iter().cycle();
                    for ((real, &x), table) in out.iter_mut().zip(of_row).zip(channels) {
                        *real = table[usize::from(x)];
                    }
                }
            });
    }

    /// The integer model of the weights as they stand: what evaluation runs, and what is shipped. None in f32 training,
    /// or before the first step has set the activations' scales.
    #[must_use]
    pub(super) fn quantized_model(&mut self) -> Option<QuantizedModel> {
        let config = self.pass.qat?;
        let method = if config.has_float_activations() {
            ActivationQuant::WeightOnly
        } else {
            ActivationQuant::Static
        };
        let mut activations = vec![None; self.layers.len() + 1];
        if method == ActivationQuant::Static {
            let inner = 1..self.layers.len();
            for (params, quantizer) in activations[inner.clone()]
                .iter_mut()
                .zip(&self.pass.quantizers[inner])
            {
                *params = Some(quantizer.as_ref()?.params()?);
            }
        }
        let provenance = [
            ("quantized", "while training".to_owned()),
            ("weight_quantizer", config.quantizer.to_string()),
            (
                "activation_quantizer",
                config.activation_quantizer.to_string(),
            ),
        ];
        let model = QuantizedModel {
            graph: self.graph.clone(),
            method,
            arithmetic: Arithmetic::RealBias,
            layers: self.layers.iter_mut().map(|layer| layer.export()).collect(),
            activations,
            activation_bits: config.activation_bits,
            float: FloatParts::default(),
            provenance: provenance
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
        };
        Some(model.with_integer_biases_of(&self.pass.plan.exec.program))
    }
}
