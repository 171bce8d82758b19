//! One folder of images per class, in a folder, a zip or a tar.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::tree::{Entry, MAX_IMAGE_BYTES, Tree};
use crate::assemble::assemble;
use crate::error::{one_line, some_of};
use crate::fingerprint::Fingerprint;
use crate::foreign::what_is;
use crate::layout::{arrange, is_image};
use crate::listing::{Fetch, Listing};
use crate::{DataError, Dataset, LoadOptions};

/// Tiny ImageNet's list of its validation images: file name, class, and a box, with tabs between them.
const ANNOTATIONS: &str = "val_annotations.txt";
const MAX_ANNOTATION_BYTES: u64 = 1 << 26;

/// Kinds of files that lie beside images and are expected to.
const COMPANIONS: [&str; 18] = [
    "txt", "csv", "tsv", "json", "jsonl", "xml", "md", "rst", "html", "yaml", "yml", "toml", "py",
    "ipynb", "sh", "log", "ini", "license",
];

/// The images of a tree, by the listing's index.
struct Images {
    tree: Tree,
    chosen: Vec<Entry>,
}

impl Fetch for Images {
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.tree.read(&self.chosen[index], MAX_IMAGE_BYTES)
    }

    fn entry(&self, index: usize) -> String {
        self.chosen[index].name.clone()
    }
}

pub(crate) fn load(tree: Tree, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let images: Vec<&Entry> = tree
        .entries
        .iter()
        .filter(|entry| is_image(&entry.name))
        .collect();
    if images.is_empty() {
        return Err(no_images(&tree));
    }
    let mut names: Vec<String> = images.iter().map(|image| image.name.clone()).collect();
    let mut folders = tree.folders.clone();
    place_annotated(&tree, &mut names, &mut folders)?;
    let layout = arrange(&tree.path, &names, &folders)?;
    let mut fingerprint = Fingerprint::new(tree.kind);
    for image in &layout.images {
        let entry = images[image.index];
        fingerprint = fingerprint
            .text(&entry.name)
            .number(entry.len.into())
            .number(entry.stamp);
    }
    let mut notes = tree.notes.clone();
    notes.extend(layout.notes);
    let unread = tree.kinds_of(|entry| is_image(&entry.name) || is_companion(&entry.name));
    notes.extend(
        unread.map(|kinds| {
            format!("left out files that are no images of a kind that is read: {kinds}")
        }),
    );
    let chosen: Vec<Entry> = layout
        .images
        .iter()
        .map(|image| images[image.index].clone())
        .collect();
    let listing = Listing {
        path: tree.path.clone(),
        name: name.to_owned(),
        source: format!(
            "{} ({}, {} images)",
            tree.path.display(),
            tree.kind,
            chosen.len()
        ),
        class_names: layout.class_names,
        labels: layout.images.iter().map(|image| image.label).collect(),
        parts: layout.images.iter().map(|image| image.part).collect(),
        fingerprint: fingerprint.finish(),
        notes,
    };
    assemble(listing, &Images { tree, chosen }, options)
}

fn no_images(tree: &Tree) -> DataError {
    let mut reason = "it holds no image that is read".to_owned();
    if let Some(kinds) = tree.kinds_of(|entry| is_companion(&entry.name)) {
        reason += &format!(", but {kinds}");
    }
    let unread = tree.entries.iter().find(|entry| !is_companion(&entry.name));
    if let Some((name, kind)) =
        unread.and_then(|entry| Some((&entry.name, what_is(&tree.full_path(&entry.name))?)))
    {
        reason += &format!("; {} is {kind}", one_line(name));
    }
    DataError::unknown(&tree.path, reason)
}

fn is_companion(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    match name.rsplit_once('.') {
        Some((_, extension)) => COMPANIONS.contains(&extension.to_lowercase().as_str()),
        // README, LICENSE, Makefile, ….
        None => name.starts_with(|c: char| c.is_ascii_uppercase()),
    }
}

/// Moves the images that a list beside them gives a class into a folder of that class's name, in `names`; those that they
/// lay in are no longer among `folders`.
fn place_annotated(
    tree: &Tree,
    names: &mut [String],
    folders: &mut Vec<String>,
) -> Result<(), DataError> {
    for (folder, lists) in tree.folders_with(|name| name == ANNOTATIONS) {
        let Some(list) = lists.first() else { continue };
        let bytes = tree.read(list, MAX_ANNOTATION_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut classes: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.split('\t');
                Some((fields.next()?, fields.next()?.trim()))
            })
            .filter(|(_, class)| !class.is_empty() && !class.contains('/'))
            .collect();
        let below = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        folders.retain(|own| !own.starts_with(&below));
        for name in names.iter_mut() {
            let Some(own) = name.strip_prefix(&below) else {
                continue;
            };
            let file = own.rsplit('/').next().unwrap_or(own);
            let class = classes.remove(file).map(|class| format!("{class}/"));
            // An image that the list does not know lies in no class folder.
            *name = format!("{below}{}{file}", class.unwrap_or_default());
        }
        if !classes.is_empty() {
            return Err(DataError::Incomplete {
                path: tree.full_path(folder),
                missing: some_of(classes.keys().map(|name| one_line(name))),
                remedy: "they are in val_annotations.txt; fetch the whole set again",
            });
        }
    }
    Ok(())
}
