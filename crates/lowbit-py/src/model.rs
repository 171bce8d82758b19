//! Models, as Python sees them.

use crate::arrays::{self, Images};
use crate::dataset::PyInput;
use crate::errors::{self, Class};
use crate::settings::{self, Pairs};
use crate::state::{State, unnamed_classes};
use crate::threads::work;
use lowbit::exec::RuntimeError;
use lowbit::format::{self, StoredModel};
use lowbit::graph::zoo;
use lowbit::{Shape, Tensor, Weights};
use lowbit_lab::LabError;
use lowbit_lab::experiments::artifacts::same_file;
use lowbit_lab::experiments::unseen;
use lowbit_lab::models::{self, ExportInput, Foreign, ModelFile};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of a file, which an array of numpy's owns.
type Bytes<'py> = Bound<'py, PyArrayDyn<u8>>;

/// The inner part of `lowbit.Model`.
#[pyclass(frozen, name = "Model", module = "lowbit._lowbit")]
pub(crate) struct PyModel {
    state: RwLock<Arc<State>>,
}

impl PyModel {
    pub(crate) fn of(state: State) -> Self {
        Self {
            state: RwLock::new(Arc::new(state)),
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }
}

#[pymethods]
impl PyModel {
    /// A model of the zoo with fresh weights; `shape` is `(h, w, c)`.
    #[staticmethod]
    fn zoo(
        py: Python<'_>,
        name: &str,
        shape: (usize, usize, usize),
        class_names: Vec<String>,
        seed: u64,
        unnamed: bool,
    ) -> PyResult<Self> {
        let (h, w, c) = shape;
        let fits = |side: usize| (1..=4096).contains(&side);
        if !fits(h) || !fits(w) || !matches!(c, 1 | 3) {
            let line = format!(
                "input {h}×{w}×{c}: use 1 to 4096 pixels a side, and 1 channel (gray) or 3 (RGB)"
            );
            return Err(Class::Model.error(line));
        }
        let (graph, weights) = work(py, || -> Result<_, LabError> {
            let graph = zoo::build(name, Shape::new(h, w, c), &class_names)?;
            let weights = Weights::init(&graph, seed);
            Ok((graph, weights))
        })?;
        let state = State {
            fresh: Some(seed),
            foreign: unnamed.then(|| unnamed_classes(name)),
            ..State::new(
                graph.name().to_owned(),
                StoredModel::Float { graph, weights },
            )
        };
        Ok(Self::of(state))
    }

    /// The same network with a fresh last layer for other classes.
    fn new_head(
        &self,
        py: Python<'_>,
        class_names: Vec<String>,
        seed: u64,
        unnamed: bool,
    ) -> PyResult<Self> {
        let state = self.state();
        let (graph, weights) = state.float()?;
        let made = py.detach(|| unseen::new_head(graph, weights, &class_names, seed));
        let (graph, weights) =
            made.map_err(|error| Class::Model.error(format!("{}: {error}", state.name.display())))?;
        let foreign = state
            .foreign
            .clone()
            .or_else(|| unnamed.then(|| unnamed_classes(&state.name)));
        Ok(Self::of(State {
            record: state.record.clone(),
            foreign: foreign.map(|foreign| Foreign {
                has_class_names: !unnamed,
                ..foreign
            }),
            fresh: state.fresh.filter(|&fresh| fresh == seed),
            ..State::new(state.name.clone(), StoredModel::Float { graph, weights })
        }))
    }

    /// The names of the zoo.
    #[staticmethod]
    fn zoo_names() -> Vec<&'static str> {
        zoo::names().collect()
    }

    /// Reads a file of lowbit's or ONNX's.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, settings: Pairs) -> PyResult<Self> {
        let config = settings::config(&settings)?;
        let ModelFile {
            stored,
            record,
            foreign,
        } = work(py, || models::open(&path, &config))?;
        if foreign
            .as_ref()
            .is_some_and(|foreign| !foreign.has_preprocessing)
        {
            return Err(Class::Setting.error(format!(
                "{0}: neither its metadata nor `preprocess` says how pixels become its input: use preprocess='imagenet', 'half', 'unit', 'none' or a .toml file; `lowbit eval {0} --data ...` tries them on labelled images",
                path.display()
            )));
        }
        Ok(Self::of(State {
            record,
            foreign,
            ..State::new(path, stored)
        }))
    }

    /// What `encoded` gave, as a model again.
    #[staticmethod]
    fn decoded(
        py: Python<'_>,
        name: PathBuf,
        bytes: Bytes<'_>,
        fresh: Option<u64>,
        unnamed: bool,
    ) -> PyResult<Self> {
        let bytes = Images::of(&bytes)?;
        let bytes = bytes.bytes()?;
        let (stored, record) = work(py, || format::decode(&name, bytes))?;
        Ok(Self::of(State {
            record,
            fresh,
            foreign: unnamed.then(|| unnamed_classes(&name)),
            ..State::new(name, stored)
        }))
    }

    /// Its name, its file's bytes, the seed of its weights if they are fresh, and whether its classes have no names.
    fn encoded<'py>(&self, py: Python<'py>) -> PyResult<(PathBuf, Bytes<'py>, Option<u64>, bool)> {
        let state = self.state();
        let bytes = work(py, || state.encoded())?;
        let unnamed = state.is_unnamed();
        let count = bytes.len();
        let bytes = arrays::owned(py, bytes, &[count])?;
        Ok((state.name.clone(), bytes, state.fresh, unnamed))
    }

    /// Another model in the same state, which either leaves as it is when it takes a new one.
    fn copied(&self) -> Self {
        Self {
            state: RwLock::new(self.state()),
        }
    }

    /// Bits per weight of the layers between the edges; 32 of a float model.
    fn bits(&self) -> u8 {
        self.state().bits()
    }

    /// Writes its file; returns the size in bytes.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<u64> {
        let state = self.state();
        work(py, || -> Result<u64, LabError> {
            let record = state.record.as_ref();
            Ok(match &state.stored {
                StoredModel::Float { graph, weights } => {
                    format::save_float(&path, graph, weights, record)?
                }
                StoredModel::Quantized(model) => format::save_quantized(&path, model, record)?,
            })
        })
    }

    /// Writes it as an ONNX file, which reads u8 `pixels` or normalized f32; returns the size in bytes, the opset and what is
    /// to be known of it.
    fn export(
        &self,
        py: Python<'_>,
        path: PathBuf,
        pixels: bool,
        reduce_range: bool,
    ) -> PyResult<(u64, i64, Vec<String>)> {
        let state = self.state();
        if !models::is_onnx(&path) {
            return Err(Class::Setting.error(format!(
                "{}: ONNX files are written: give a name that ends with .onnx",
                path.display()
            )));
        }
        if same_file(&path, &state.name) {
            return Err(errors::of(LabError::OwnInput {
                output: path,
                input: state.name.clone(),
            }));
        }
        let input = match pixels {
            true => ExportInput::Pixels,
            false => ExportInput::Normalized,
        };
        let exported = work(py, || {
            let exported = models::export(&state.stored, input, reduce_range, &state.name);
            match exported {
                // A model without a form in ONNX: its data are not to blame.
                Err(LabError::Mismatch(line)) => Ok(Err(line)),
                other => other.map(Ok),
            }
        })?;
        let exported = exported.map_err(|line| Class::Model.error(line))?;
        let bytes = work(py, || exported.write(&path))?;
        Ok((bytes, exported.opset, exported.notes))
    }

    /// What it is, as JSON.
    fn describe(&self, py: Python<'_>) -> PyResult<String> {
        let state = self.state();
        let graph = state.graph();
        let input = graph.input();
        let bytes = work(py, || state.encoded())?.len();
        let mut value = serde_json::json!({
            "name": graph.name(),
            // JSON is text, a file's name bytes.
            "file": state.name.display().to_string(),
            "input": [input.h(), input.w(), input.c()],
            "class_names": graph.class_names(),
            "parameters": graph.parameter_count(),
            "macs": graph.macs(),
            "size_bytes": bytes,
            "bits": state.bits(),
            "trained_on": state.record.as_ref().map(|record| &record.data),
            "notes": state.foreign.iter().flat_map(|foreign| &foreign.notes).collect::<Vec<_>>(),
        });
        if let StoredModel::Quantized(model) = &state.stored {
            value["activation_bits"] = model.activation_bits.get().into();
            value["method"] = serde_json::to_value(model.method).expect("plain data");
            value["provenance"] = serde_json::to_value(&model.provenance).expect("plain data");
        }
        Ok(value.to_string())
    }

    /// Logits `[n, classes]` of images `[n, h, w, c]`.
    fn run<'py>(
        &self,
        py: Python<'py>,
        images: Bound<'py, PyArrayDyn<u8>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let state = self.state();
        let images = Images::of(&images)?;
        state.check_shape(&images)?;
        let (count, classes) = (images.shape()[0], state.graph().classes());
        let bytes = images.bytes()?;
        let logits = work(py, || -> Result<Vec<f32>, RuntimeError> {
            let mut logits = vec![0.0; count * classes];
            state.compiled()?.run(bytes, &mut logits)?;
            Ok(logits)
        })?;
        arrays::owned(py, logits, &[count, classes])
    }

    /// Copies of its f32 tensors by name.
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.state();
        let (_, weights) = state.float()?;
        let tensors = PyDict::new(py);
        for (name, tensor) in weights.iter() {
            let values = py.detach(|| tensor.data().to_vec());
            let array = arrays::owned(py, values, tensor.shape())?;
            tensors.set_item(name, array)?;
        }
        Ok(tensors)
    }

    /// Takes f32 tensors: all that the graph needs, and no others.
    fn set_tensors(
        &self,
        py: Python<'_>,
        tensors: Vec<(String, Bound<'_, PyArrayDyn<f32>>)>,
    ) -> PyResult<()> {
        use numpy::PyUntypedArrayMethods;
        let state = self.state();
        let (graph, _) = state.float()?;
        let known: Vec<String> = graph.parameters().into_iter().map(|p| p.name).collect();
        let mut weights = Weights::new();
        for (name, array) in tensors {
            if !known.contains(&name) {
                let line = format!(
                    "{}: has no tensor {name}; it has {}",
                    state.name.display(),
                    known.join(", ")
                );
                return Err(Class::Model.error(line));
            }
            let values = arrays::copied(&array, &name)?;
            weights.insert(name, Tensor::new(array.shape().to_vec(), values));
        }
        py.detach(|| weights.check(graph))
            .map_err(|error| Class::Model.error(format!("{}: {error}", state.name.display())))?;
        let graph = graph.clone();
        self.replace(State {
            foreign: state.foreign.clone(),
            ..State::new(state.name.clone(), StoredModel::Float { graph, weights })
        });
        Ok(())
    }

    /// The model in integers; activation ranges are those of training images of `input`, or of `images`.
    fn quantized(
        &self,
        py: Python<'_>,
        input: Option<&PyInput>,
        images: Option<Bound<'_, PyArrayDyn<u8>>>,
        settings: Pairs,
    ) -> PyResult<Self> {
        let config = settings::config(&settings)?;
        let state = self.state();
        state.float()?;
        let given = match &images {
            None => None,
            Some(images) => Some(Images::of(images)?),
        };
        if let Some(images) = &given {
            state.check_shape(images)?;
        }
        let bytes = match &given {
            None => None,
            Some(images) => Some(images.bytes()?),
        };
        let input = input.map(|input| Arc::clone(&input.input));
        let unnamed = input.is_none();
        let stored = work(py, || state.ptq(&config, input.as_ref(), bytes))?;
        Ok(Self::of(State {
            record: state.record.clone(),
            // With data, the classes have the data's names now.
            foreign: state.foreign.clone().filter(|_| unnamed),
            ..State::new(state.name.clone(), StoredModel::Quantized(stored))
        }))
    }
}
