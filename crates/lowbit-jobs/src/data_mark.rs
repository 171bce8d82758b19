//! By what a node recognizes the data that were submitted.

use crate::JobError;
use crate::files::host;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a file's beginning and of its end that are read.
const EDGE: u64 = 1 << 16;

/// A data path with the number and size of its files and a checksum over their names, sizes, beginnings and ends.
///
/// It tells other or truncated data within a moment whatever their size; bytes changed in the middle of a file of the same
/// size it does not see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataMark {
    /// The file or folder.
    pub path: PathBuf,
    /// Number of files.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// CRC-32 over names, sizes and 64 KiB of both ends of each file.
    pub crc32: u32,
}

impl DataMark {
    /// Looks at the data.
    ///
    /// # Errors
    /// [`JobError::Data`] when they cannot be seen from this machine.
    pub fn of(path: &Path) -> Result<Self, JobError> {
        let wrong = |reason: String| JobError::Data {
            path: path.to_owned(),
            host: host(),
            reason,
        };
        let mut files = Vec::new();
        list(path, &mut Vec::new(), &mut files)
            .map_err(|error| wrong(format!("cannot see the data: {error}")))?;
        if files.is_empty() {
            return Err(wrong("there is no file in it".into()));
        }
        files.sort();
        let mut hasher = crc32fast::Hasher::new();
        let mut bytes = 0;
        for file in &files {
            let name = file.strip_prefix(path).unwrap_or(file);
            hasher.update(name.as_os_str().as_encoded_bytes());
            bytes += edges(file, &mut hasher)
                .map_err(|error| wrong(format!("cannot read {}: {error}", file.display())))?;
        }
        Ok(Self {
            path: path.to_owned(),
            files: files.len() as u64,
            bytes,
            crc32: hasher.finalize(),
        })
    }

    /// Checks that this machine sees the same data.
    ///
    /// # Errors
    /// [`JobError::Data`] saying what differs.
    pub fn check(&self) -> Result<(), JobError> {
        let found = Self::of(&self.path)?;
        if found == *self {
            return Ok(());
        }
        Err(JobError::Data {
            path: self.path.clone(),
            host: host(),
            reason: format!(
                "this is not what was submitted: expected {} files, {} bytes, checksum {:08x}; found {}, {}, {:08x}",
                self.files, self.bytes, self.crc32, found.files, found.bytes, found.crc32
            ),
        })
    }
}

/// The files below `path`, links followed, without hidden ones. `open` are the folders that it lies in: a link to one of them
/// would lead around for ever.
fn list(path: &Path, open: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let found = std::fs::metadata(path)?;
    if !found.is_dir() {
        // Who opened a pipe would wait.
        if found.is_file() {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    let real = std::fs::canonicalize(path)?;
    if open.contains(&real) {
        return Ok(());
    }
    open.push(real);
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A link that leads nowhere is no file.
        if !hidden && entry.path().exists() {
            list(&entry.path(), open, files)?;
        }
    }
    open.pop();
    Ok(())
}

/// Hashes the size and both ends of a file and returns its size.
fn edges(path: &Path, hasher: &mut crc32fast::Hasher) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    hasher.update(&size.to_le_bytes());
    let mut part = Vec::new();
    (&mut file).take(EDGE).read_to_end(&mut part)?;
    hasher.update(&part);
    if size > EDGE {
        file.seek(SeekFrom::Start(EDGE.max(size - EDGE)))?;
        part.clear();
        file.take(EDGE).read_to_end(&mut part)?;
        hasher.update(&part);
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_data_at_the_same_path_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photos");
        std::fs::create_dir_all(path.join("cats")).unwrap();
        std::fs::write(path.join("cats/1.png"), vec![7; 200_000]).unwrap();
        std::fs::write(path.join("cats/2.png"), "two").unwrap();
        let mark = DataMark::of(&path).unwrap();
        assert_eq!((mark.files, mark.bytes), (2, 200_003));
        mark.check().unwrap();
        let mut changed = vec![7; 200_000];
        changed[199_990] = 8;
        std::fs::write(path.join("cats/1.png"), changed).unwrap();
        let error = mark.check().unwrap_err().to_string();
        assert!(error.contains("not what was submitted"), "{error}");
        std::fs::write(path.join("cats/1.png"), vec![7; 200_000]).unwrap();
        mark.check().unwrap();
        std::fs::rename(path.join("cats/2.png"), path.join("cats/3.png")).unwrap();
        assert!(mark.check().is_err());
        std::fs::remove_dir_all(&path).unwrap();
        let error = mark.check().unwrap_err().to_string();
        assert!(
            error.contains("photos: cannot see the data") && error.contains(&host()),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }

    #[test]
    #[cfg(unix)]
    fn linked_folders_are_data_and_hidden_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (real, linked) = (folder.path().join("real"), folder.path().join("linked"));
        std::fs::create_dir_all(&real).unwrap();
        std::fs::create_dir_all(&linked).unwrap();
        assert!(
            DataMark::of(&linked)
                .unwrap_err()
                .to_string()
                .contains("no file in it")
        );
        std::fs::write(real.join("1.png"), "one").unwrap();
        std::os::unix::fs::symlink(&real, linked.join("cats")).unwrap();
        std::os::unix::fs::symlink(&linked, real.join("around")).unwrap();
        std::os::unix::fs::symlink("nowhere", linked.join("gone")).unwrap();
        let mark = DataMark::of(&linked).unwrap();
        assert_eq!((mark.files, mark.bytes), (1, 3));
        std::fs::write(linked.join(".DS_Store"), "left behind").unwrap();
        mark.check().unwrap();
        std::fs::write(real.join("2.png"), "two").unwrap();
        assert!(mark.check().is_err());
    }
}
