//! A file of decoded images: its layout, and how it is written.
//!
//! Layout, little-endian: `LOWBIMG2`, fingerprint (16 bytes), images (u64), height, width, channels (u32 each), CRC-32 of
//! the pixels (u32), images with 16 bits and those stored turned (u32 each), then the pixels `[n, h, w, c]`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::decoded::Remarks;
use crate::listing::Shape;

const MAGIC: &[u8; 8] = b"LOWBIMG2";

/// What stands before the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fingerprint: [u8; 16],
    pub(crate) images: u64,
    pub(crate) shape: Shape,
    pub(crate) checksum: u32,
    pub(crate) remarks: Remarks,
}

impl Header {
    pub(crate) const LEN: usize = 8 + 16 + 8 + 4 * 6;

    /// The header of a file that begins with `bytes`; none where it is no such file.
    pub(crate) fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        (&bytes[..8] == MAGIC).then(|| Self {
            fingerprint: std::array::from_fn(|i| bytes[8 + i]),
            images: u64::from_le_bytes(std::array::from_fn(|i| bytes[24 + i])),
            shape: Shape {
                height: word(32) as usize,
                width: word(36) as usize,
                channels: word(40) as usize,
            },
            checksum: word(44),
            remarks: Remarks {
                deep: word(48),
                turned: word(52),
            },
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.fingerprint);
        bytes.extend(self.images.to_le_bytes());
        let Shape {
            height,
            width,
            channels,
        } = self.shape;
        for side in [height, width, channels] {
            bytes.extend((side as u32).to_le_bytes());
        }
        for word in [self.checksum, self.remarks.deep, self.remarks.turned] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// Bytes of an image and of the whole file; none where no file is so long.
    pub(crate) fn lengths(&self) -> Option<(u64, u64)> {
        let Shape {
            height,
            width,
            channels,
        } = self.shape;
        let image = [height, width, channels]
            .iter()
            .try_fold(1u64, |len, &side| len.checked_mul(side as u64))
            .filter(|&len| len > 0)?;
        let whole = image.checked_mul(self.images)?;
        Some((image, whole.checked_add(Self::LEN as u64)?))
    }
}

/// A file in the making. It has a temporary name, which goes with it unless it is kept, and is locked while it is written,
/// so that others know whether the process that wrote it lives.
pub(crate) struct NewFile {
    out: BufWriter<File>,
    temporary: PathBuf,
    hasher: crc32fast::Hasher,
}

impl NewFile {
    /// Begins a file that is to be kept as `path`, and removes what killed processes left beside it.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        remove_abandoned(folder);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)?;
        // Where files cannot be locked, nobody takes this one for abandoned.
        let _ = file.try_lock();
        let mut new = Self {
            out: BufWriter::with_capacity(1 << 20, file),
            temporary,
            hasher: crc32fast::Hasher::new(),
        };
        new.out.write_all(&[0; Header::LEN])?;
        Ok(new)
    }

    /// Appends the pixels of images.
    pub(crate) fn add(&mut self, images: &[u8]) -> io::Result<()> {
        self.hasher.update(images);
        self.out.write_all(images)
    }

    /// Gives the file its header, which gets the checksum, and its name; returns it for reading.
    pub(crate) fn keep(mut self, path: &Path, header: Header) -> io::Result<File> {
        let checksum = self.hasher.clone().finalize();
        self.out.flush()?;
        let file = self.out.get_mut();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&Header { checksum, ..header }.bytes())?;
        file.sync_all()?;
        let file = file.try_clone()?;
        let _ = file.unlock();
        remove_older(path);
        fs::rename(&self.temporary, path)?;
        Ok(file)
    }

    /// Returns the file for reading; it has no name, and goes with its last handle.
    pub(crate) fn nameless(mut self) -> io::Result<File> {
        self.out.flush()?;
        self.out.get_ref().try_clone()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // A file that was kept no longer has this name.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Removes files that processes were writing when they were killed.
fn remove_abandoned(folder: &Path) {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".tmp"))
            .and_then(|name| name.rsplit_once('.')?.1.split_once('-'))
            .is_some_and(|(process, number)| is_digits(process) && is_digits(number));
        if is_ours && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Removes what was kept of the same path and size before its images changed.
fn remove_older(path: &Path) {
    let kin = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".images")?;
        Some(name.rsplit_once('-')?.0.to_owned())
    };
    let (Some(folder), Some(own)) = (path.parent(), kin(path)) else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let other = entry.path();
        if other != path && kin(&other).as_ref() == Some(&own) {
            let _ = fs::remove_file(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            fingerprint: [7; 16],
            images: 2,
            shape: Shape {
                height: 1,
                width: 2,
                channels: 3,
            },
            checksum: 0,
            remarks: Remarks { deep: 1, turned: 2 },
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("lists").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect()
    }

    #[test]
    fn a_kept_file_says_what_it_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a-1.images");
        let mut new = NewFile::create(&path).expect("begins");
        new.add(&[1; 6])
            .and_then(|()| new.add(&[2; 6]))
            .expect("writes");
        new.keep(&path, header()).expect("keeps");
        let bytes = fs::read(&path).expect("is there");
        let (head, pixels) = bytes.split_at(Header::LEN);
        let found = Header::parse(head.try_into().expect("whole")).expect("a header");
        let checksum = crc32fast::hash(pixels);
        assert_eq!(
            found,
            Header {
                checksum,
                ..header()
            }
        );
        assert_eq!(found.lengths(), Some((6, bytes.len() as u64)));
        assert_eq!(names(folder.path()), ["a-1.images"]);
    }

    #[test]
    fn what_a_killed_process_left_goes_and_what_a_living_one_writes_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a-1.77-0.tmp", "mine.tmp", "mine.a-1.tmp"] {
            fs::write(folder.path().join(name), "x").expect("writes");
        }
        let path = folder.path().join("b-1.images");
        let living = NewFile::create(&path).expect("begins");
        drop(NewFile::create(&path).expect("begins"));
        let mut left = names(folder.path());
        left.sort();
        let own = living.temporary.file_name().expect("a name").to_str();
        assert_eq!(left, [own.expect("text"), "mine.a-1.tmp", "mine.tmp"]);
        assert!(living.nameless().is_ok());
        assert_eq!(names(folder.path()).len(), 2);
    }
}
