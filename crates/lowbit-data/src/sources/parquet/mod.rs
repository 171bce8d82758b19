//! Hugging Face parquet files: `image: {bytes, path}`, `label`, and the class names in the file's metadata.
//!
//! A small reader of our own: the `parquet` crate with snappy alone takes longer to build than the rest of this crate. It
//! knows what `datasets` writes (pages of both versions, plain and dictionary encoding, snappy, gzip or none) and says so
//! where a file has more.

mod column;
mod footer;
mod thrift;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use crate::assemble::{Fetch, Listing, assemble};
use crate::fingerprint::Fingerprint;
use crate::layout::{Part, is_litter, part_of};
use crate::{DataError, Dataset, LoadOptions};
use footer::{Chunk, Footer, RowGroup};

const MAGIC: &[u8; 4] = b"PAR1";
const REMEDY: &str = "fetch the file again, or write it with `datasets`' to_parquet";
/// Folders below a data set's: `data/`, `default/train/`.
const MAX_DEPTH: usize = 4;
/// Most classes where the file does not name them.
const MAX_UNNAMED: i64 = 1 << 16;

/// One row group; its images are read when the first is asked for.
struct Group {
    path: PathBuf,
    first: usize,
    meta: RowGroup,
    images: OnceLock<Result<Vec<Vec<u8>>, String>>,
}

struct Groups(Vec<Group>);

impl Groups {
    fn of(&self, index: usize) -> (&Group, usize) {
        let at = self.0.partition_point(|group| group.first <= index) - 1;
        (&self.0[at], index - self.0[at].first)
    }
}

impl Fetch for Groups {
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let (group, row) = self.of(index);
        let images = group.images.get_or_init(|| {
            let bytes = read_chunk(&group.path, &group.meta.images)?;
            column::values(&bytes, &group.meta.images)
        });
        match images {
            Ok(images) => Ok(Cow::Borrowed(&images[row])),
            Err(reason) => {
                let reason = format!("column image from row {}: {reason}", group.first);
                Err(DataError::broken(&group.path, reason, REMEDY))
            }
        }
    }

    fn entry(&self, index: usize) -> String {
        let (group, row) = self.of(index);
        let name = group.path.file_name().unwrap_or_default();
        format!("{} of the row group in {}", row, name.to_string_lossy())
    }
}

/// Whether a folder holds parquet files.
pub(crate) fn is_folder(path: &Path) -> bool {
    files_below(path).is_ok_and(|files| !files.is_empty())
}

/// Loads a file, with the other files of its set where its name tells them apart, or all files of a folder.
pub(crate) fn load(path: &Path, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let files = match path.is_dir() {
        true => files_below(path)?,
        false if named_part(path, Path::new("")).is_some() => {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            files_below(folder.unwrap_or(Path::new(".")))?
        }
        false => vec![path.to_owned()],
    };
    let root = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(Path::new(""))
    };
    let parts = parts_of(&files, root);
    let mut groups = Vec::new();
    let mut class_names: Option<Vec<String>> = None;
    let (mut labels, mut places, mut fingerprint) =
        (Vec::new(), Vec::new(), Fingerprint::new("parquet"));
    for (file, part) in files.iter().zip(parts) {
        let Some(part) = part else { continue };
        let broken = |reason: String| DataError::broken(file, reason, REMEDY);
        let footer = read_footer(file)?;
        fingerprint = stamp(fingerprint, file)?;
        class_names = class_names.or(footer.class_names);
        for meta in footer.groups {
            let bytes = read_chunk(file, &meta.labels).map_err(broken)?;
            let found: Vec<i64> = column::values(&bytes, &meta.labels)
                .map_err(|reason| broken(format!("column label: {reason}")))?;
            let first = labels.len();
            labels.extend(found);
            places.resize(labels.len(), part);
            groups.push(Group {
                path: file.clone(),
                first,
                meta,
                images: OnceLock::new(),
            });
        }
    }
    groups.retain(|group| group.meta.rows > 0);
    let class_names = named_classes(path, class_names, &labels)?;
    let listing = Listing {
        path: path.to_owned(),
        name: name.to_owned(),
        source: format!("{} (parquet, {} images)", path.display(), labels.len()),
        labels: checked(path, &labels, class_names.len())?,
        class_names,
        parts: places,
        fingerprint: fingerprint.finish(),
    };
    assemble(&listing, &Groups(groups), options)
}

/// The class names in the metadata, or numbers up to the largest label.
fn named_classes(
    path: &Path,
    names: Option<Vec<String>>,
    labels: &[i64],
) -> Result<Vec<String>, DataError> {
    if let Some(names) = names {
        return Ok(names);
    }
    let classes = labels
        .iter()
        .max()
        .map_or(0, |label| label.saturating_add(1));
    if classes > MAX_UNNAMED {
        let reason = format!("its largest label is {}", classes - 1);
        return Err(DataError::broken(
            path,
            reason,
            "mend the labels or name the classes",
        ));
    }
    Ok((0..classes).map(|class| class.to_string()).collect())
}

fn checked(path: &Path, labels: &[i64], classes: usize) -> Result<Vec<u32>, DataError> {
    labels
        .iter()
        .enumerate()
        .map(|(index, &label)| {
            u32::try_from(label)
                .ok()
                .filter(|&label| (label as usize) < classes)
                .ok_or_else(|| DataError::LabelOutOfRange {
                    path: path.to_owned(),
                    index,
                    label,
                    classes,
                })
        })
        .collect()
}

/// All parquet files below `root`, by path.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, DataError> {
    fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
        let failed = |source| DataError::io("list", folder, source);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or(".");
            if is_litter(name) {
                continue;
            }
            if path.is_dir() && depth < MAX_DEPTH {
                walk(&path, depth + 1, files)?;
            } else if name.to_ascii_lowercase().ends_with(".parquet") {
                files.push(path);
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(root, 0, &mut files)?;
    files.sort();
    Ok(files)
}

/// The part that a file's name or one of its folders below `root` stands for: `train-00000-of-00001.parquet`,
/// `test/0000.parquet`.
fn named_part(file: &Path, root: &Path) -> Option<&'static str> {
    let below = file
        .strip_prefix(root)
        .ok()
        .filter(|below| !root.as_os_str().is_empty() && *below != file);
    let names = below.or_else(|| file.file_name().map(Path::new))?;
    names.iter().find_map(|name| {
        let name = name.to_str()?;
        part_of(name.split(['-', '.', '_']).next()?)
    })
}

/// The part of each file; `None` for a file that is left out.
fn parts_of(files: &[PathBuf], root: &Path) -> Vec<Option<Part>> {
    let named: Vec<Option<&str>> = files.iter().map(|file| named_part(file, root)).collect();
    let has = |part| named.contains(&Some(part));
    let tested = ["test", "validation"].into_iter().find(|part| has(part));
    match tested.filter(|_| has("train")) {
        None => vec![Some(Part::Undivided); files.len()],
        Some(tested) => named
            .into_iter()
            .map(|part| match part {
                Some("train") => Some(Part::Train),
                Some(part) if part == tested => Some(Part::Test),
                _ => None,
            })
            .collect(),
    }
}

fn stamp(fingerprint: Fingerprint, file: &Path) -> Result<Fingerprint, DataError> {
    let data = fs::metadata(file).map_err(|source| DataError::io("read", file, source))?;
    let age = data
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(fingerprint
        .text(&file.to_string_lossy())
        .number(data.len().into())
        .number(age.map_or(0, |age| age.as_nanos())))
}

/// The footer stands at the end: its bytes, its length, `PAR1`.
fn read_footer(path: &Path) -> Result<Footer, DataError> {
    let failed = |source| DataError::io("read", path, source);
    let broken = |reason: &str| DataError::broken(path, reason, REMEDY);
    let mut file = File::open(path).map_err(failed)?;
    let file_len = file.metadata().map_err(failed)?.len();
    let tail_at = file_len
        .checked_sub(8)
        .ok_or_else(|| broken("it is too short"))?;
    file.seek(SeekFrom::Start(tail_at)).map_err(failed)?;
    let mut tail = [0; 8];
    file.read_exact(&mut tail).map_err(failed)?;
    let [a, b, c, d, magic @ ..] = tail;
    let len = u64::from(u32::from_le_bytes([a, b, c, d]));
    if &magic != MAGIC {
        return Err(broken("it does not end as a parquet file does"));
    }
    let start = tail_at
        .checked_sub(len)
        .ok_or_else(|| broken("its footer's length is out of range"))?;
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).map_err(failed)?;
    footer::read(&bytes, file_len as usize).map_err(|reason| broken(&reason))
}

fn read_chunk(path: &Path, chunk: &Chunk) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(chunk.start as u64))?;
            file.take(chunk.len as u64).read_to_end(&mut bytes)
        })
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
