//! The compiled half of the Python package `lowbit`: a thin layer of arrays, threads and exceptions around the libraries.
//! What a user sees is Python (`crates/lowbit-py/python/lowbit`).

mod arrays;
mod dataset;
mod errors;
mod federation;
mod measure;
mod model;
mod recommend;
mod settings;
mod state;
mod threads;
mod training;

use pyo3::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs the command `lowbit`; `script` is the file that was started, `library` this one.
#[pyfunction]
fn command(py: Python<'_>, arguments: Vec<OsString>, script: PathBuf, library: PathBuf) -> u8 {
    lowbit_jobs::manifest::Binary::started_by(script, library);
    py.detach(|| lowbit_cli::run(&arguments))
}

#[pymodule(gil_used = false)]
fn _lowbit(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<dataset::PyInput>()?;
    module.add_class::<model::PyModel>()?;
    module.add_class::<federation::PyServer>()?;
    module.add_class::<federation::PyClient>()?;
    module.add_class::<federation::PyCodec>()?;
    module.add_function(wrap_pyfunction!(training::train, module)?)?;
    module.add_function(wrap_pyfunction!(measure::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(measure::compare, module)?)?;
    module.add_function(wrap_pyfunction!(recommend::recommend, module)?)?;
    module.add_function(wrap_pyfunction!(settings::recipe, module)?)?;
    module.add_function(wrap_pyfunction!(federation::too_large, module)?)?;
    module.add_function(wrap_pyfunction!(threads::set_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(threads::num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(command, module)?)
}
