//! The model that is looked at.

use super::looks_at::LooksAt;
use super::products::{Product, products_of};
use crate::LabError;
use lowbit::exec::{FloatModel, IntegerModel, Model};
use lowbit::format::{Checkpoint, StoredModel};
use lowbit::graph::{Graph, Step};
use lowbit::quant::{ActivationQuant, QuantizedModel};
use lowbit_data::Split;
use lowbit_kernels::Isa;
use lowbit_onnx::Contents;
use std::path::Path;

/// Images that a model is looked at with.
#[derive(Clone, Debug)]
pub struct Images {
    /// Labelled images that it is measured on.
    pub test: Split,
    /// Images that set ranges when it is quantized: those that `lowbit quantize` would draw.
    pub calibration: Split,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Whether its preprocessing was found by the labels, and is right as far as they can tell.
    pub preprocessing: Option<String>,
}

/// A model file, what could be read of it, and images.
#[derive(Debug)]
pub struct Patient<'a> {
    /// The file.
    pub(super) file: &'a Path,
    /// Bytes of the file, and of those beside it that it needs.
    pub(super) bytes: u64,
    /// What an ONNX file holds as it was written.
    pub(super) onnx: Option<Contents>,
    /// The model that lowbit runs, or why it does not.
    pub(super) model: Result<StoredModel, String>,
    /// A training in its middle.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Images, where there are any.
    pub(super) images: Option<Images>,
    /// Whether time may be spent on timing.
    pub(super) timed: bool,
    /// The instruction set.
    pub(super) isa: Isa,
    /// Its quantized products.
    pub(super) products: Vec<Product>,
}

impl<'a> Patient<'a> {
    /// Looks over an ONNX file; `model` is what lowbit made of it, or why nothing.
    #[must_use]
    pub fn onnx(
        file: &'a Path,
        contents: Contents,
        model: Result<StoredModel, String>,
        isa: Isa,
    ) -> Self {
        Self {
            products: super::onnx::products(&contents),
            bytes: contents.bytes,
            onnx: Some(contents),
            ..Self::new(file, model, isa)
        }
    }

    /// Looks over one of lowbit's files.
    ///
    /// # Errors
    /// [`LabError::Graph`] where its graph has no program.
    pub fn lowbit(file: &'a Path, stored: StoredModel, isa: Isa) -> Result<Self, LabError> {
        let products = match &stored {
            StoredModel::Float { .. } => Vec::new(),
            StoredModel::Quantized(model) => products_of(model)?,
        };
        Ok(Self {
            products,
            bytes: std::fs::metadata(file).map_or(0, |file| file.len()),
            ..Self::new(file, Ok(stored), isa)
        })
    }

    /// Looks over the checkpoint of a training.
    #[must_use]
    pub fn of_checkpoint(file: &'a Path, checkpoint: Checkpoint, isa: Isa) -> Self {
        let stored = StoredModel::Float {
            graph: checkpoint.graph.clone(),
            weights: checkpoint.weights.clone(),
        };
        Self {
            checkpoint: Some(checkpoint),
            ..Self::new(file, Ok(stored), isa)
        }
    }

    fn new(file: &'a Path, model: Result<StoredModel, String>, isa: Isa) -> Self {
        Self {
            file,
            bytes: 0,
            onnx: None,
            model,
            checkpoint: None,
            images: None,
            timed: false,
            isa,
            products: Vec::new(),
        }
    }

    /// The same with another model that lowbit runs: read with another preprocessing.
    #[must_use]
    pub fn with_model(mut self, model: StoredModel) -> Self {
        self.model = Ok(model);
        self
    }

    /// Whether it has products with quantized weights.
    #[must_use]
    pub fn has_quantized_weights(&self) -> bool {
        !self.products.is_empty()
    }

    /// The same with images.
    #[must_use]
    pub fn with_images(mut self, images: Images) -> Self {
        self.images = Some(images);
        self
    }

    /// The same with time to spend on timing.
    #[must_use]
    pub fn with_timing(mut self, timed: bool) -> Self {
        self.timed = timed;
        self
    }

    /// Whether there is what a rule looks at: nothing where the rule is not about such a file, else whether it can look, or why
    /// it cannot.
    pub(super) fn has(&self, what: LooksAt) -> Option<Result<(), String>> {
        let quantized = match &self.model {
            Ok(StoredModel::Quantized(_)) => Some(true),
            Ok(StoredModel::Float { .. }) => Some(false),
            Err(_) => None,
        };
        let with_images = |wanted: Option<bool>| match (quantized, wanted) {
            _ if self.checkpoint.is_some() => None,
            (Some(found), Some(wanted)) if found != wanted => None,
            (None, Some(wanted)) if wanted == self.products.is_empty() => None,
            _ => Some(match (&self.images, &self.model) {
                (_, Err(why)) => Err(why.clone()),
                (None, _) => Err("it needs --data".to_owned()),
                (Some(_), Ok(_)) => Ok(()),
            }),
        };
        let with_tests = |fewest: &dyn Fn(&Images) -> usize| match (with_images(None), &self.images)
        {
            (Some(Ok(())), Some(images)) if images.test.len() < fewest(images) => {
                let (fewest, found) = (fewest(images), images.test.len());
                Some(Err(format!(
                    "it needs {fewest} test images, there are {found}"
                )))
            }
            (found, _) => found,
        };
        match what {
            LooksAt::File => self.checkpoint.is_none().then_some(Ok(())),
            LooksAt::OnnxFile => self.onnx.as_ref().map(|_| Ok(())),
            LooksAt::Weights => (!self.products.is_empty()).then_some(Ok(())),
            LooksAt::Checkpoint => self.checkpoint.as_ref().map(|_| Ok(())),
            LooksAt::Images => with_images(None),
            LooksAt::TestImages(fewest) => with_tests(&|_| fewest),
            LooksAt::TestImagesPerClass(fewest) => {
                with_tests(&|images| fewest * images.class_names.len())
            }
            LooksAt::FloatImages => with_images(Some(false)),
            LooksAt::QuantizedImages => with_images(Some(true)),
            LooksAt::Timing => match with_images(Some(true)) {
                Some(Ok(())) if !self.timed => Some(Err("it needs --time".into())),
                other => other,
            },
        }
    }

    /// The images, where [`has`](Self::has) said that there are some.
    pub(super) fn seen(&self) -> Option<&Images> {
        self.images.as_ref()
    }

    pub(super) fn graph(&self) -> Option<&Graph> {
        match self.model.as_ref().ok()? {
            StoredModel::Float { graph, .. } => Some(graph),
            StoredModel::Quantized(model) => Some(&model.graph),
        }
    }

    /// The steps of the model that lowbit runs.
    pub(super) fn steps(&self) -> Result<Vec<Step>, LabError> {
        match self.graph() {
            Some(graph) => Ok(graph.program()?.steps().to_vec()),
            None => Ok(Vec::new()),
        }
    }

    /// The quantized model, where it is one whose activation ranges are fixed.
    pub(super) fn with_ranges(&self) -> Option<&QuantizedModel> {
        match self.model.as_ref().ok()? {
            StoredModel::Quantized(model) if model.method == ActivationQuant::Static => Some(model),
            _ => None,
        }
    }

    /// The f32 model, ready to run.
    pub(super) fn float(&self) -> Result<Option<FloatModel>, LabError> {
        match &self.model {
            Ok(StoredModel::Float { graph, weights }) => {
                Ok(Some(FloatModel::compile(graph, weights, self.isa)?))
            }
            _ => Ok(None),
        }
    }

    /// The model, ready to run.
    pub(super) fn compiled(&self) -> Result<Option<Box<dyn Model>>, LabError> {
        Ok(match &self.model {
            Ok(StoredModel::Quantized(model)) => {
                Some(Box::new(IntegerModel::compile(model, self.isa)?))
            }
            _ => match self.float()? {
                Some(model) => Some(Box::new(model)),
                None => None,
            },
        })
    }
}

/// At most `count` images, spread over all of them.
pub(super) fn spread(images: &Split, count: usize) -> Split {
    let count = images.len().min(count);
    let indices: Vec<usize> = (0..count).map(|i| i * images.len() / count).collect();
    images.take(&indices)
}
