//! CIFAR-10's binary batches: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.
//!
//! Each image is a label byte and 3072 bytes: 32×32 red, then green, then blue. Krizhevsky, "Learning Multiple Layers of
//! Features from Tiny Images", 2009.

use std::fs;
use std::path::{Path, PathBuf};

use super::raw::Raw;
use crate::assemble::Shape;
use crate::{DataError, Dataset, LoadOptions, Split};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;

const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

const REMEDY: &str = "unpack cifar-10-binary.tar.gz again";

/// Whether a file's name is that of a batch.
pub(crate) fn is_batch_name(name: &str) -> bool {
    name.strip_suffix(".bin")
        .is_some_and(|stem| stem == "test_batch" || stem.starts_with("data_batch_"))
}

/// The folder with batches that `path` is, holds, or lies in.
pub(crate) fn folder_of(path: &Path) -> Option<PathBuf> {
    let inside = path.join("cifar-10-batches-bin");
    let parent = || path.parent().map(Path::to_owned);
    if path.is_file() {
        let name = path.file_name()?.to_str()?;
        return is_batch_name(name).then(parent).flatten();
    }
    [path.to_owned(), inside]
        .into_iter()
        .find(|folder| folder.join("data_batch_1.bin").is_file())
}

pub(crate) fn load(folder: &Path, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let mut batches: Vec<PathBuf> = (1..=5)
        .map(|number| folder.join(format!("data_batch_{number}.bin")))
        .filter(|path| path.is_file())
        .collect();
    batches.sort();
    if batches.is_empty() {
        return Err(DataError::unknown(folder, "there is no data_batch_1.bin"));
    }
    let class_names = class_names(folder);
    let train = read(&batches, class_names.len())?;
    let tested = folder.join("test_batch.bin");
    let test = match tested.is_file() {
        true => Some(read(&[tested], class_names.len())?),
        false => None,
    };
    let total = train.len() + test.as_ref().map_or(0, Split::len);
    Raw {
        path: folder.to_owned(),
        name: name.to_owned(),
        source: format!("{} (CIFAR-10 batches, {total} images)", folder.display()),
        class_names,
        shape: Shape {
            height: SIDE,
            width: SIDE,
            channels: 3,
        },
        train,
        test,
    }
    .finish(options)
}

/// The names in `batches.meta.txt`, else the published ones.
fn class_names(folder: &Path) -> Vec<String> {
    let names: Vec<String> = fs::read_to_string(folder.join("batches.meta.txt"))
        .unwrap_or_default()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    match names.len() {
        10 => names,
        _ => CLASSES.map(String::from).to_vec(),
    }
}

fn read(batches: &[PathBuf], classes: usize) -> Result<Split, DataError> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in batches {
        let bytes = fs::read(path).map_err(|source| DataError::io("read", path, source))?;
        if bytes.is_empty() || bytes.len() % RECORD != 0 {
            let reason = format!(
                "its {} bytes are not a whole number of {RECORD}-byte records",
                bytes.len()
            );
            return Err(DataError::broken(path, reason, REMEDY));
        }
        pixels.reserve(bytes.len());
        for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
            let (label, planes) = (record[0], &record[1..]);
            if usize::from(label) >= classes {
                return Err(DataError::LabelOutOfRange {
                    path: path.clone(),
                    index,
                    label: label.into(),
                    classes,
                });
            }
            labels.push(u32::from(label));
            for at in 0..PLANE {
                pixels.extend([planes[at], planes[PLANE + at], planes[2 * PLANE + at]]);
            }
        }
    }
    Split::new(3 * PLANE, pixels, labels)
}
