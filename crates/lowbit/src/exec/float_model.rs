//! The f32 path: batch-norm folded, bias, ReLU and max-pool fused, weights packed once.

use super::engine::Engine;
use super::load::Loader;
use super::{LayerProfile, Model, RuntimeError, count, f32};
use crate::Weights;
use crate::graph::{Graph, Pixels, fold_batch_norm};
use crate::lower::{ExecProgram, Plan, Program, Step, ValueId};
use crate::quant::QuantizedModel;
use lowbit_kernels::Isa;
use lowbit_kernels::pages::in_large_pages;

/// A graph compiled for f32 inference.
///
/// ```
/// use lowbit::exec::{FloatModel, Model};
/// use lowbit::{Shape, Weights, graph::zoo};
///
/// let classes = ["water", "forest"].map(String::from);
/// let graph = zoo::build("resnet8", Shape::new(32, 32, 3), &classes)?;
/// let model = FloatModel::new(&graph, &Weights::init(&graph, 1))?;
/// let images = vec![100; 2 * graph.input().len()];
/// let mut logits = vec![0.0; 2 * graph.classes()];
/// model.run(&images, &mut logits)?;
/// // Another number of images than of rows of logits is an error, no panic.
/// assert!(model.run(&images[1..], &mut logits).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FloatModel {
    graph: Graph,
    engine: Engine,
}

impl FloatModel {
    /// Folds, packs and plans `weights` for the machine's best instruction set, or that of `LOWBIT_ISA`.
    ///
    /// # Errors
    /// [`RuntimeError`] when the weights do not fit the graph or the graph has a combination that cannot be run.
    pub fn new(graph: &Graph, weights: &Weights) -> Result<Self, RuntimeError> {
        Self::compile(graph, weights, Isa::current()?)
    }

    /// Folds, packs and plans `weights` for `isa`. Results do not depend on it.
    ///
    /// # Errors
    /// [`RuntimeError`] when the weights do not fit the graph or the graph has a combination that cannot be run.
    pub fn compile(graph: &Graph, weights: &Weights, isa: Isa) -> Result<Self, RuntimeError> {
        weights.check(graph)?;
        Self::of_layers(graph, isa, |step, _| fold_batch_norm(step, weights))
    }

    /// Makes the f32 network of a quantized model's graph, with the weights that its integers stand for.
    ///
    /// # Errors
    /// [`RuntimeError`] when the layers do not fit the graph.
    pub fn dequantized(model: &QuantizedModel, isa: Isa) -> Result<Self, RuntimeError> {
        model.validate()?;
        Self::of_layers(&model.graph, isa, |_, index| {
            model.real_layer(index).expect("checked")
        })
    }

    /// `folded` gives the kernel and the bias of a step with weights.
    fn of_layers(
        graph: &Graph,
        isa: Isa,
        folded: impl Fn(&Step, usize) -> (Vec<f32>, Vec<f32>),
    ) -> Result<Self, RuntimeError> {
        let program: Program = graph.program()?;
        let plan = Plan::new(ExecProgram::float(program))?;
        let packed = size_of::<f32>() * graph.parameter_count();
        Ok(Self {
            graph: graph.clone(),
            engine: in_large_pages(packed, || engine_of(graph, plan, isa, folded)),
        })
    }

    /// The steps that it runs.
    pub(crate) fn program(&self) -> &Program {
        &self.engine.plan().exec.program
    }

    /// Number of values (the image, and one per step).
    pub(crate) fn values(&self) -> usize {
        self.engine.plan().layouts.len()
    }

    /// Runs whole `images` one by one and shows every value but the logits, a row at a time.
    pub(crate) fn observe(&self, images: &[u8], see: &mut dyn FnMut(ValueId, &[f32])) {
        let count = images.len() / self.graph.input().len();
        self.engine.observe(images, count, see);
    }
}

/// An engine of f32 kernels for a plan in f32.
pub(super) fn engine_of(
    graph: &Graph,
    plan: Plan,
    isa: Isa,
    folded: impl Fn(&Step, usize) -> (Vec<f32>, Vec<f32>),
) -> Engine {
    let kernel = |index: usize| {
        let step = &plan.exec.steps[index];
        let layer = plan.exec.layer(step);
        let weights = layer.has_weights().then(|| folded(layer, step.layer));
        f32::kernel(&plan, index, weights, isa)
    };
    let kernels = (0..plan.exec.steps.len()).map(kernel).collect();
    let pixels = Pixels::of(graph);
    Engine::new(plan, kernels, Loader { isa, pixels }, isa, |_| 0)
}

impl Model for FloatModel {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn run(&self, images: &[u8], logits: &mut [f32]) -> Result<(), RuntimeError> {
        let count = count(&self.graph, images, logits.len())?;
        self.engine.run(images, count, logits);
        Ok(())
    }

    fn profile(&self, images: &[u8]) -> Result<Vec<LayerProfile>, RuntimeError> {
        let mut logits = vec![0.0; images.len() / self.graph.input().len() * self.graph.classes()];
        let count = count(&self.graph, images, logits.len())?;
        Ok(self.engine.profile(images, count, &mut logits))
    }

    fn value_bytes(&self, images: usize) -> usize {
        self.engine.value_bytes(images)
    }
}
