//! CIFAR-10 and CIFAR-100 as their author publishes them: binary batches, and pickles for Python.
//!
//! Each image is 3072 bytes: 32×32 red, then green, then blue. In a binary batch its labels stand before it. Krizhevsky,
//! "Learning Multiple Layers of Features from Tiny Images", 2009.

use std::borrow::Cow;
use std::path::Path;

use super::pickle::Pickle;
use super::raw::Raw;
use super::tree::{Entry, Tree};
use crate::error::some_of;
use crate::listing::Shape;
use crate::{DataError, Dataset, LoadOptions, Split};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const IMAGE: usize = 3 * PLANE;

/// CIFAR-10 has five training batches.
const BATCHES: usize = 5;
const MAX_BATCH_BYTES: u64 = 1 << 30;
const MAX_NAMES_BYTES: u64 = 1 << 20;

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

const REMEDY: &str =
    "unpack the archive again, or fetch it again from cs.toronto.edu/~kriz/cifar.html";

/// The four forms that the sets are published in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Binary10,
    Pickled10,
    Binary100,
    Pickled100,
}

impl Form {
    /// The form of the batches among `names`, the files of one folder.
    pub(crate) fn of(names: &[&str]) -> Option<Self> {
        let has = |name: &str| names.contains(&name);
        if names
            .iter()
            .any(|name| is_batch(name) && name.ends_with(".bin"))
        {
            Some(Self::Binary10)
        } else if names.iter().any(|name| is_batch(name)) {
            Some(Self::Pickled10)
        } else if has("fine_label_names.txt") && (has("train.bin") || has("test.bin")) {
            Some(Self::Binary100)
        } else if has("meta") && (has("train") || has("test")) {
            Some(Self::Pickled100)
        } else {
            None
        }
    }

    /// The files with training images, and the one with test images.
    fn files(self) -> (Vec<String>, &'static str) {
        let batches = |end: &str| {
            (1..=BATCHES)
                .map(|number| format!("data_batch_{number}{end}"))
                .collect()
        };
        match self {
            Self::Binary10 => (batches(".bin"), "test_batch.bin"),
            Self::Pickled10 => (batches(""), "test_batch"),
            Self::Binary100 => (vec!["train.bin".into()], "test.bin"),
            Self::Pickled100 => (vec!["train".into()], "test"),
        }
    }

    fn classes(self) -> usize {
        match self {
            Self::Binary10 | Self::Pickled10 => 10,
            Self::Binary100 | Self::Pickled100 => 100,
        }
    }
}

/// Whether a file's name is that of a CIFAR-10 batch.
pub(crate) fn is_batch(name: &str) -> bool {
    let stem = name.strip_suffix(".bin").unwrap_or(name);
    let number = stem.strip_prefix("data_batch_");
    stem == "test_batch"
        || number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a file's name may be that of one of the files.
pub(crate) fn is_name(name: &str) -> bool {
    is_batch(name)
        || matches!(
            name,
            "train" | "test" | "meta" | "train.bin" | "test.bin" | "fine_label_names.txt"
        )
}

/// Loads the batches of `form` that lie in `folder`, a path below the tree's root.
pub(crate) fn load(
    tree: &Tree,
    folder: &str,
    form: Form,
    options: &LoadOptions,
) -> Result<Dataset, DataError> {
    let path = tree.full_path(folder);
    let find = |name: &str| {
        tree.entries
            .iter()
            .find(|entry| entry.folder_and_name() == (folder, name))
    };
    let (training, tested) = form.files();
    let missing: Vec<&str> = training
        .iter()
        .map(String::as_str)
        .chain([tested])
        .filter(|name| find(name).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(DataError::Incomplete {
            path,
            missing: some_of(missing),
            remedy: REMEDY,
        });
    }
    let read = |names: &[&str]| -> Result<Split, DataError> {
        let mut batch = Batch::default();
        for entry in names.iter().filter_map(|name| find(name)) {
            batch.add(tree, entry, form)?;
        }
        Split::new(IMAGE, batch.pixels, batch.labels)
    };
    let training: Vec<&str> = training.iter().map(String::as_str).collect();
    let (train, test) = (read(&training)?, read(&[tested])?);
    let classes = form.classes();
    let total = train.len() + test.len();
    Raw {
        name: format!("cifar{classes}"),
        source: format!(
            "{} (CIFAR-{classes} batches, {total} images)",
            path.display()
        ),
        class_names: class_names(tree, &find, form)?,
        path,
        shape: Shape {
            height: SIDE,
            width: SIDE,
            channels: 3,
        },
        train,
        test: Some(test),
        notes: tree.notes.clone(),
    }
    .finish(options)
}

/// The names that lie beside the batches, else the published ones or numbers.
fn class_names<'t>(
    tree: &Tree,
    find: &impl Fn(&str) -> Option<&'t Entry>,
    form: Form,
) -> Result<Vec<String>, DataError> {
    let file = match form {
        Form::Binary10 => "batches.meta.txt",
        Form::Pickled10 => "batches.meta",
        Form::Binary100 => "fine_label_names.txt",
        Form::Pickled100 => "meta",
    };
    let classes = form.classes();
    let default = || match classes {
        10 => CLASSES.map(String::from).to_vec(),
        _ => (0..classes).map(|class| class.to_string()).collect(),
    };
    let Some(entry) = find(file) else {
        return Ok(default());
    };
    let bytes = tree.read(entry, MAX_NAMES_BYTES)?;
    let owned = |name: &str| name.trim().to_owned();
    let names: Vec<String> = match form {
        Form::Binary10 | Form::Binary100 => String::from_utf8_lossy(&bytes)
            .lines()
            .map(owned)
            .filter(|line| !line.is_empty())
            .collect(),
        Form::Pickled10 | Form::Pickled100 => {
            let broken = |reason: String| broken(tree, entry, reason);
            let pickle = Pickle::read(&bytes).map_err(broken)?;
            let names = pickle
                .texts("fine_label_names")
                .or_else(|| pickle.texts("label_names"))
                .ok_or_else(|| broken("it holds no names of labels".into()))?;
            names.into_iter().map(owned).collect()
        }
    };
    match names.len() == classes {
        true => Ok(names),
        false => Err(broken(
            tree,
            entry,
            format!("it holds {} names for {classes} classes", names.len()),
        )),
    }
}

fn broken(tree: &Tree, entry: &Entry, reason: String) -> DataError {
    DataError::broken(&tree.full_path(&entry.name), reason, REMEDY)
}

/// Images of one part, `[n, h, w, c]`, and their labels.
#[derive(Default)]
struct Batch {
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

impl Batch {
    fn add(&mut self, tree: &Tree, entry: &Entry, form: Form) -> Result<(), DataError> {
        let bytes = tree.read(entry, MAX_BATCH_BYTES)?;
        let broken = |reason: String| broken(tree, entry, reason);
        let classes = form.classes();
        let checked = |index: usize, label: i64| match u32::try_from(label) {
            Ok(label) if (label as usize) < classes => Ok(label),
            _ => Err(DataError::LabelOutOfRange {
                path: tree.full_path(&entry.name),
                index,
                label,
                classes,
            }),
        };
        // Labels of a record: the class, or the coarse class and then the fine one.
        let heads = match form {
            Form::Binary10 => 1,
            Form::Binary100 => 2,
            Form::Pickled10 | Form::Pickled100 => {
                let pickle = Pickle::read(&bytes).map_err(broken)?;
                let (images, labels) = pickled(&pickle).map_err(|reason| broken(reason.into()))?;
                self.pixels.reserve(images.len());
                for (index, (planes, label)) in images.chunks_exact(IMAGE).zip(labels).enumerate() {
                    self.labels.push(checked(index, label)?);
                    self.interleave(planes);
                }
                return Ok(());
            }
        };
        let record = heads + IMAGE;
        if bytes.is_empty() || bytes.len() % record != 0 {
            return Err(broken(format!(
                "its {} bytes are not a whole number of {record}-byte records",
                bytes.len()
            )));
        }
        self.pixels.reserve(bytes.len());
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            self.labels.push(checked(index, record[heads - 1].into())?);
            self.interleave(&record[heads..]);
        }
        Ok(())
    }

    /// Adds an image of three planes as pixels of three channels.
    fn interleave(&mut self, planes: &[u8]) {
        for at in 0..PLANE {
            self.pixels
                .extend([planes[at], planes[PLANE + at], planes[2 * PLANE + at]]);
        }
    }
}

/// The images of a pickled batch, plane by plane, and as many labels.
fn pickled<'a>(pickle: &Pickle<'a>) -> Result<(Cow<'a, [u8]>, Vec<i64>), &'static str> {
    let images = pickle
        .array("data")
        .ok_or("it holds no array of bytes called `data`")?;
    let key = match pickle.has("fine_labels") {
        true => "fine_labels",
        false => "labels",
    };
    let labels = pickle.numbers(key).ok_or("it holds no list of labels")?;
    let whole = images.shape.first() == Some(&labels.len())
        && images.bytes.len() == labels.len().saturating_mul(IMAGE);
    match whole && !labels.is_empty() {
        true => Ok((images.bytes, labels)),
        false => Err("its images are not as many as its labels, or not of 32×32×3 bytes"),
    }
}

/// The name of the file at `path`, where it is one of the batches.
pub(crate) fn batch_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| is_batch(name))
}
