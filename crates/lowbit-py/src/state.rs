//! What a model is at a time: f32 weights or packed integers, compiled when they are first run.

use crate::arrays::Images;
use crate::errors::Class;
use lowbit::exec::{FloatModel, IntegerModel, Model, RuntimeError};
use lowbit::format::{self, StoredModel, TrainingRecord};
use lowbit::quant::QuantizedModel;
use lowbit::quantize::quantize;
use lowbit::{Graph, Isa, Weights};
use lowbit_lab::experiments::inputs::Input;
use lowbit_lab::experiments::unseen::{Measured, fit};
use lowbit_lab::models::Foreign;
use lowbit_lab::{Config, LabError};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// One state of a model: whoever runs it keeps it, whatever training makes of the model meanwhile.
pub(crate) struct State {
    /// What it is called in messages: its file, or the graph's name.
    pub(crate) name: PathBuf,
    pub(crate) stored: StoredModel,
    pub(crate) record: Option<TrainingRecord>,
    pub(crate) foreign: Option<Foreign>,
    /// The seed of its weights, where nothing has trained or changed them.
    pub(crate) fresh: Option<u64>,
    /// What the training began with that was stopped and left these weights: its checkpoint names that.
    pub(crate) before: Option<Arc<State>>,
    pub(crate) compiled: OnceLock<Arc<dyn Model>>,
}

impl State {
    pub(crate) fn new(name: impl Into<PathBuf>, stored: StoredModel) -> Self {
        Self {
            name: name.into(),
            stored,
            record: None,
            foreign: None,
            fresh: None,
            before: None,
            compiled: OnceLock::new(),
        }
    }

    pub(crate) fn graph(&self) -> &Graph {
        match &self.stored {
            StoredModel::Float { graph, .. } => graph,
            StoredModel::Quantized(model) => &model.graph,
        }
    }

    /// The same without what is not needed to train it: what it was before, and how it runs.
    pub(crate) fn bare(&self) -> Self {
        Self {
            record: self.record.clone(),
            foreign: self.foreign.clone(),
            fresh: self.fresh,
            ..Self::new(self.name.clone(), self.stored.clone())
        }
    }

    /// The model as it runs.
    pub(crate) fn compiled(&self) -> Result<Arc<dyn Model>, RuntimeError> {
        if let Some(model) = self.compiled.get() {
            return Ok(Arc::clone(model));
        }
        let isa = Isa::current()?;
        let model: Arc<dyn Model> = match &self.stored {
            StoredModel::Float { graph, weights } => {
                Arc::new(FloatModel::compile(graph, weights, isa)?)
            }
            StoredModel::Quantized(model) => Arc::new(IntegerModel::compile(model, isa)?),
        };
        // Of two threads that come here at once, one's work is for nothing.
        Ok(Arc::clone(self.compiled.get_or_init(|| model)))
    }

    /// Whether nobody has named its classes: they are the data's then, in their order.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.foreign
            .as_ref()
            .is_some_and(|foreign| !foreign.has_class_names)
    }

    /// The graph and f32 weights.
    pub(crate) fn float(&self) -> PyResult<(&Graph, &Weights)> {
        match &self.stored {
            StoredModel::Float { graph, weights } => Ok((graph, weights)),
            StoredModel::Quantized(_) => Err(Class::Model.error(format!(
                "{}: is quantized already; give an FP32 model",
                self.name.display()
            ))),
        }
    }

    /// As the experiments know it.
    pub(crate) fn measured(&self) -> Measured<'_> {
        Measured {
            file: &self.name,
            graph: self.graph(),
            record: self.record.as_ref(),
            foreign: self.foreign.as_ref(),
        }
    }

    /// Images as it takes them.
    pub(crate) fn fitted(&self, input: &Arc<Input>) -> Result<Arc<Input>, LabError> {
        let data = &input.data;
        let shape = self.graph().input();
        if input.shape() == shape && data.class_names == self.graph().class_names() {
            return Ok(Arc::clone(input));
        }
        Ok(Arc::new(fit(&self.measured(), Input::clone(input))?))
    }

    /// Refuses arrays of another shape than `[n, h, w, c]` of its images.
    pub(crate) fn check_shape(&self, images: &Images<'_>) -> PyResult<()> {
        let input = self.graph().input();
        let [h, w, c] = [input.h(), input.w(), input.c()];
        let shape = images.shape();
        if shape.len() == 4 && shape[1..] == [h, w, c] {
            return Ok(());
        }
        let mut line = format!(
            "{}: images have shape {shape:?}, expected [n, {h}, {w}, {c}]",
            self.name.display(),
        );
        if shape.get(1..) == Some(&[c, h, w][..]) {
            line += ": the channels come last here; move them with numpy.moveaxis(images, 1, -1)";
        }
        Err(Class::Data.error(line))
    }

    /// The file as bytes.
    pub(crate) fn encoded(&self) -> Result<Vec<u8>, LabError> {
        let record = self.record.as_ref();
        Ok(match &self.stored {
            StoredModel::Float { graph, weights } => format::encode_float(graph, weights, record),
            StoredModel::Quantized(model) => {
                format::encode_quantized(model, record).map_err(RuntimeError::Quantized)?
            }
        })
    }

    /// Bits per weight of the layers between the edges; 32 of a float model.
    pub(crate) fn bits(&self) -> u8 {
        match &self.stored {
            StoredModel::Float { .. } => 32,
            StoredModel::Quantized(model) => narrowest(model),
        }
    }

    /// The model in integers; activation ranges and passes are those of training images of `input`, or of `images`.
    pub(crate) fn ptq(
        &self,
        config: &Config,
        input: Option<&Arc<Input>>,
        images: Option<&[u8]>,
    ) -> Result<QuantizedModel, LabError> {
        let StoredModel::Float { graph, weights } = &self.stored else {
            unreachable!("it was looked at before");
        };
        let how = config.ptq(config.widths.bits);
        let mut graph = graph.clone();
        let mut calibration = Vec::new();
        if let Some(input) = input {
            let input = self.fitted(input)?;
            graph = graph.with_class_names(&input.data.class_names)?;
            if how.needs_images() {
                calibration = input.calibration(config)?;
            }
        }
        let calibration = images.unwrap_or(&calibration);
        Ok(quantize(
            &graph,
            weights,
            &how,
            calibration,
            Isa::current()?,
        )?)
    }
}

/// What is known of a model whose classes have no names.
pub(crate) fn unnamed_classes(name: impl Into<PathBuf>) -> Foreign {
    Foreign {
        file: name.into(),
        has_class_names: false,
        has_preprocessing: true,
        notes: Vec::new(),
    }
}

/// Bits per weight of the layers between the edges: the fewest there are.
fn narrowest(model: &QuantizedModel) -> u8 {
    let bits = model.layers.iter().flatten().map(|layer| layer.bits.get());
    bits.min().unwrap_or(32)
}
