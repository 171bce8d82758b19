//! The files of a `.tar`, plain or packed with gzip.
//!
//! A plain one is read in place. A packed one can only be read from its beginning: its files are kept in memory, as their
//! images will be anyway.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ::tar::Archive;
use flate2::read::MultiGzDecoder;

use super::tree::{Entry, Store, Tree};
use super::zip::SharedFile;
use crate::DataError;
use crate::layout::is_litter;

/// The most that a packed archive may unpack to; more does not belong into memory.
const MAX_UNPACKED_BYTES: u64 = 1 << 33;

const REMEDY: &str = "fetch it again, or unpack it and name the folder";

/// Whether a file begins as a tar does, or, unpacked, as a tar would.
pub(crate) fn is_tar(path: &Path, head: &[u8]) -> bool {
    let says = |head: &[u8]| head.get(257..262) == Some(b"ustar");
    if head.starts_with(&[0x1F, 0x8B]) {
        let mut first = [0; 262];
        return File::open(path)
            .and_then(|file| MultiGzDecoder::new(BufReader::new(file)).read_exact(&mut first))
            .is_ok_and(|()| says(&first));
    }
    says(head)
}

/// Whether a file's name says that it is a tar, packed or not.
pub(crate) fn is_tar_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// A plain archive: where each file lies in it.
struct InPlace {
    path: PathBuf,
    file: SharedFile,
    places: Vec<Range<u64>>,
}

impl Store for InPlace {
    fn read(&self, at: usize, _: &str, limit: u64) -> Result<Cow<'_, [u8]>, DataError> {
        let place = &self.places[at];
        let len = (place.end - place.start).min(limit);
        self.file
            .range(place.start, len)
            .map(Cow::Owned)
            .map_err(|source| DataError::io("read", &self.path, source))
    }
}

/// A packed archive, unpacked: where each file lies in `bytes`.
struct InMemory {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Store for InMemory {
    fn read(&self, at: usize, _: &str, limit: u64) -> Result<Cow<'_, [u8]>, DataError> {
        let bytes = &self.bytes[self.places[at].clone()];
        let len = usize::try_from(limit).map_or(bytes.len(), |limit| bytes.len().min(limit));
        Ok(Cow::Borrowed(&bytes[..len]))
    }
}

/// What the headers of an archive say.
#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    folders: Vec<String>,
}

impl Found {
    /// Takes in the next file or folder; whether it is a file whose content is wanted.
    fn take(&mut self, entry: &::tar::Entry<impl Read>) -> io::Result<bool> {
        let name = entry.path_bytes();
        let name = std::str::from_utf8(&name)
            .map_err(|_| io::Error::other("a name in it is not UTF-8"))?
            .replace('\\', "/");
        if is_litter(name.trim_start_matches("./")) {
            return Ok(false);
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            self.folders.push(name);
            return Ok(false);
        }
        if !(kind.is_file() || kind.is_contiguous()) {
            return Ok(false);
        }
        self.entries.push(Entry {
            name,
            len: entry.size(),
            stamp: entry.header().mtime().unwrap_or(0).into(),
            at: self.entries.len(),
        });
        Ok(true)
    }
}

pub(crate) fn open(path: &Path) -> Result<Tree, DataError> {
    let failed = |source| DataError::io("open", path, source);
    let mut head = [0; 2];
    let mut file = File::open(path).map_err(failed)?;
    let packed = file.read_exact(&mut head).is_ok() && head == [0x1F, 0x8B];
    let file = File::open(path).map_err(failed)?;
    let opened = match packed {
        true => in_memory(file),
        false => in_place(path, file),
    };
    let (found, store) = opened.map_err(|error| {
        DataError::broken(path, format!("not a whole tar archive ({error})"), REMEDY)
    })?;
    Tree::new(path, "tar", found.entries, found.folders, store)
}

fn in_place(path: &Path, file: File) -> io::Result<(Found, Box<dyn Store>)> {
    let shared = SharedFile::new(file)?;
    let mut archive = Archive::new(shared.clone());
    let (mut found, mut places) = (Found::default(), Vec::new());
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if found.take(&entry)? {
            let start = entry.raw_file_position();
            let end = start
                .checked_add(entry.size())
                .filter(|&end| end <= shared.len());
            places.push(start..end.ok_or_else(|| io::Error::other("it ends within a file"))?);
        }
    }
    let path = path.to_owned();
    let file = shared;
    Ok((found, Box::new(InPlace { path, file, places })))
}

fn in_memory(file: File) -> io::Result<(Found, Box<dyn Store>)> {
    let unpacked = MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file));
    let mut archive = Archive::new(unpacked.take(MAX_UNPACKED_BYTES));
    let (mut found, mut places, mut bytes) = (Found::default(), Vec::new(), Vec::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        if found.take(&entry)? {
            let start = bytes.len();
            entry.read_to_end(&mut bytes)?;
            if (bytes.len() - start) as u64 != entry.size() {
                return Err(io::Error::other("it ends within a file"));
            }
            places.push(start..bytes.len());
        }
    }
    // The checksum at the end is only looked at by whom reads as far.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    if rest.limit() == 0 {
        return Err(io::Error::other("it unpacks to more than 8 GiB"));
    }
    Ok((found, Box::new(InMemory { bytes, places })))
}
