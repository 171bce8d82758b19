//! One process at a time in a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The record of a folder's holder, on file systems without locks.
const RECORD: &str = ".lowbit-held";

/// A folder that no other process takes for as long as this value lives.
///
/// Where the file system locks, the lock goes with the process, however that ends. Where it does not (Lustre mounted without `flock`),
/// a file `.lowbit-held` in the folder names process and host; that of a process of this host which is gone is taken over.
#[derive(Debug)]
pub struct Hold {
    _lock: Option<File>,
    record: Option<PathBuf>,
}

/// Why a folder cannot be held.
#[derive(Debug)]
pub enum Held {
    /// A process has the lock.
    Locked,
    /// A file says that a process holds it.
    Recorded {
        /// That file.
        record: PathBuf,
        /// The process and its host, as it wrote them.
        holder: String,
    },
}

impl Hold {
    /// Holds a folder that is there. Where nothing can be written into it either, nothing is held, and what is written there will say
    /// why.
    ///
    /// # Errors
    /// [`Held`] if another process holds it.
    pub fn take(folder: &Path) -> Result<Self, Held> {
        // Not every system lets a folder be opened.
        let lock = File::open(folder).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
        match lock {
            Ok(Some(file)) => Ok(Self {
                _lock: Some(file),
                record: None,
            }),
            Ok(None) => Err(Held::Locked),
            Err(_) => Self::recorded(folder),
        }
    }

    fn recorded(folder: &Path) -> Result<Self, Held> {
        let record = folder.join(RECORD);
        let this = format!("process {} on {}", std::process::id(), host());
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&record)?;
            file.write_all(this.as_bytes())
        };
        let mut wrote = write();
        if is_taken(&wrote) {
            let holder = fs::read_to_string(&record).unwrap_or_default();
            if !is_gone(&holder) {
                return Err(Held::Recorded { record, holder });
            }
            let _ = fs::remove_file(&record);
            wrote = write();
        }
        match is_taken(&wrote) {
            // Somebody else took it over.
            true => Err(Held::Recorded {
                holder: fs::read_to_string(&record).unwrap_or_default(),
                record,
            }),
            false => Ok(Self {
                _lock: None,
                record: wrote.is_ok().then_some(record),
            }),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(record) = &self.record {
            let _ = fs::remove_file(record);
        }
    }
}

fn is_taken(wrote: &io::Result<()>) -> bool {
    matches!(wrote, Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Whether a record's process ran on this host, and does so no longer. Elsewhere nobody here can tell.
fn is_gone(holder: &str) -> bool {
    let Some((process, host)) = holder
        .strip_prefix("process ")
        .and_then(|rest| rest.split_once(" on "))
    else {
        return false;
    };
    let here = self::host();
    !here.is_empty()
        && host == here
        && process.parse::<u32>().is_ok()
        && !Path::new("/proc").join(process).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once() {
        let folder = tempfile::tempdir().unwrap();
        let held = Hold::take(folder.path()).unwrap();
        assert!(matches!(Hold::take(folder.path()), Err(Held::Locked)));
        drop(held);
        Hold::take(folder.path()).unwrap();
    }

    #[test]
    fn without_locks_a_record_holds_it_until_its_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join(RECORD);
        let held = Hold::recorded(folder.path()).unwrap();
        let Err(Held::Recorded { holder, .. }) = Hold::recorded(folder.path()) else {
            panic!("held twice");
        };
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())));
        drop(held);
        assert!(!record.exists());
        // Of another host, or unreadable: nobody here can tell.
        for kept in ["process 1 on another", "", "process x on", "nonsense"] {
            fs::write(&record, kept).unwrap();
            assert!(Hold::recorded(folder.path()).is_err(), "{kept}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_locks_what_a_killed_process_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = child.id();
        child.wait().unwrap();
        let record = folder.path().join(RECORD);
        fs::write(&record, format!("process {process} on {}", host())).unwrap();
        let held = Hold::recorded(folder.path()).unwrap();
        let now = fs::read_to_string(&record).unwrap();
        assert!(now.starts_with(&format!("process {} ", std::process::id())));
        drop(held);
        assert!(!record.exists());
    }
}
