//! MNIST-style IDX files, plain or `.gz`.
//!
//! `00 00 <type> <dimensions>`, each dimension as a big-endian u32, then the values; images are `08 03` (gray) or `08 04`
//! (with channels last), labels `08 01`. Yann LeCun, "The MNIST database of handwritten digits".

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::raw::Raw;
use crate::assemble::Shape;
use crate::{DataError, Dataset, LoadOptions, Split};

/// The most that a file may unpack to: a claim beyond is refused before allocating.
const MAX_BYTES: usize = 1 << 33;

const REMEDY: &str = "fetch the file again";

/// What an IDX file holds: its dimensions and bytes.
struct Idx {
    dimensions: Vec<usize>,
    bytes: Vec<u8>,
}

/// Whether a file's name is that of IDX images or labels (`train-images-idx3-ubyte`, `t10k-labels.idx1-ubyte.gz`, ...).
pub(crate) fn is_idx_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    kind_of(name).is_some() && (name.ends_with("-ubyte") || name.ends_with(".idx"))
}

/// Whether a file begins as an IDX file of bytes does.
pub(crate) fn is_idx(first: &[u8]) -> bool {
    matches!(first, [0, 0, 8, 1..=4, ..])
}

fn kind_of(name: &str) -> Option<&'static str> {
    ["images", "labels"]
        .into_iter()
        .find(|kind| name.contains(kind))
}

/// Loads the IDX files of a folder, or of the folder that the file at `path` lies in.
pub(crate) fn load(path: &Path, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let folder = match path.is_dir() {
        true => path,
        false => path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    };
    let files = list(folder)?;
    // A file that was named chooses its own family: `emnist-letters-train-images...` among other EMNIST files.
    let family = match path.is_dir() {
        true => None,
        false => path
            .file_name()
            .and_then(|name| name.to_str())
            .map(family_of),
    };
    let find = |train: bool, kind: &str| -> Option<&PathBuf> {
        files.iter().find(|file| {
            let name = file
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            let lower = name.to_ascii_lowercase();
            let tested = lower.contains("t10k") || lower.contains("test");
            lower.contains(kind)
                && tested != train
                && family
                    .as_ref()
                    .is_none_or(|family| family_of(name) == *family)
        })
    };
    let Some((images, labels)) = find(true, "images").zip(find(true, "labels")) else {
        return Err(DataError::unknown(
            path,
            "IDX training images and labels (train-images-idx3-ubyte and train-labels-idx1-ubyte) are not both there",
        ));
    };
    let (shape, train) = read_pair(images, labels)?;
    let test = match find(false, "images").zip(find(false, "labels")) {
        None => None,
        Some((images, labels)) => {
            let (test_shape, test) = read_pair(images, labels)?;
            if test_shape != shape {
                return Err(DataError::broken(
                    images,
                    "its images are not of the training images' size",
                    "use files that belong together",
                ));
            }
            Some(test)
        }
    };
    let classes = train
        .labels()
        .iter()
        .chain(test.iter().flat_map(|test| test.labels()))
        .max()
        .map_or(0, |&label| label as usize + 1);
    let total = train.len() + test.as_ref().map_or(0, Split::len);
    Raw {
        path: folder.to_owned(),
        name: name.to_owned(),
        source: format!("{} (IDX, {total} images)", folder.display()),
        class_names: (0..classes).map(|class| class.to_string()).collect(),
        shape,
        train,
        test,
    }
    .finish(options)
}

/// A file name without what tells training from test, images from labels and packed from plain.
fn family_of(name: &str) -> String {
    let mut family = name.to_ascii_lowercase();
    for word in [
        ".gz", "train", "t10k", "test", "images", "labels", "idx4", "idx3", "idx1",
    ] {
        family = family.replace(word, "");
    }
    family
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| DataError::io("list", folder, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(is_idx_name) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_pair(images: &Path, labels: &Path) -> Result<(Shape, Split), DataError> {
    let pixels = read(images)?;
    let (count, height, width, channels) = match pixels.dimensions[..] {
        [count, height, width] => (count, height, width, 1),
        [count, height, width, channels @ (1 | 3)] => (count, height, width, channels),
        _ => {
            let reason = format!("its dimensions are {:?}, not images", pixels.dimensions);
            return Err(DataError::broken(images, reason, REMEDY));
        }
    };
    let classes = read(labels)?;
    if classes.dimensions != [count] {
        let reason = format!(
            "its dimensions are {:?}, but {} holds {count} images",
            classes.dimensions,
            images.display()
        );
        return Err(DataError::broken(
            labels,
            reason,
            "use files that belong together",
        ));
    }
    let shape = Shape {
        height,
        width,
        channels,
    };
    if shape.image_len() == 0 || count == 0 {
        return Err(DataError::broken(images, "it holds no images", REMEDY));
    }
    let labels = classes.bytes.into_iter().map(u32::from).collect();
    Ok((shape, Split::new(shape.image_len(), pixels.bytes, labels)?))
}

fn read(path: &Path) -> Result<Idx, DataError> {
    let file = File::open(path).map_err(|source| DataError::io("open", path, source))?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn Read> = match packed {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let broken = |reason: String| DataError::broken(path, reason, REMEDY);
    let short =
        |error: std::io::Error| broken(format!("it ends too early or is damaged ({error})"));
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(short)?;
    if !is_idx(&magic) {
        return Err(broken(format!(
            "it begins with {magic:02x?}, not as IDX of bytes does"
        )));
    }
    let mut dimensions = Vec::new();
    for _ in 0..magic[3] {
        let mut word = [0; 4];
        reader.read_exact(&mut word).map_err(short)?;
        dimensions.push(u32::from_be_bytes(word) as usize);
    }
    let len = dimensions
        .iter()
        .try_fold(1usize, |len, &side| len.checked_mul(side))
        .filter(|&len| len <= MAX_BYTES)
        .ok_or_else(|| broken(format!("its dimensions {dimensions:?} are too large")))?;
    // Grows with what is really there, not with what the header claims.
    let mut bytes = Vec::new();
    reader
        .take(len as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(short)?;
    if bytes.len() != len {
        let found = if bytes.len() > len {
            "more".into()
        } else {
            bytes.len().to_string()
        };
        return Err(broken(format!(
            "its dimensions {dimensions:?} ask for {len} bytes, it has {found}"
        )));
    }
    Ok(Idx { dimensions, bytes })
}
