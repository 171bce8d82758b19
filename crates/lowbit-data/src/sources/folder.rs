//! An image folder: one folder per class, with or without `train/` and `test/` above.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::assemble::{Fetch, Listing, assemble};
use crate::fingerprint::Fingerprint;
use crate::layout::{arrange, is_image, is_litter};
use crate::{DataError, Dataset, LoadOptions};

/// Folders below this are not looked into: links may go round in circles.
const MAX_DEPTH: usize = 12;

struct Files {
    root: PathBuf,
    /// Relative paths, by the listing's index.
    paths: Vec<String>,
}

impl Fetch for Files {
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let path = self.root.join(&self.paths[index]);
        fs::read(&path)
            .map(Cow::Owned)
            .map_err(|source| DataError::io("read", &path, source))
    }

    fn entry(&self, index: usize) -> String {
        self.paths[index].clone()
    }
}

/// What a walk through a folder found: relative paths with `/`.
#[derive(Default)]
struct Found {
    files: Vec<String>,
    folders: Vec<String>,
}

pub(crate) fn load(root: &Path, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let mut found = Found::default();
    walk(root, "", 0, &mut found)?;
    found.files.sort_unstable();
    let layout = arrange(root, &found.files, &found.folders)?;
    let paths: Vec<String> = layout
        .images
        .iter()
        .map(|image| found.files[image.index].clone())
        .collect();
    let mut fingerprint = Fingerprint::new("folder");
    for path in &paths {
        let full = root.join(path);
        let data = fs::metadata(&full).map_err(|source| DataError::io("read", &full, source))?;
        let age = data
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        fingerprint = fingerprint
            .text(path)
            .number(data.len().into())
            .number(age.map_or(0, |age| age.as_nanos()));
    }
    let listing = Listing {
        path: root.to_owned(),
        name: name.to_owned(),
        source: format!("{} (folder, {} images)", root.display(), paths.len()),
        class_names: layout.class_names,
        labels: layout.images.iter().map(|image| image.label).collect(),
        parts: layout.images.iter().map(|image| image.part).collect(),
        fingerprint: fingerprint.finish(),
    };
    let root = root.to_owned();
    assemble(&listing, &Files { root, paths }, options)
}

fn walk(root: &Path, below: &str, depth: usize, found: &mut Found) -> Result<(), DataError> {
    let folder = root.join(below);
    let failed = |source| DataError::io("list", &folder, source);
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let reason = "its name is not UTF-8";
            return Err(DataError::broken(&entry.path(), reason, "rename it"));
        };
        if is_litter(name) {
            continue;
        }
        let path = match below {
            "" => name.to_owned(),
            _ => format!("{below}/{name}"),
        };
        // Follows links; one that leads nowhere is neither a folder nor an image.
        let Ok(data) = fs::metadata(entry.path()) else {
            continue;
        };
        if data.is_dir() && depth < MAX_DEPTH {
            walk(root, &path, depth + 1, found)?;
            found.folders.push(path);
        } else if data.is_file() && is_image(name) {
            found.files.push(path);
        }
    }
    Ok(())
}
