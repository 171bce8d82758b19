//! What can be wrong with a data set, said in one line each: what, where, what to do.

use std::path::{Path, PathBuf};

/// Why a data set could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "open", "list", "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// Nothing at the path looks like a data set.
    #[error(
        "{}: {reason}; expected a folder, .zip or .tar(.gz) with one folder of images per class (with or without train/ and \
         test/), Hugging Face .parquet files, MNIST-style IDX files (plain or .gz), CIFAR-10 or CIFAR-100 batches \
         (Python's or binary), or one of the names `landcover` and `eurosat`",
        path.display()
    )]
    NotRecognized {
        /// What the user named.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },

    /// A file of a known format is broken.
    #[error("{}: {reason}; {remedy}", path.display())]
    BrokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },

    /// Images in folders cannot be told into classes and parts.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// The folder or container.
        path: PathBuf,
        /// What is in the way, and what to do about it.
        reason: String,
    },

    /// Files of a set of several are not there.
    #[error("{}: not all of the data is there: {missing} missing; {remedy}", path.display())]
    Incomplete {
        /// The folder or container.
        path: PathBuf,
        /// The names of what is missing.
        missing: String,
        /// What to do about it.
        remedy: &'static str,
    },

    /// One image could not be decoded.
    #[error("{}: image {entry} cannot be decoded: {reason}; replace or remove it", path.display())]
    BrokenImage {
        /// The folder or container.
        path: PathBuf,
        /// The image in it.
        entry: String,
        /// What the decoder says.
        reason: String,
    },

    /// Several images could not be decoded.
    #[error("{}: {count} images cannot be decoded: {list}; replace or remove them", path.display())]
    BrokenImages {
        /// The folder or container.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// The first 20, each with the decoder's reason.
        list: String,
    },

    /// The images are not all of one size.
    #[error(
        "{}: image {entry} is {found_width}×{found_height}, but the first is {expected_width}×{expected_height}; use \
         --image-size N to resize all images to N×N",
        path.display()
    )]
    DifferingSizes {
        /// The folder or container.
        path: PathBuf,
        /// The first image that differs.
        entry: String,
        /// Its width.
        found_width: usize,
        /// Its height.
        found_height: usize,
        /// The width of the first image.
        expected_width: usize,
        /// The height of the first image.
        expected_height: usize,
    },

    /// A class has no image to learn from.
    #[error("{}: class `{class}` has no {part} images; add some or remove its folder", path.display())]
    EmptyClass {
        /// The folder or container.
        path: PathBuf,
        /// The class.
        class: String,
        /// "training" or "test".
        part: &'static str,
    },

    /// A label names no class.
    #[error("{}: label {label} of image {index} is outside 0..{classes}; mend the labels or the class names", path.display())]
    LabelOutOfRange {
        /// The file.
        path: PathBuf,
        /// The image's index.
        index: usize,
        /// The label found.
        label: i64,
        /// How many classes there are.
        classes: usize,
    },

    /// Pixels and labels do not fit together.
    #[error("{pixels} pixel bytes do not make {labels} images of {image_len} bytes")]
    LengthMismatch {
        /// Bytes of pixels.
        pixels: usize,
        /// Labels.
        labels: usize,
        /// Bytes of one image.
        image_len: usize,
    },

    /// An option makes no sense.
    #[error("{name} is {value}, but must be {expected}")]
    BadOption {
        /// The option.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },

    /// A file could not be fetched.
    #[error("cannot download {url}: {reason}; {remedy}")]
    Download {
        /// Where from.
        url: String,
        /// What went wrong.
        reason: String,
        /// How to get on without.
        remedy: String,
    },

    /// An image could not be encoded.
    #[error("cannot encode the contact sheet: {reason}")]
    Encode {
        /// What the encoder says.
        reason: String,
    },
}

impl DataError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn broken(path: &Path, reason: impl Into<String>, remedy: &'static str) -> Self {
        Self::BrokenFile {
            path: path.to_owned(),
            reason: one_line(&reason.into()),
            remedy,
        }
    }

    pub(crate) fn unknown(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotRecognized {
            path: path.to_owned(),
            reason: one_line(&reason.into()),
        }
    }
}

/// Says that `class` has no images in `part`, "training" or "test".
pub(crate) fn empty_class(path: &Path, class: &str, part: &'static str) -> DataError {
    DataError::EmptyClass {
        path: path.to_owned(),
        class: one_line(class),
        part,
    }
}

/// `text` without line breaks and other control characters, which decoders' messages and names in archives may hold.
pub(crate) fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 400;
    let parts = text.split(char::is_control).map(str::trim);
    let kept: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    kept.join(" ").chars().take(MAX_CHARS).collect()
}

/// The first 20 of `names` with commas, and how many more there are.
pub(crate) fn some_of(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    const MOST: usize = 20;
    let mut names = names.into_iter();
    let first: Vec<String> = names
        .by_ref()
        .take(MOST)
        .map(|name| one_line(name.as_ref()))
        .collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_counted() {
        assert_eq!(some_of(["a", "b"]), "a, b");
        let many = some_of((0..25).map(|n| n.to_string()));
        assert!(
            many.starts_with("0, 1, ") && many.ends_with("19 and 5 more"),
            "{many}"
        );
    }

    #[test]
    fn a_message_stays_on_one_line_whatever_a_file_is_called() {
        assert_eq!(one_line("ends early\n"), "ends early");
        assert_eq!(one_line("a\r\nb\u{1b}[2Jc"), "a b [2Jc");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 400);
        let error = DataError::broken(Path::new("set"), "no\nend", "fetch it again");
        assert_eq!(error.to_string(), "set: no end; fetch it again");
    }
}
