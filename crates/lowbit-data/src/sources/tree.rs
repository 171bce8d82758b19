//! Files below one root, whether it is a folder, a zip or a tar.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::error::some_of;
use crate::layout::normal;

/// The largest image file accepted; what a file claims beyond is not allocated for.
pub(crate) const MAX_IMAGE_BYTES: u64 = 1 << 28;
/// The most folders within each other; deeper ones are no data set.
const MAX_DEPTH: usize = 64;

/// One file of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its path below the root, as [`normal`] makes it.
    pub(crate) name: String,
    pub(crate) len: u64,
    /// Changes whenever the content does: a checksum, or the time of the last change.
    pub(crate) stamp: u128,
    /// Where the store has it.
    pub(crate) at: usize,
}

/// Where the files' bytes lie.
pub(crate) trait Store: Send + Sync {
    /// At most `limit` bytes of the file at `at`, which is called `name`.
    fn read(&self, at: usize, name: &str, limit: u64) -> Result<Cow<'_, [u8]>, DataError>;
}

/// The files below a root, in the order of their names, without what systems leave behind.
pub(crate) struct Tree {
    pub(crate) path: PathBuf,
    /// "folder", "zip" or "tar".
    pub(crate) kind: &'static str,
    pub(crate) entries: Vec<Entry>,
    pub(crate) folders: Vec<String>,
    /// What was not looked into, and why.
    pub(crate) notes: Vec<String>,
    pub(crate) store: Box<dyn Store>,
}

impl Tree {
    pub(crate) fn new(
        path: &Path,
        kind: &'static str,
        mut entries: Vec<Entry>,
        folders: Vec<String>,
        store: Box<dyn Store>,
    ) -> Result<Self, DataError> {
        for entry in &mut entries {
            entry.name = normal(&entry.name);
        }
        let mut folders: Vec<String> = folders.iter().map(|folder| normal(folder)).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        folders.sort_unstable();
        folders.dedup();
        let names = entries.iter().map(|entry| &entry.name).chain(&folders);
        if let Some(deep) = names
            .into_iter()
            .find(|name| name.split('/').count() > MAX_DEPTH)
        {
            let start: String = deep.chars().take(80).collect();
            let reason = format!("{start}… lies in more than {MAX_DEPTH} folders");
            return Err(DataError::broken(
                path,
                reason,
                "pack the images in fewer folders",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            kind,
            entries,
            folders,
            notes: Vec::new(),
            store,
        })
    }

    /// The bytes of a file; one of more than `limit` bytes is refused.
    pub(crate) fn read(&self, entry: &Entry, limit: u64) -> Result<Cow<'_, [u8]>, DataError> {
        let too_long = || {
            let reason = format!("{} has more than {limit} bytes", entry.name);
            DataError::broken(
                &self.path,
                reason,
                "that is no file of this kind; remove it",
            )
        };
        if entry.len > limit {
            return Err(too_long());
        }
        let bytes = self
            .store
            .read(entry.at, &entry.name, limit.saturating_add(1))?;
        match bytes.len() as u64 > limit {
            true => Err(too_long()),
            false => Ok(bytes),
        }
    }

    /// The folders that hold a file whose name `wanted` takes, with those files.
    pub(crate) fn folders_with(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> BTreeMap<&str, Vec<&Entry>> {
        let mut found: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.entries {
            let (folder, name) = entry.folder_and_name();
            if wanted(name) {
                found.entry(folder).or_default().push(entry);
            }
        }
        found
    }

    /// Where `folder`, a path below the root, lies; for messages.
    pub(crate) fn full_path(&self, below: &str) -> PathBuf {
        match below {
            "" => self.path.clone(),
            below => self.path.join(below),
        }
    }

    /// Says which files, of a kind that is not read, the tree holds: "3 .heic, 1 .svg".
    pub(crate) fn kinds_of(&self, taken: impl Fn(&Entry) -> bool) -> Option<String> {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| !taken(entry)) {
            let (_, name) = entry.folder_and_name();
            let kind = match name.rsplit_once('.') {
                Some((_, extension)) => format!(".{}", extension.to_lowercase()),
                None => "without an extension".into(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let mut kinds: Vec<(String, usize)> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let said = kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
        (!kinds.is_empty()).then(|| some_of(said))
    }
}

impl Entry {
    /// The path of its folder below the root, and its own name.
    pub(crate) fn folder_and_name(&self) -> (&str, &str) {
        self.name.rsplit_once('/').unwrap_or(("", &self.name))
    }
}

/// Reads all of `reader`, at most `limit` bytes; memory grows with what is really there.
pub(crate) fn read_all(reader: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
