//! numpy's arrays: looked at in place where they lie as the kernels read them, given away without a copy.

use crate::errors::Class;
use numpy::{
    Element, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

/// Images `[n, h, w, c]` of one byte per number, C-contiguous.
pub(crate) struct Images<'py> {
    array: PyReadonlyArrayDyn<'py, u8>,
}

impl<'py> Images<'py> {
    /// Takes an array that `lowbit._arrays` has looked at.
    pub(crate) fn of(array: &Bound<'py, PyArrayDyn<u8>>) -> PyResult<Self> {
        let array = array
            .try_readonly()
            .map_err(|_| Class::Data.error("images: another call is writing into this array"))?;
        Ok(Self { array })
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> PyResult<&[u8]> {
        self.array
            .as_slice()
            .map_err(|_| Class::Data.error("images: not C-contiguous"))
    }

    /// Its dimensions.
    pub(crate) fn shape(&self) -> &[usize] {
        self.array.shape()
    }
}

/// An array of `shape` that owns `values`.
pub(crate) fn owned<'py, T: Element>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    PyArray1::from_vec(py, values).reshape(shape)
}

/// A copy of an array's numbers, in C order.
pub(crate) fn copied<T: Element + Copy + Sync>(
    array: &Bound<'_, PyArrayDyn<T>>,
    what: &str,
) -> PyResult<Vec<T>> {
    let found = array.try_readonly();
    let found = found.map_err(|_| Class::Data.error(format!("{what}: being written to")))?;
    let values = found.as_slice();
    let values = values.map_err(|_| Class::Data.error(format!("{what}: not C-contiguous")))?;
    Ok(array.py().detach(|| values.to_vec()))
}
