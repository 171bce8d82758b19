//! Parquet files: a column of encoded images, plain or as `{bytes, path}`, and one of labels, numbers or names.
//!
//! A file or a folder of them. Files named `train-*`, `test-*` and `validation-*` (or in folders of those names) are
//! parts; beside them, files of other names are left out. Only the footers and the labels are read at first; a row group's
//! images are read when the first is asked for.

mod codecs;
mod column;
mod delta;
mod footer;
mod labels;
mod schema;
mod thrift;

use std::borrow::Cow;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use crate::assemble::assemble;
use crate::error::some_of;
use crate::fingerprint::Fingerprint;
use crate::layout::{Role, role_of};
use crate::listing::{Fetch, Listing, Part};
use crate::sources::shards;
use crate::{DataError, Dataset, LoadOptions};
use column::{Binaries, Chunk};
use footer::{Footer, Place};
use labels::Labels;

/// Folders below this are not looked into.
const MAX_DEPTH: usize = 3;

const REMEDY: &str = "fetch the file again, or write it with pyarrow's defaults";

/// Loads the parquet file at `path`, or those in the folder at `path`.
pub(crate) fn load(path: &Path, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let Division {
        files,
        parts,
        notes,
    } = match path.is_dir() {
        true => divided(path, whole(path)?),
        false => Division {
            files: vec![path.to_owned()],
            parts: vec![Part::Undivided],
            notes: Vec::new(),
        },
    };
    let mut fingerprint = Fingerprint::new("parquet");
    let (mut labels, mut image_parts) = (Labels::default(), Vec::new());
    let mut stated = Vec::new();
    let mut rows = Rows {
        root: path.to_owned(),
        groups: Vec::new(),
    };
    for (file, part) in files.iter().zip(parts) {
        let (footer, identity) = open(file, fingerprint)?;
        fingerprint = identity;
        stated.push((relative(path, file), footer.class_names));
        for group in footer.groups {
            labels.read(file, &group, footer.label_type)?;
            image_parts.resize(labels.len(), part);
            rows.groups.push(Images {
                file: file.clone(),
                end: labels.len(),
                rows: group.rows,
                place: group.images,
                decoded: OnceLock::new(),
            });
        }
    }
    shards::same_classes(path, &stated)?;
    let class_names = stated.into_iter().find_map(|(_, names)| names);
    let (class_names, labels) = labels.resolved(path, class_names)?;
    let listing = Listing {
        path: path.to_owned(),
        name: name.to_owned(),
        source: format!("{} (parquet, {} images)", path.display(), labels.len()),
        class_names,
        labels,
        parts: image_parts,
        fingerprint: fingerprint.finish(),
        notes,
    };
    assemble(listing, &rows, options)
}

/// The parquet files in `folder` and the folders in it, sorted.
fn list(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let failed = |source| DataError::io("list", &folder, source);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry
                .file_name()
                .to_str()
                .is_none_or(|name| name.starts_with('.'))
            {
                continue;
            }
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension.is_some_and(|it| it.eq_ignore_ascii_case("parquet")) {
                files.push(path);
            } else if depth < MAX_DEPTH && path.is_dir() {
                folders.push((path, depth + 1));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The parquet files in `folder`, when all of their numbering are there and of one configuration.
fn whole(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let files = list(folder)?;
    let names: Vec<String> = files.iter().map(|file| relative(folder, file)).collect();
    shards::complete(folder, &names)?;
    let parts = files.iter().map(|file| role(folder, file));
    let named: Vec<_> = names.into_iter().zip(parts).collect();
    shards::one_configuration(folder, &named, |name| role_at_start(name).is_some())?;
    Ok(files)
}

/// `file` below `root`, with `/` between its parts.
fn relative(root: &Path, file: &Path) -> String {
    let below = file.strip_prefix(root).unwrap_or(file);
    let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
    names.join("/")
}

/// The files to read, the part that each is, and what is left out.
struct Division {
    files: Vec<PathBuf>,
    parts: Vec<Part>,
    notes: Vec<String>,
}

/// Divides files by the parts that their names say; test stands before validation. Beside training files, those that are
/// neither (`extra`, `unsupervised`) are left out.
fn divided(root: &Path, files: Vec<PathBuf>) -> Division {
    let roles: Vec<_> = files.iter().map(|file| role(root, file)).collect();
    let has = |role| roles.contains(&Some(role));
    let tested = [Role::Test, Role::Validation]
        .into_iter()
        .find(|&role| has(role));
    let mut division = Division {
        files: Vec::new(),
        parts: Vec::new(),
        notes: Vec::new(),
    };
    if !has(Role::Train) {
        division.parts = vec![Part::Undivided; files.len()];
        division.files = files;
        return division;
    }
    let train = tested.map_or(Part::Undivided, |_| Part::Train);
    let mut others = Vec::new();
    for (file, role) in files.into_iter().zip(roles) {
        let part = match role {
            Some(Role::Train) => train,
            Some(_) if role == tested => Part::Test,
            Some(_) => Part::Validation,
            None => {
                others.push(relative(root, &file));
                continue;
            }
        };
        division.files.push(file);
        division.parts.push(part);
    }
    if !others.is_empty() {
        division.notes.push(format!(
            "left out, neither training nor test: {}",
            some_of(&others)
        ));
    }
    if tested == Some(Role::Validation) {
        let note = "no test images: the validation images are measured";
        division.notes.push(note.into());
    }
    division
}

/// The part that a file's name, or else its folder's below `root`, begins with.
fn role(root: &Path, file: &Path) -> Option<Role> {
    let below = file.strip_prefix(root).unwrap_or(file);
    let mut names = below.iter().rev().filter_map(|name| name.to_str());
    names.find_map(role_at_start)
}

fn role_at_start(name: &str) -> Option<Role> {
    let word = name.split(|c: char| !c.is_ascii_alphabetic()).next()?;
    role_of(word)
}

fn broken(path: &Path, reason: String) -> DataError {
    DataError::broken(path, reason, REMEDY)
}

fn open(path: &Path, fingerprint: Fingerprint) -> Result<(Footer, Fingerprint), DataError> {
    let failed = |source| DataError::io("open", path, source);
    let mut file = File::open(path).map_err(failed)?;
    let data = file.metadata().map_err(failed)?;
    let footer = footer::read(&mut file).map_err(|reason| broken(path, reason))?;
    let age = data.modified().ok();
    let age = age.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let identity = fingerprint
        .text(&path.to_string_lossy())
        .number(data.len().into())
        .number(age.map_or(0, |age| age.as_nanos()));
    Ok((footer, identity))
}

fn decode<T>(
    path: &Path,
    place: Place,
    rows: usize,
    read: impl FnOnce(&Chunk) -> Result<T, String>,
) -> Result<T, String> {
    let bytes = footer::chunk(path, place).map_err(|error| error.to_string())?;
    read(&Chunk {
        bytes: &bytes,
        codec: place.codec,
        max_definition: place.max_definition,
        listed: place.listed,
        rows,
    })
}

/// The encoded images of all files, by row.
struct Rows {
    root: PathBuf,
    groups: Vec<Images>,
}

/// The encoded images of one row group.
struct Images {
    file: PathBuf,
    /// The first row that is beyond it, over all files.
    end: usize,
    rows: usize,
    place: Place,
    decoded: OnceLock<Result<Binaries, String>>,
}

impl Rows {
    fn locate(&self, index: usize) -> (&Images, usize) {
        let group = self.groups.partition_point(|group| group.end <= index);
        let group = &self.groups[group];
        (group, index + group.rows - group.end)
    }
}

impl Fetch for Rows {
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let (group, row) = self.locate(index);
        let decoded = group
            .decoded
            .get_or_init(|| decode(&group.file, group.place, group.rows, column::binaries));
        let found = match decoded {
            Ok(images) => images.get(row),
            Err(reason) => return Err(broken(&group.file, format!("the images: {reason}"))),
        };
        let bytes = found.ok_or_else(|| broken(&group.file, format!("row {row} has no image")))?;
        Ok(Cow::Borrowed(bytes))
    }

    fn entry(&self, index: usize) -> String {
        let (group, row) = self.locate(index);
        let before = self.groups.iter().filter(|other| other.file == group.file);
        let first = before.map(|other| other.end - other.rows).min();
        let row = row + group.end - group.rows - first.unwrap_or(0);
        match group.file == self.root {
            true => format!("in row {row}"),
            false => format!("in row {row} of {}", group.file.display()),
        }
    }
}
