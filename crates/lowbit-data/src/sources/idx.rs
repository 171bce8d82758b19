//! MNIST-style IDX files, plain or `.gz`, in a folder or an archive.
//!
//! `00 00 <type> <dimensions>`, each dimension as a big-endian u32, then the values; images are `08 03` (gray) or `08 04`
//! (with channels last), labels `08 01`. Yann LeCun, "The MNIST database of handwritten digits".

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::raw::Raw;
use super::tree::{Entry, Tree};
use crate::error::some_of;
use crate::foreign::{HEAD_BYTES, describe};
use crate::listing::Shape;
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

fn kind_of(name: &str) -> Option<Kind> {
    if name.contains("images") {
        Some(Kind::Images)
    } else if name.contains("labels") {
        Some(Kind::Labels)
    } else {
        None
    }
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Images,
    Labels,
}

/// The files of one set, by what is in them.
pub(crate) type Files<'t> = BTreeMap<(bool, Kind), &'t Entry>;

/// The IDX sets of a tree, by folder and family. Kaggle's archives hold each file twice, once in a folder of its name; a
/// packed file may lie beside what was unpacked from it: the plain file at the shortest path is taken.
pub(crate) fn sets(tree: &Tree) -> BTreeMap<(String, String), Files<'_>> {
    let mut sets: BTreeMap<(String, String), Files> = BTreeMap::new();
    for entry in &tree.entries {
        let (folder, name) = entry.folder_and_name();
        if !is_idx_name(name) {
            continue;
        }
        let (above, own) = folder.rsplit_once('/').unwrap_or(("", folder));
        let folder = match is_idx_name(own) {
            true => above,
            false => folder,
        };
        let lower = name.to_ascii_lowercase();
        let Some(kind) = kind_of(&lower) else {
            continue;
        };
        let trains = !(lower.contains("t10k") || lower.contains("test"));
        let files = sets
            .entry((folder.to_owned(), family_of(name)))
            .or_default();
        let place = files.entry((trains, kind)).or_insert(entry);
        let rank = |entry: &Entry| (entry.name.ends_with(".gz"), entry.name.len());
        if rank(entry) < rank(place) {
            *place = entry;
        }
    }
    sets
}

/// Loads the set of `tree`; where it holds several, that to which the file called `chosen` belongs.
pub(crate) fn load(
    tree: &Tree,
    name: &str,
    chosen: Option<&str>,
    options: &LoadOptions,
) -> Result<Dataset, DataError> {
    let mut sets = sets(tree);
    if let Some(chosen) = chosen {
        let family = family_of(chosen);
        sets.retain(|(_, own), _| *own == family);
    }
    let folders: BTreeSet<&str> = sets.keys().map(|(folder, _)| folder.as_str()).collect();
    let ((folder, _), files) = match sets.iter().next() {
        Some(set) if sets.len() == 1 => set,
        _ => {
            let names = sets.values().filter_map(|files| {
                let images = files.get(&(true, Kind::Images));
                images
                    .or(files.values().next().as_ref().copied())
                    .map(|entry| &entry.name)
            });
            let reason = match sets.len() {
                0 => "the IDX files of training (train-images-idx3-ubyte and train-labels-idx1-ubyte) are not there".into(),
                _ => format!("it holds several IDX sets: {}", some_of(names)),
            };
            let remedy = match folders.len() {
                0 | 1 => "name a file of the set that is meant",
                _ => "name the folder of the set that is meant",
            };
            return Err(DataError::broken(&tree.path, reason, remedy));
        }
    };
    let path = tree.full_path(folder);
    let pair = |trains: bool| -> Result<Option<(&Entry, &Entry)>, DataError> {
        let of = |kind| files.get(&(trains, kind)).copied();
        let part = if trains { "train" } else { "t10k" };
        let missing = match (of(Kind::Images), of(Kind::Labels)) {
            (Some(images), Some(labels)) => return Ok(Some((images, labels))),
            (None, None) if !trains => return Ok(None),
            (Some(_), None) => format!("{part}-labels-idx1-ubyte"),
            (None, Some(_)) => format!("{part}-images-idx3-ubyte"),
            (None, None) => "train-images-idx3-ubyte and train-labels-idx1-ubyte".into(),
        };
        Err(DataError::Incomplete {
            path: path.clone(),
            missing,
            remedy: "fetch them too; a set has its images and its labels",
        })
    };
    let (training, tested) = (pair(true)?, pair(false)?);
    let Some((images, labels)) = training else {
        return Err(DataError::unknown(
            &path,
            "it holds no IDX files of training",
        ));
    };
    let (shape, train) = read_pair(tree, images, labels)?;
    let test = match tested {
        None => None,
        Some((images, labels)) => {
            let (test_shape, test) = read_pair(tree, images, labels)?;
            if test_shape != shape {
                return Err(DataError::broken(
                    &tree.full_path(&images.name),
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
        name: name.to_owned(),
        source: format!("{} (IDX, {total} images)", path.display()),
        class_names: (0..classes).map(|class| class.to_string()).collect(),
        path,
        shape,
        train,
        test,
        notes: tree.notes.clone(),
    }
    .finish(options)
}

/// A file name without what tells training from test, images from labels and packed from plain.
fn family_of(name: &str) -> String {
    let mut family = name.to_ascii_lowercase();
    for word in [
        ".gz", "train", "t10k", "test", "images", "labels", "idx4", "idx3", "idx1", "idx", "ubyte",
    ] {
        family = family.replace(word, "");
    }
    family.retain(char::is_alphanumeric);
    family
}

fn read_pair(tree: &Tree, images: &Entry, labels: &Entry) -> Result<(Shape, Split), DataError> {
    let (pixels, classes) = (read(tree, images)?, read(tree, labels)?);
    let (images, labels) = (&tree.full_path(&images.name), &tree.full_path(&labels.name));
    let (count, height, width, channels) = match pixels.dimensions[..] {
        [count, height, width] => (count, height, width, 1),
        [count, height, width, channels @ (1 | 3)] => (count, height, width, channels),
        _ => {
            let reason = format!("its dimensions are {:?}, not images", pixels.dimensions);
            return Err(DataError::broken(images, reason, REMEDY));
        }
    };
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

fn read(tree: &Tree, entry: &Entry) -> Result<Idx, DataError> {
    let path = &tree.full_path(&entry.name);
    let file = tree.read(entry, MAX_BYTES as u64)?;
    let packed = entry.name.ends_with(".gz");
    let head = &file[..file.len().min(HEAD_BYTES)];
    let expected = packed && head.starts_with(&[0x1F, 0x8B]);
    if let Some(kind) = describe(head).filter(|_| !expected) {
        return Err(DataError::broken(path, format!("it is {kind}"), REMEDY));
    }
    let mut reader: Box<dyn Read> = match packed {
        true => Box::new(MultiGzDecoder::new(&file[..])),
        false => Box::new(&file[..]),
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
