//! One file per kind of data, and the place that tells them apart.

mod cifar;
mod class_folders;
mod eurosat;
mod folder;
mod idx;
mod landcover;
mod parquet;
mod pickle;
mod raw;
mod shards;
mod tar;
mod tree;
mod zip;

use std::fs::File;
use std::path::Path;

use crate::error::some_of;
use crate::foreign::{HEAD_BYTES, describe};
use crate::split::keep_for_validation;
use crate::{DataError, Dataset, LoadOptions};
use cifar::Form;
use tree::{Tree, read_all};

/// Loads what `spec` names: `landcover`, `eurosat`, or a path to images in one of the known layouts.
///
/// # Errors
/// [`DataError`], with the file and what to do about it.
pub fn load(spec: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    options.check()?;
    let mut data = match spec {
        "landcover" => landcover::generate(options),
        "eurosat" => eurosat::load(options),
        _ => load_path(Path::new(spec), options),
    }?;
    keep_for_validation(&mut data, options);
    Ok(data)
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
        return load_tree(folder::open(path, true)?, &name, options);
    }
    let head = File::open(path)
        .and_then(|file| read_all(file, HEAD_BYTES as u64))
        .map_err(|source| DataError::io("open", path, source))?;
    let file_name = path.file_name().and_then(|name| name.to_str());
    if let Some(own) = file_name.filter(|own| idx::is_idx(&head) || idx::is_idx_name(own)) {
        let tree = folder::open(parent(path), false)?;
        return idx::load(&tree, &parent_name(path), Some(own), options);
    }
    if cifar::batch_name(path).is_some() {
        return load_tree(
            folder::open(parent(path), false)?,
            &parent_name(path),
            options,
        );
    }
    let is_gzip = head.starts_with(&[0x1F, 0x8B]);
    let tar_name = file_name.is_some_and(tar::is_tar_name);
    let none_of_ours = |kind: String| Err(DataError::unknown(path, kind));
    match (&head[..], describe(&head)) {
        ([b'P', b'A', b'R', b'1', ..], _) => parquet::load(path, &name, options),
        ([b'P', b'K', ..], _) => load_tree(zip::open(path)?, &name, options),
        _ if tar::is_tar(path, &head) || is_gzip && tar_name => {
            load_tree(tar::open(path)?, &name, options)
        }
        _ if is_gzip => none_of_ours("it is a gzip file without a tar archive in it".into()),
        (_, Some(kind)) => none_of_ours(format!("it is {kind}")),
        _ if tar_name => load_tree(tar::open(path)?, &name, options),
        _ if has_extension(path, "parquet") => parquet::load(path, &name, options),
        _ if has_extension(path, "zip") => load_tree(zip::open(path)?, &name, options),
        _ => none_of_ours("a file of an unknown kind".into()),
    }
}

/// Loads the one set that a folder or an archive holds.
fn load_tree(tree: Tree, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let mut batches = Vec::new();
    for (folder, entries) in tree.folders_with(cifar::is_name) {
        let names: Vec<&str> = entries
            .iter()
            .map(|entry| entry.folder_and_name().1)
            .collect();
        if let Some(form) = Form::of(&names) {
            batches.push((folder.to_owned(), form));
        }
    }
    let has_idx = !idx::sets(&tree).is_empty();
    let mut parquet = tree
        .entries
        .iter()
        .filter(|entry| has_extension(Path::new(&entry.name), "parquet"));
    match (&batches[..], has_idx, parquet.next()) {
        ([(folder, form)], false, None) => cifar::load(&tree, folder, *form, options),
        ([], true, None) => idx::load(&tree, name, None, options),
        ([], false, Some(_)) if tree.kind == "folder" => {
            let path = tree.path.clone();
            parquet::load(&path, name, options)
        }
        ([], false, Some(file)) => {
            let reason = format!("it holds parquet files ({}, …)", file.name);
            let remedy = "unpack it and name the folder";
            Err(DataError::broken(&tree.path, reason, remedy))
        }
        ([], false, None) => class_folders::load(tree, name, options),
        (batches, has_idx, parquet) => {
            let folders = batches.iter().map(|(folder, _)| match folder.as_str() {
                "" => "CIFAR batches".into(),
                folder => format!("{folder}/"),
            });
            let others = [(has_idx, "IDX files"), (parquet.is_some(), "parquet files")];
            let others = others
                .into_iter()
                .filter(|&(there, _)| there)
                .map(|(_, kind)| kind.to_owned());
            let reason = format!("it holds several sets: {}", some_of(folders.chain(others)));
            Err(DataError::broken(
                &tree.path,
                reason,
                "name the folder of one of them",
            ))
        }
    }
}

/// The folder that the file at `path` lies in.
fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
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
