//! Class folders: from the images' relative paths to labels and parts, whether they lie in a folder or in a zip.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::DataError;
use crate::decode::EXTENSIONS;
use crate::error::one_line;

/// Which part of the data an image was shipped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Test,
    /// The data has no split of its own.
    Undivided,
}

/// One image of a class folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its index in the list of paths.
    pub(crate) index: usize,
    pub(crate) label: u32,
    pub(crate) part: Part,
}

/// The classes found and their images, in the order of part, class and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) class_names: Vec<String>,
    pub(crate) images: Vec<Placed>,
}

/// Whether a file's name says that it is an image we read.
pub(crate) fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether a path holds what an operating system left behind, not data.
pub(crate) fn is_litter(path: &str) -> bool {
    path.split('/')
        .any(|part| part.starts_with('.') || part == "__MACOSX")
}

/// The part that a folder's name stands for.
fn part_of(folder: &str) -> Option<&'static str> {
    match folder.to_ascii_lowercase().as_str() {
        "train" | "training" => Some("train"),
        "test" | "testing" => Some("test"),
        "val" | "valid" | "validation" => Some("validation"),
        _ => None,
    }
}

/// Reads classes and parts off `files` and `folders`, relative paths with `/` between their parts.
///
/// Folders that enclose everything are stripped. Then `train/` and `test/` (or a validation folder in its place) are
/// parts, the next folder is the class, and folders below belong to it.
pub(crate) fn arrange(
    source: &Path,
    files: &[String],
    folders: &[String],
) -> Result<Layout, DataError> {
    let paths: Vec<Vec<&str>> = files.iter().map(|path| path.split('/').collect()).collect();
    if paths.is_empty() {
        return Err(DataError::unknown(source, "it holds no JPEG or PNG image"));
    }
    let strip = enclosing(&paths);
    let divided = paths
        .iter()
        .all(|path| path.len() > strip + 2 && part_of(path[strip]).is_some());
    let parts: BTreeSet<&str> = match divided {
        true => paths
            .iter()
            .filter_map(|path| part_of(path[strip]))
            .collect(),
        false => BTreeSet::new(),
    };
    let divided = parts.len() > 1 && parts.contains("train");
    let tested = if parts.contains("test") {
        "test"
    } else {
        "validation"
    };
    let class_depth = strip + usize::from(divided);

    let mut classes: BTreeMap<&str, u32> = BTreeMap::new();
    for path in &paths {
        let class = path
            .get(class_depth)
            .filter(|_| path.len() > class_depth + 1);
        let Some(&class) = class else {
            let reason = format!("image {} lies in no class folder", path.join("/"));
            return Err(DataError::unknown(source, reason));
        };
        classes.insert(class, 0);
    }
    for folder in folders {
        let path: Vec<&str> = folder.split('/').collect();
        let enclosed = path.iter().zip(&paths[0]).take(strip).all(|(a, b)| a == b);
        if path.len() == class_depth + 1 && enclosed && !classes.contains_key(path[class_depth]) {
            return Err(empty_class(source, path[class_depth], "training"));
        }
    }
    let class_names = number(&mut classes);
    let mut images: Vec<Placed> = (0..paths.len())
        .filter_map(|index| {
            let path = &paths[index];
            let part = match divided.then(|| part_of(path[strip])).flatten() {
                None => Part::Undivided,
                Some("train") => Part::Train,
                Some(part) if part == tested => Part::Test,
                Some(_) => return None,
            };
            let label = classes[path[class_depth]];
            Some(Placed { index, label, part })
        })
        .collect();
    images.sort_by(|a, b| {
        (a.part as u8, a.label, &paths[a.index][strip..]).cmp(&(
            b.part as u8,
            b.label,
            &paths[b.index][strip..],
        ))
    });
    Ok(Layout {
        class_names,
        images,
    })
}

pub(crate) fn empty_class(source: &Path, class: &str, part: &'static str) -> DataError {
    DataError::EmptyClass {
        path: source.to_owned(),
        class: one_line(class),
        part,
    }
}

/// How many leading folders all paths share, leaving each a class folder and a file.
fn enclosing(paths: &[Vec<&str>]) -> usize {
    let shortest = paths.iter().map(Vec::len).min().unwrap_or(0);
    (0..shortest.saturating_sub(2))
        .find(|&depth| paths.iter().any(|path| path[depth] != paths[0][depth]))
        .unwrap_or(shortest.saturating_sub(2))
}

/// Numbers the classes by name; names that are all whole numbers, by value.
fn number(classes: &mut BTreeMap<&str, u32>) -> Vec<String> {
    let mut names: Vec<&str> = classes.keys().copied().collect();
    let values: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
    if values.is_some() {
        names.sort_by_key(|name| name.parse::<u64>().unwrap_or(u64::MAX));
    }
    for (label, name) in names.iter().enumerate() {
        classes.insert(name, label as u32);
    }
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(files: &[&str], folders: &[&str]) -> Result<Layout, String> {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        arrange(Path::new("set"), &owned(files), &owned(folders)).map_err(|e| e.to_string())
    }

    #[test]
    fn enclosing_folders_are_stripped_and_classes_sorted() {
        let layout = arranged(&["top/b/2.png", "top/b/1.png", "top/a/x/3.png"], &[]).expect("ok");
        assert_eq!(layout.class_names, ["a", "b"]);
        let order: Vec<(usize, u32)> = layout.images.iter().map(|i| (i.index, i.label)).collect();
        assert_eq!(order, [(2, 0), (1, 1), (0, 1)]);
        assert!(layout.images.iter().all(|i| i.part == Part::Undivided));
    }

    #[test]
    fn train_and_test_folders_are_parts_and_validation_is_left_out() {
        let files = [
            "d/train/a/1.png",
            "d/train/b/1.png",
            "d/test/a/2.png",
            "d/val/a/3.png",
        ];
        let layout = arranged(&files, &[]).expect("ok");
        assert_eq!(layout.class_names, ["a", "b"]);
        let parts: Vec<(usize, Part)> = layout.images.iter().map(|i| (i.index, i.part)).collect();
        assert_eq!(parts, [(0, Part::Train), (1, Part::Train), (2, Part::Test)]);
    }

    #[test]
    fn a_validation_folder_stands_in_for_a_missing_test_folder() {
        let files = ["train/a/1.png", "train/b/1.png", "valid/a/2.png"];
        assert_eq!(
            arranged(&files, &[]).expect("ok").images[2].part,
            Part::Test
        );
    }

    #[test]
    fn numbered_classes_are_in_the_order_of_their_numbers() {
        let files = ["10/1.png", "9/1.png", "1/1.png"];
        assert_eq!(
            arranged(&files, &[]).expect("ok").class_names,
            ["1", "9", "10"]
        );
    }

    #[test]
    fn images_outside_class_folders_and_empty_classes_are_named() {
        let error = arranged(&["a/1.png", "stray.png"], &[]).expect_err("stray");
        assert!(
            error.contains("stray.png lies in no class folder"),
            "{error}"
        );
        let error = arranged(&["t/a/1.png", "t/b/1.png"], &["t", "t/a", "t/c"]).expect_err("c");
        assert!(
            error.contains("class `c` has no training images"),
            "{error}"
        );
        assert!(arranged(&[], &[]).is_err());
    }

    #[test]
    fn image_names_and_litter_are_told_from_the_rest() {
        assert!(is_image("a.JPG") && is_image("b.jfif") && is_image("c.webp"));
        assert!(!is_image("readme.txt") && !is_image("jpg"));
        assert!(is_litter("__MACOSX/a.png") && is_litter("a/._1.png") && !is_litter("a/b.png"));
    }
}
