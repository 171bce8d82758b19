//! Named f32 tensors: what a graph's parameters hold.

use crate::graph::{Graph, ParameterKind};
use lowbit_kernels::random;
use std::collections::BTreeMap;

/// A dense f32 tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// What can be wrong with a set of weights.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The graph has a parameter that the weights lack.
    #[error("tensor {name} is missing")]
    Missing {
        /// The parameter's name.
        name: String,
    },
    /// A tensor has another shape than the graph says.
    #[error("tensor {name} has shape {found:?}, the graph needs {expected:?}")]
    Shape {
        /// The parameter's name.
        name: String,
        /// The shape that the graph needs.
        expected: Vec<usize>,
        /// The shape that was found.
        found: Vec<usize>,
    },
    /// A tensor holds NaN or infinity.
    #[error(
        "tensor {name} holds {value} at index {index}: the model is not usable; train it again"
    )]
    NotFinite {
        /// The parameter's name.
        name: String,
        /// Row-major index of the first such element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// A batch-norm's variance is negative.
    #[error("tensor {name} holds {value} at index {index}: a variance cannot be negative")]
    NegativeVariance {
        /// The parameter's name.
        name: String,
        /// Index of the first such channel.
        index: usize,
        /// The element.
        value: f32,
    },
}

impl Tensor {
    /// A tensor of `shape` holding `data` in row-major order.
    ///
    /// # Panics
    /// If `data` does not fill `shape`.
    #[must_use]
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "data must fill the shape"
        );
        Self { shape, data }
    }

    /// A tensor whose elements are all `value`.
    #[must_use]
    pub fn full(shape: &[usize], value: f32) -> Self {
        Self::new(shape.to_vec(), vec![value; shape.iter().product()])
    }

    /// Its dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, row-major.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Its elements, row-major, mutable.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

/// The parameters of a graph by name, e.g. `conv1.weight`, `bn1.running_mean`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// No tensors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fresh parameters for `graph`: weights and biases uniform in ±1/√fan_in (PyTorch's default for convolutions and
    /// linear layers: He et al. 2015 with a = √5), batch-norm scale 1, shift 0, running mean 0 and variance 1.
    #[must_use]
    pub fn init(graph: &Graph, seed: u64) -> Self {
        let mut weights = Self::new();
        for (index, parameter) in graph.parameters().iter().enumerate() {
            let tensor = match parameter.kind {
                ParameterKind::Weight | ParameterKind::Bias => {
                    let bound = 1.0 / (parameter.fan_in as f32).sqrt();
                    let mut rng = random::stream(seed, "init", index as u64);
                    let count = parameter.shape.iter().product();
                    let data = (0..count)
                        .map(|_| bound * (2.0 * random::uniform(&mut rng) - 1.0))
                        .collect();
                    Tensor::new(parameter.shape.clone(), data)
                }
                ParameterKind::Scale | ParameterKind::RunningVariance => {
                    Tensor::full(&parameter.shape, 1.0)
                }
                ParameterKind::Shift | ParameterKind::RunningMean => {
                    Tensor::full(&parameter.shape, 0.0)
                }
            };
            weights.insert(parameter.name.clone(), tensor);
        }
        weights
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensor called `name`, mutable.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        self.tensors.get_mut(name)
    }

    /// The elements of the tensor called `name`, of a set that [`Weights::check`] accepted.
    ///
    /// # Panics
    /// If there is none: check first.
    #[must_use]
    pub fn slice(&self, name: &str) -> &[f32] {
        self.get(name)
            .unwrap_or_else(|| panic!("{name} is missing from unchecked weights"))
            .data()
    }

    /// All tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether every parameter of `graph` is there, in its shape, and finite.
    ///
    /// # Errors
    /// [`WeightsError`] naming the first tensor that is not.
    pub fn check(&self, graph: &Graph) -> Result<(), WeightsError> {
        for parameter in graph.parameters() {
            let name = &parameter.name;
            let tensor = self
                .get(name)
                .ok_or_else(|| WeightsError::Missing { name: name.clone() })?;
            if tensor.shape != parameter.shape {
                return Err(WeightsError::Shape {
                    name: name.clone(),
                    expected: parameter.shape.clone(),
                    found: tensor.shape.clone(),
                });
            }
            // In runs without a branch, so that it becomes vectors: models are loaded to answer at once.
            let is_finite = |run: &[f32]| run.iter().fold(true, |all, x| all & x.is_finite());
            if !tensor.data.chunks(1024).all(is_finite)
                && let Some(index) = tensor.data.iter().position(|value| !value.is_finite())
            {
                let value = tensor.data[index];
                return Err(WeightsError::NotFinite {
                    name: name.clone(),
                    index,
                    value,
                });
            }
            let is_variance = parameter.kind == ParameterKind::RunningVariance;
            if is_variance && let Some(index) = tensor.data.iter().position(|value| *value < 0.0) {
                let value = tensor.data[index];
                return Err(WeightsError::NegativeVariance {
                    name: name.clone(),
                    index,
                    value,
                });
            }
        }
        Ok(())
    }
}
