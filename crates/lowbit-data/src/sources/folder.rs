//! The files of a folder on disk. Links are followed, but no real folder is walked twice.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::tree::{Entry, Store, Tree, read_all};
use crate::DataError;
use crate::error::some_of;
use crate::layout::is_litter;

/// The files of a folder, by the path that each has below it.
struct OnDisk {
    root: PathBuf,
    paths: Vec<String>,
}

impl Store for OnDisk {
    fn read(&self, at: usize, _: &str, limit: u64) -> Result<Cow<'_, [u8]>, DataError> {
        let path = self.root.join(&self.paths[at]);
        File::open(&path)
            .and_then(|file| read_all(file, limit))
            .map(Cow::Owned)
            .map_err(|source| DataError::io("read", &path, source))
    }
}

/// What a walk has found so far: paths below the root, with `/`.
#[derive(Default)]
struct Walk {
    root: PathBuf,
    entries: Vec<Entry>,
    paths: Vec<String>,
    folders: Vec<String>,
    /// Links to folders, to be followed once all that is no link is known.
    links: Vec<String>,
    /// Real paths of the folders walked.
    real: BTreeSet<PathBuf>,
    /// Links that were not followed, and those that lead nowhere.
    repeated: Vec<String>,
    dangling: Vec<String>,
}

/// The files below `root`, with or without those in the folders in it.
pub(crate) fn open(root: &Path, deep: bool) -> Result<Tree, DataError> {
    let mut walk = Walk {
        root: root.to_owned(),
        ..Walk::default()
    };
    let real_root = fs::canonicalize(root).map_err(|source| DataError::io("open", root, source))?;
    walk.real.insert(real_root.clone());
    walk.folder(String::new(), deep)?;
    // Real folders come first, so that what a link repeats is known by its own name.
    loop {
        let mut links = std::mem::take(&mut walk.links);
        links.sort_unstable();
        if links.is_empty() || !deep {
            break;
        }
        for link in links {
            let path = root.join(&link);
            let real =
                fs::canonicalize(&path).map_err(|source| DataError::io("open", &path, source))?;
            if real_root.starts_with(&real) || !walk.real.insert(real) {
                walk.repeated.push(link);
            } else {
                walk.folder(link, true)?;
            }
        }
    }
    let Walk {
        root,
        entries,
        paths,
        folders,
        repeated,
        dangling,
        ..
    } = walk;
    let store = Box::new(OnDisk {
        root: root.clone(),
        paths,
    });
    let mut tree = Tree::new(&root, "folder", entries, folders, store)?;
    for (links, why) in [
        (
            repeated,
            "lead to folders that are read anyway or that enclose the set",
        ),
        (dangling, "lead nowhere"),
    ] {
        if !links.is_empty() {
            let note = format!(
                "left out {} links that {why}: {}",
                links.len(),
                some_of(&links)
            );
            tree.notes.push(note);
        }
    }
    Ok(tree)
}

impl Walk {
    /// Walks the folder at `below` and, if `deep`, those in it that are no links.
    fn folder(&mut self, below: String, deep: bool) -> Result<(), DataError> {
        let mut waiting = vec![below];
        while let Some(below) = waiting.pop() {
            let folder = self.root.join(&below);
            let failed = |source| DataError::io("list", &folder, source);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else {
                    let reason = "its name is not UTF-8";
                    return Err(DataError::broken(&entry.path(), reason, "rename it"));
                };
                if is_litter(name) {
                    continue;
                }
                let path = match below.as_str() {
                    "" => name.to_owned(),
                    below => format!("{below}/{name}"),
                };
                let is_link = entry.file_type().map_err(failed)?.is_symlink();
                let Ok(data) = fs::metadata(entry.path()) else {
                    self.dangling.push(path);
                    continue;
                };
                if data.is_file() {
                    self.file(path, &data);
                } else if data.is_dir() && deep {
                    match is_link {
                        true => self.links.push(path),
                        false if self.enter(&path)? => waiting.push(path),
                        false => self.repeated.push(path),
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a folder that is about to be walked; false where it was walked under another name.
    fn enter(&mut self, path: &str) -> Result<bool, DataError> {
        let full = self.root.join(path);
        let real =
            fs::canonicalize(&full).map_err(|source| DataError::io("open", &full, source))?;
        let new = self.real.insert(real);
        if new {
            self.folders.push(path.to_owned());
        }
        Ok(new)
    }

    fn file(&mut self, path: String, data: &fs::Metadata) {
        let age = data.modified().ok();
        let age = age.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.entries.push(Entry {
            name: path.clone(),
            len: data.len(),
            stamp: age.map_or(0, |age| age.as_nanos()),
            at: self.paths.len(),
        });
        self.paths.push(path);
    }
}
