//! What is known of a data set before its images are decoded.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::error::some_of;

/// Which part of the data an image was shipped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Validation,
    Test,
    /// A split by names does not name it.
    LeftOut,
    /// The data has no split of its own.
    Undivided,
}

/// What a source knows before any image is read.
pub(crate) struct Listing {
    /// The file or folder.
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) class_names: Vec<String>,
    pub(crate) labels: Vec<u32>,
    pub(crate) parts: Vec<Part>,
    /// Changes whenever an image does; names the decoded cache.
    pub(crate) fingerprint: [u8; 16],
    /// What the user should know: what was left out, and why.
    pub(crate) notes: Vec<String>,
}

/// The encoded images of a listing, by index, from any thread.
pub(crate) trait Fetch: Sync {
    /// The image's file.
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError>;
    /// The image's name, for messages.
    fn entry(&self, index: usize) -> String;
}

/// Height, width and channels that all images of a set have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Shape {
    pub(crate) fn image_len(self) -> usize {
        self.height * self.width * self.channels
    }
}

/// Zeroed room for `count` images, or a plain word that there is none.
pub(crate) fn room(path: &Path, count: usize, image_len: usize) -> Result<Vec<u8>, DataError> {
    let mut pixels = Vec::new();
    let fits = count
        .checked_mul(image_len)
        .filter(|&len| pixels.try_reserve_exact(len).is_ok());
    let Some(len) = fits else {
        return Err(DataError::broken(
            path,
            format!("{count} images of {image_len} bytes do not fit into memory"),
            "use --limit or a smaller --image-size",
        ));
    };
    pixels.resize(len, 0);
    Ok(pixels)
}

/// Removes the classes that have no image at all and numbers the others anew; returns a note that names them.
///
/// Labels that name no class are left as they are: they are an error, and found later.
pub(crate) fn drop_unused_classes(
    class_names: &mut Vec<String>,
    labels: &mut [u32],
) -> Option<String> {
    let mut used = vec![false; class_names.len()];
    for &label in labels.iter() {
        *used.get_mut(label as usize)? = true;
    }
    if used.iter().all(|&used| used) {
        return None;
    }
    let mut numbers = Vec::with_capacity(used.len());
    let mut next = 0;
    for &used in &used {
        numbers.push(next);
        next += u32::from(used);
    }
    for label in labels.iter_mut() {
        *label = numbers[*label as usize];
    }
    let mut gone = Vec::new();
    let mut index = 0;
    class_names.retain(|name| {
        let keep = used[index];
        index += 1;
        if !keep {
            gone.push(name.clone());
        }
        keep
    });
    Some(unused_note(&gone))
}

/// Says that `names` are classes without images.
pub(crate) fn unused_note(names: &[String]) -> String {
    let (class, has) = match names.len() {
        1 => ("class", "has"),
        _ => ("classes", "have"),
    };
    let names = some_of(names.iter().map(|name| format!("`{name}`")));
    format!("{class} {names} {has} no images: left out, the other classes are kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_without_images_go_and_the_others_are_numbered_anew() {
        let mut names = ["0", "a", "cow", "b"].map(String::from).to_vec();
        let mut labels = [3, 1, 1, 3];
        let note = drop_unused_classes(&mut names, &mut labels).expect("a note");
        assert_eq!(
            (names, labels),
            (vec!["a".into(), "b".into()], [1, 0, 0, 1])
        );
        assert!(
            note.starts_with("classes `0`, `cow` have no images"),
            "{note}"
        );
    }

    #[test]
    fn used_classes_and_labels_that_name_none_stay() {
        let mut names = ["a", "b"].map(String::from).to_vec();
        assert_eq!(drop_unused_classes(&mut names, &mut [0, 1]), None);
        assert_eq!(drop_unused_classes(&mut names, &mut [0, 2]), None);
        assert_eq!(names.len(), 2);
    }
}
