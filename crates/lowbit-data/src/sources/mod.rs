//! One file per kind of data, and the place that tells them apart.

mod folder;
mod landcover;
mod zip;

use std::fs::File;
use std::io::Read;
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
        _ => load_path(Path::new(spec), options),
    }
}

fn load_path(path: &Path, options: &LoadOptions) -> Result<Dataset, DataError> {
    let data = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DataError::unknown(path, "no such file or folder"));
        }
        other => other.map_err(|source| DataError::io("open", path, source))?,
    };
    let name = name_of(path);
    if data.is_dir() {
        return folder::load(path, &name, options);
    }
    match first_bytes(path)? {
        [b'P', b'K', ..] => zip::load(path, &name, options),
        _ if has_extension(path, "zip") => zip::load(path, &name, options),
        _ => Err(DataError::unknown(path, "a file of an unknown kind")),
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

fn first_bytes(path: &Path) -> Result<[u8; 4], DataError> {
    let mut bytes = [0; 4];
    let mut file = File::open(path).map_err(|source| DataError::io("open", path, source))?;
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(source) => return Err(DataError::io("read", path, source)),
        }
    }
    Ok(bytes)
}

/// A data set's short name: the file's or folder's, without extension.
fn name_of(path: &Path) -> String {
    let absolute = std::fs::canonicalize(path);
    let path = absolute.as_deref().unwrap_or(path);
    let name = if path.is_dir() {
        path.file_name()
    } else {
        path.file_stem()
    };
    name.map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned())
}
