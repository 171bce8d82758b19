//! One file per kind of data, and the place that tells them apart.

mod cifar;
mod eurosat;
mod folder;
mod idx;
mod landcover;
mod parquet;
mod raw;
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
        "eurosat" => eurosat::load(options),
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
    if let Some(folder) = cifar::folder_of(path) {
        return cifar::load(&folder, "cifar10", options);
    }
    if data.is_dir() {
        return match first_name(path, idx::is_idx_name)? {
            true => idx::load(path, &name, options),
            false if parquet::is_in(path) => parquet::load(path, &name, options),
            false => folder::load(path, &name, options),
        };
    }
    let file_name = path.file_name().and_then(|name| name.to_str());
    match first_bytes(path)? {
        first if idx::is_idx(&first) || file_name.is_some_and(idx::is_idx_name) => {
            idx::load(path, &parent_name(path), options)
        }
        first if parquet::is_parquet(first) => parquet::load(path, &name, options),
        [b'P', b'K', ..] => zip::load(path, &name, options),
        _ if has_extension(path, "parquet") => parquet::load(path, &name, options),
        _ if has_extension(path, "zip") => zip::load(path, &name, options),
        _ => Err(DataError::unknown(path, "a file of an unknown kind")),
    }
}

/// Whether a file right in `folder` has a name that `wanted` takes.
fn first_name(folder: &Path, wanted: fn(&str) -> bool) -> Result<bool, DataError> {
    let entries =
        std::fs::read_dir(folder).map_err(|source| DataError::io("list", folder, source))?;
    Ok(entries
        .flatten()
        .any(|entry| entry.file_name().to_str().is_some_and(wanted)))
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

/// The short name of a data set of several files, of which `path` is one.
fn parent_name(path: &Path) -> String {
    let absolute = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map_or_else(|| "data".into(), name_of)
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
