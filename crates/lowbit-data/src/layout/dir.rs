//! Images' paths as a tree of folders.

use std::collections::BTreeMap;

/// A folder with the images in it.
#[derive(Debug, Default)]
pub(crate) struct Dir<'a> {
    /// Its path below the root; empty for the root.
    pub(crate) path: String,
    /// Indices of the images that lie right in it.
    pub(crate) images: Vec<usize>,
    pub(crate) dirs: BTreeMap<&'a str, Dir<'a>>,
    /// Images in it and in the folders below.
    pub(crate) total: usize,
}

impl<'a> Dir<'a> {
    /// The tree of `files` and of `folders`, which may be empty; paths have `/` between their parts.
    pub(crate) fn new(files: &'a [String], folders: &'a [String]) -> Self {
        let mut root = Self::default();
        for (index, file) in files.iter().enumerate() {
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            let dir = root.at(folder, 1);
            dir.images.push(index);
        }
        for folder in folders {
            root.at(folder, 0);
        }
        root
    }

    /// The folder at `path`, made where it is not there; `more` images are counted on the way.
    fn at(&mut self, path: &'a str, more: usize) -> &mut Self {
        let mut dir = self;
        dir.total += more;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let below = match dir.path.as_str() {
                "" => name.to_owned(),
                path => format!("{path}/{name}"),
            };
            dir = dir.dirs.entry(name).or_insert_with(|| Dir {
                path: below,
                ..Dir::default()
            });
            dir.total += more;
        }
        dir
    }

    /// The folders right in it that hold images, by name.
    pub(crate) fn full(&self) -> impl Iterator<Item = (&'a str, &Self)> {
        self.dirs
            .iter()
            .filter(|(_, dir)| dir.total > 0)
            .map(|(&name, dir)| (name, dir))
    }

    /// The one folder right in it that holds images, if it is the only one.
    pub(crate) fn only(&self) -> Option<(&'a str, &Self)> {
        let mut full = self.full();
        full.next().filter(|_| full.next().is_none())
    }

    /// All images in it and below.
    pub(crate) fn all(&self) -> Vec<usize> {
        let mut found = self.images.clone();
        for dir in self.dirs.values() {
            found.extend(dir.all());
        }
        found
    }
}
