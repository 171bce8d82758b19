//! Constant tensors: initializers and what is computed of them before the model runs.

use crate::error::Fault;
use std::sync::Arc;

/// More elements than a constant may have: a bound on what a file can make us allocate.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

/// A tensor whose values are known, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
}

/// Its elements: floats of every width as f32, integers and truth values as i64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Float(Arc<Vec<f32>>),
    Int(Arc<Vec<i64>>),
}

impl Constant {
    pub(crate) fn float(dims: Vec<usize>, data: Vec<f32>) -> Self {
        let data = Data::Float(Arc::new(data));
        Self { dims, data }
    }

    pub(crate) fn int(dims: Vec<usize>, data: Vec<i64>) -> Self {
        let data = Data::Int(Arc::new(data));
        Self { dims, data }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Float(data) => data.len(),
            Data::Int(data) => data.len(),
        }
    }

    /// Its elements if it holds integers.
    pub(crate) fn ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Int(data) => Some(data),
            Data::Float(_) => None,
        }
    }

    /// Its elements if it holds floats.
    pub(crate) fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Float(data) => Some(data),
            Data::Int(_) => None,
        }
    }

    /// Its element if it is a float, and the only one.
    pub(crate) fn scalar(&self) -> Option<f32> {
        match self.floats() {
            Some(&[value]) => Some(value),
            _ => None,
        }
    }
}

/// The number of elements of `dims`.
pub(crate) fn count(dims: &[usize]) -> Result<usize, String> {
    let count = dims
        .iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim));
    match count {
        Some(count) if count <= MAX_ELEMENTS => Ok(count),
        _ => Err(format!(
            "its shape {dims:?} has more than {MAX_ELEMENTS} elements"
        )),
    }
}

/// The tensor `name`, from whose values are wrong for the reason.
pub(crate) fn wrong(name: &str, reason: impl Into<String>) -> Fault {
    Fault::Tensor {
        tensor: name.to_owned(),
        reason: reason.into(),
    }
}
