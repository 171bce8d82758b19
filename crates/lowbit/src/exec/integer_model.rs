//! The integer path: u8 between the layers, packed weights, one rounding rule.

use super::engine::Engine;
use super::kernel::Kernel;
use super::load::Loader;
use super::u8::{IntegerLayer, Values};
use super::{FloatModel, LayerProfile, Model, RuntimeError, convert, count, f32, u8};
use crate::graph::{Graph, Pixels, Step};
use crate::lower::{ExecProgram, Mode, Numbers, Plan, Work};
use crate::quant::{
    ActivationParams, ActivationQuant, InputParams, QuantizedLayer, QuantizedModel,
};
use lowbit_kernels::Isa;
use lowbit_kernels::pages::in_large_pages;

/// A quantized model compiled for integer inference.
///
/// ```
/// use lowbit::exec::{IntegerModel, Model};
/// use lowbit::{Quantizer, Shape, Weights, graph::zoo};
///
/// let classes = ["water", "forest"].map(String::from);
/// let graph = zoo::build("mlp", Shape::new(8, 8, 3), &classes)?;
/// let images = vec![100; 3 * graph.input().len()];
/// let quantized = Quantizer::new(&graph, &Weights::init(&graph, 1)).calibrate(&images)?;
/// let model = IntegerModel::new(&quantized)?;
/// let mut logits = vec![0.0; 3 * graph.classes()];
/// model.run(&images, &mut logits)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct IntegerModel {
    graph: Graph,
    kind: Kind,
}

enum Kind {
    Integer(Engine),
    WeightOnly(FloatModel),
}

/// Marks halos that each batch fills anew.
const FILLED_IN_BATCH: u32 = 256;

impl IntegerModel {
    /// Packs and plans `model` for the machine's best instruction set, or that of `LOWBIT_ISA`.
    ///
    /// # Errors
    /// [`RuntimeError`] when the layers and activations do not fit the graph.
    pub fn new(model: &QuantizedModel) -> Result<Self, RuntimeError> {
        Self::compile(model, Isa::current()?)
    }

    /// Packs and plans `model` for `isa`. Results do not depend on it.
    ///
    /// # Errors
    /// [`RuntimeError`] when the layers and activations do not fit the graph.
    pub fn compile(model: &QuantizedModel, isa: Isa) -> Result<Self, RuntimeError> {
        model.validate()?;
        let kind = match model.method {
            ActivationQuant::WeightOnly => Kind::WeightOnly(FloatModel::dequantized(model, isa)?),
            ActivationQuant::Static => Kind::Integer(engine(model, Mode::Static, isa, true)?),
            ActivationQuant::Dynamic => Kind::Integer(engine(model, Mode::Dynamic, isa, false)?),
        };
        Ok(Self {
            graph: model.graph.clone(),
            kind,
        })
    }
}

/// Makes the kernels of a quantized model's steps.
pub(super) struct Kernels {
    values: Values,
    pub(super) pixels: Pixels,
    one_bit_input: bool,
    isa: Isa,
}

impl Kernels {
    /// `signs` says whether products of signs run where both sides have one bit.
    pub(super) fn new(model: &QuantizedModel, mode: Mode, isa: Isa, signs: bool) -> Self {
        let pixels = Pixels::of_model(&model.graph, model.activations[0]);
        let values = Values {
            params: params(model, &pixels),
            high: model.activation_bits.level_max(),
            pixels: pixels.params,
            dynamic: mode == Mode::Dynamic,
            arithmetic: model.arithmetic,
        };
        Self {
            values,
            pixels,
            one_bit_input: signs && model.activation_bits.get() == 1,
            isa,
        }
    }

    /// The kernel of an executed step; `layer` has the integers of its layer, if there are any.
    pub(super) fn kernel(
        &self,
        plan: &Plan,
        index: usize,
        layer: Option<&QuantizedLayer>,
    ) -> Box<dyn Kernel> {
        let (values, pixels, isa) = (&self.values, &self.pixels, self.isa);
        let step = &plan.exec.steps[index];
        let value = plan.exec.values[step.output].value;
        match step.work {
            Work::Operator(Numbers::F32) => {
                let weights = layer.map(|layer| (layer.dequantized(), layer.bias.clone()));
                f32::kernel(plan, index, weights, isa)
            }
            Work::Operator(Numbers::U8) => {
                let layer = layer.map(|layer| IntegerLayer {
                    layer,
                    one_bit_input: self.one_bit_input,
                });
                u8::kernel(plan, index, layer, values, isa)
            }
            Work::Dequantize => {
                Box::new(convert::Dequantize::new(plan, index, values, pixels, isa))
            }
            Work::Quantize => Box::new(convert::Quantize::new(
                plan,
                index,
                values.params[value],
                values.high,
                isa,
            )),
            Work::QuantizeDynamic => Box::new(convert::QuantizeDynamic::new(plan, index, isa)),
        }
    }

    /// What the integers of a value mean.
    pub(super) fn params(&self, value: usize) -> InputParams {
        match value {
            0 => self.pixels.params,
            value => self.values.params[value].into(),
        }
    }

    /// The bits of what fills the halo of each of these values.
    pub(super) fn filling(&self, plan: &Plan) -> Vec<u32> {
        let steps = plan.exec.steps.iter();
        let found_in_batch: Vec<usize> = steps
            .filter(|step| step.work == Work::QuantizeDynamic)
            .map(|step| step.output)
            .collect();
        let values = plan.exec.values.iter().enumerate();
        let filling = values.map(|(at, form)| match form.numbers {
            Numbers::F32 => 0,
            Numbers::U8 if found_in_batch.contains(&at) => FILLED_IN_BATCH,
            Numbers::U8 => u32::from(self.values.params[form.value].zero_point),
        });
        filling.collect()
    }
}

/// `signs` says whether products of signs run where both sides have one bit.
pub(super) fn engine(
    model: &QuantizedModel,
    mode: Mode,
    isa: Isa,
    signs: bool,
) -> Result<Engine, RuntimeError> {
    let plan = Plan::new(exec_program(model, mode)?)?;
    let layers = model.layers.iter().flatten();
    let packed = layers
        .map(|layer| layer.weights.len() * usize::from(layer.bits.get()) / 8)
        .sum();
    let kernels = Kernels::new(model, mode, isa, signs);
    Ok(in_large_pages(packed, || engine_of(model, plan, &kernels)))
}

/// The program of a model that computes in integers.
pub(super) fn exec_program(
    model: &QuantizedModel,
    mode: Mode,
) -> Result<ExecProgram, RuntimeError> {
    let program = model.graph.program()?;
    let rounds: Vec<bool> = (0..program.values())
        .map(|value| model.rounds(&program, value))
        .collect();
    let has_form =
        |layer: usize, step: &Step| u8::has_form(step) && !model.float.layers.contains_key(&layer);
    Ok(ExecProgram::new(program, mode, has_form, |value| {
        rounds[value]
    }))
}

/// The engine of a plan of `model`.
pub(super) fn engine_of(model: &QuantizedModel, plan: Plan, kernels: &Kernels) -> Engine {
    let kernel = |index: usize| {
        let layer = plan.exec.steps[index].layer;
        match model.float.layers.get(&layer) {
            Some(float) if plan.exec.steps[index].work == Work::Operator(Numbers::F32) => {
                let weights = (float.weights.clone(), float.bias.clone());
                f32::kernel(&plan, index, Some(weights), kernels.isa)
            }
            _ => kernels.kernel(&plan, index, model.layers[layer].as_ref()),
        }
    };
    let steps = (0..plan.exec.steps.len()).map(kernel).collect();
    let filling = kernels.filling(&plan);
    let loader = Loader {
        isa: kernels.isa,
        pixels: kernels.pixels.clone(),
    };
    Engine::new(plan, steps, loader, kernels.isa, |at| filling[at])
}

/// What the integers of each value mean; of logits and of what is found at run time, nothing.
fn params(model: &QuantizedModel, pixels: &Pixels) -> Vec<ActivationParams> {
    let none = ActivationParams {
        scale: 1.0,
        zero_point: 0,
    };
    let inner = model.activations[1..].iter();
    let inner = inner.map(|params| params.unwrap_or(none));
    [pixels.params.params].into_iter().chain(inner).collect()
}

impl Model for IntegerModel {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn run(&self, images: &[u8], logits: &mut [f32]) -> Result<(), RuntimeError> {
        let count = count(&self.graph, images, logits.len())?;
        match &self.kind {
            Kind::Integer(engine) => engine.run(images, count, logits),
            Kind::WeightOnly(model) => model.run(images, logits)?,
        }
        Ok(())
    }

    fn profile(&self, images: &[u8]) -> Result<Vec<LayerProfile>, RuntimeError> {
        let mut logits = vec![0.0; images.len() / self.graph.input().len() * self.graph.classes()];
        let count = count(&self.graph, images, logits.len())?;
        match &self.kind {
            Kind::Integer(engine) => Ok(engine.profile(images, count, &mut logits)),
            Kind::WeightOnly(model) => model.profile(images),
        }
    }

    fn value_bytes(&self, images: usize) -> usize {
        match &self.kind {
            Kind::Integer(engine) => engine.value_bytes(images),
            Kind::WeightOnly(model) => model.value_bytes(images),
        }
    }
}

#[cfg(test)]
mod tests;
