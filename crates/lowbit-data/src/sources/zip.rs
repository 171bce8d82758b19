//! Class folders in a `.zip`, read in place.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::zip::ZipArchive;

use crate::assemble::{Fetch, Listing, assemble};
use crate::fingerprint::Fingerprint;
use crate::layout::{arrange, is_image, is_litter};
use crate::{DataError, Dataset, LoadOptions};

/// The largest image file accepted; what an entry claims beyond is not allocated for.
const MAX_ENTRY_BYTES: u64 = 1 << 28;

const REMEDY: &str = "fetch it again, or pack it anew with deflate and no password";

struct Entries {
    path: PathBuf,
    archive: ZipArchive<SharedFile>,
    /// The archive's index and the name, by the listing's index.
    entries: Vec<(usize, String)>,
}

impl Fetch for Entries {
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let (at, name) = &self.entries[index];
        let broken = |error: &dyn std::fmt::Display| {
            DataError::broken(&self.path, format!("entry {name}: {error}"), REMEDY)
        };
        // A clone shares the directory and the file, and has its own position.
        let mut archive = self.archive.clone();
        let mut entry = archive.by_index(*at).map_err(|error| broken(&error))?;
        if entry.size() > MAX_ENTRY_BYTES {
            return Err(broken(&format!("{} bytes are too many", entry.size())));
        }
        let mut bytes = Vec::with_capacity((entry.size() as usize).min(1 << 20));
        let mut limited = (&mut entry).take(MAX_ENTRY_BYTES);
        limited
            .read_to_end(&mut bytes)
            .map_err(|error| broken(&error))?;
        Ok(Cow::Owned(bytes))
    }

    fn entry(&self, index: usize) -> String {
        self.entries[index].1.clone()
    }
}

pub(crate) fn load(path: &Path, name: &str, options: &LoadOptions) -> Result<Dataset, DataError> {
    let file = File::open(path).map_err(|source| DataError::io("open", path, source))?;
    let shared = SharedFile::new(file).map_err(|source| DataError::io("read", path, source))?;
    let broken = |error: &dyn std::fmt::Display| {
        DataError::broken(path, format!("not a whole zip archive ({error})"), REMEDY)
    };
    let mut archive = ZipArchive::new(shared).map_err(|error| broken(&error))?;
    let (mut files, mut folders, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|error| broken(&error))?;
        let name = entry.name().map_err(|error| broken(&error))?;
        // Some Windows programs pack with the other slash.
        let name = name.replace('\\', "/");
        if is_litter(&name) {
            continue;
        }
        if entry.is_dir() {
            folders.push(name.trim_end_matches('/').to_owned());
        } else if is_image(&name) {
            places.push((index, entry.crc32(), entry.size()));
            files.push(name);
        }
    }
    let layout = arrange(path, &files, &folders)?;
    let mut fingerprint = Fingerprint::new("zip");
    for image in &layout.images {
        let (_, crc, size) = places[image.index];
        fingerprint = fingerprint
            .text(&files[image.index])
            .number(crc.into())
            .number(size.into());
    }
    let entries: Vec<(usize, String)> = layout
        .images
        .iter()
        .map(|image| (places[image.index].0, files[image.index].clone()))
        .collect();
    let listing = Listing {
        path: path.to_owned(),
        name: name.to_owned(),
        source: format!("{} (zip, {} images)", path.display(), entries.len()),
        class_names: layout.class_names,
        labels: layout.images.iter().map(|image| image.label).collect(),
        parts: layout.images.iter().map(|image| image.part).collect(),
        fingerprint: fingerprint.finish(),
    };
    let path = path.to_owned();
    let fetch = Entries {
        path,
        archive,
        entries,
    };
    assemble(&listing, &fetch, options)
}

/// One open file read from many threads, each reader at its own position.
#[derive(Clone)]
struct SharedFile {
    file: Arc<File>,
    position: u64,
    len: u64,
}

impl SharedFile {
    fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            len: file.metadata()?.len(),
            file: Arc::new(file),
            position: 0,
        })
    }
}

impl Read for SharedFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(&*self.file, out, self.position)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(&*self.file, out, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position =
            target.ok_or_else(|| io::Error::other("a position before the file's beginning"))?;
        Ok(self.position)
    }
}
