//! One file per kind of data, and the place that tells them apart.

mod landcover;

use std::path::Path;

use crate::{DataError, Dataset, LoadOptions};

/// Loads what `spec` names: `landcover`, `eurosat`, or a path to images in one of the known layouts.
///
/// # Errors
/// [`DataError`], with the file and what to do about it.
pub fn load(spec: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    options.check()?;
    match spec {
        "landcover" => landcover::generate(options),
        _ => Err(DataError::unknown(
            Path::new(spec),
            "no such file or folder",
        )),
    }
}
