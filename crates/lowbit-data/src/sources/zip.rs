//! The files of a `.zip`, read in place.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::zip::ZipArchive;

use super::tree::{Entry, Store, Tree, read_all};
use crate::DataError;
use crate::layout::is_litter;

const REMEDY: &str = "fetch it again, or pack it anew with deflate and no password";

struct Archive {
    path: PathBuf,
    archive: ZipArchive<SharedFile>,
}

impl Store for Archive {
    fn read(&self, at: usize, name: &str, limit: u64) -> Result<Cow<'_, [u8]>, DataError> {
        let broken = |error: &dyn std::fmt::Display| {
            DataError::broken(&self.path, format!("entry {name}: {error}"), REMEDY)
        };
        // A clone shares the directory and the file, and has its own position.
        let mut archive = self.archive.clone();
        let mut entry = archive.by_index(at).map_err(|error| broken(&error))?;
        read_all(&mut entry, limit)
            .map(Cow::Owned)
            .map_err(|error| broken(&error))
    }
}

pub(crate) fn open(path: &Path) -> Result<Tree, DataError> {
    let file = File::open(path).map_err(|source| DataError::io("open", path, source))?;
    let shared = SharedFile::new(file).map_err(|source| DataError::io("read", path, source))?;
    let broken = |error: &dyn std::fmt::Display| {
        DataError::broken(path, format!("not a whole zip archive ({error})"), REMEDY)
    };
    let mut archive = ZipArchive::new(shared).map_err(|error| broken(&error))?;
    let (mut entries, mut folders) = (Vec::new(), Vec::new());
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at).map_err(|error| broken(&error))?;
        let name = entry.name().map_err(|error| broken(&error))?;
        // Some Windows programs pack with the other slash.
        let name = name.replace('\\', "/");
        let own = name.trim_start_matches("./");
        if is_litter(own) {
            continue;
        }
        if entry.is_dir() {
            folders.push(own.to_owned());
        } else {
            entries.push(Entry {
                len: entry.size(),
                stamp: entry.crc32().into(),
                at,
                name,
            });
        }
    }
    let store = Box::new(Archive {
        path: path.to_owned(),
        archive,
    });
    Tree::new(path, "zip", entries, folders, store)
}

/// One open file read from many threads, each reader at its own position.
#[derive(Clone)]
pub(crate) struct SharedFile {
    file: Arc<File>,
    position: u64,
    len: u64,
}

impl SharedFile {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            len: file.metadata()?.len(),
            file: Arc::new(file),
            position: 0,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// `len` bytes from `start`, whatever this reader's position.
    pub(crate) fn range(&self, start: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut reader = self.clone();
        reader.position = start;
        let bytes = read_all(reader, len)?;
        match bytes.len() as u64 == len {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
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
