//! One process at a time in a folder.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The record of the process that has a folder, on file systems without locks: a line that says so, and the system's name of the
/// processes among which its number counts.
const RECORD: &str = ".lowbit-held";

/// A folder that no other process takes for as long as this value lives.
///
/// Where the file system locks, the lock goes with the process, however that ends. Where it does not (Lustre mounted without `flock`),
/// a file `.lowbit-held` in the folder names process and host; that of a process of this host which is gone is taken over.
#[derive(Debug)]
pub struct FolderLock {
    _lock: Option<File>,
    record: Option<PathBuf>,
}

/// Another process has the folder.
#[derive(Debug)]
pub struct FolderTaken {
    /// Its record, and what that says, where the file system has no locks.
    record: Option<(PathBuf, String)>,
}

impl fmt::Display for FolderTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another lowbit is writing here")?;
        let Some((record, text)) = &self.record else {
            return Ok(());
        };
        let process = text.lines().next().unwrap_or("nobody");
        let record = record.display();
        write!(
            f,
            " ({process}, says {record}: remove that file if it runs no longer)"
        )
    }
}

impl Error for FolderTaken {}

impl FolderLock {
    /// Takes a folder that is there. Where nothing can be written into it, nothing is taken: whoever writes there will be told.
    ///
    /// # Errors
    /// [`FolderTaken`] if another process has it.
    pub fn take(folder: &Path) -> Result<Self, FolderTaken> {
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
            Ok(None) => Err(FolderTaken { record: None }),
            Err(_) => Self::recorded(folder),
        }
    }

    fn recorded(folder: &Path) -> Result<Self, FolderTaken> {
        let record = folder.join(RECORD);
        let mut wrote = write_new(&record);
        if is_taken(&wrote) && take_away(&record) {
            wrote = write_new(&record);
        }
        if is_taken(&wrote) {
            let text = fs::read_to_string(&record).unwrap_or_default();
            return Err(FolderTaken {
                record: Some((record, text)),
            });
        }
        Ok(Self {
            _lock: None,
            record: wrote.is_ok().then_some(record),
        })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Some(record) = &self.record {
            let _ = fs::remove_file(record);
        }
    }
}

fn write_new(record: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(record);
    let text = format!("process {} on {}", std::process::id(), here());
    file?.write_all(text.as_bytes())
}

fn is_taken(wrote: &io::Result<()>) -> bool {
    matches!(wrote, Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
}

/// Takes away the record of a process that is gone. It is looked at under a name of our own: another process may have taken it
/// over in the meantime, whose record is put back.
fn take_away(record: &Path) -> bool {
    if !fs::read_to_string(record).is_ok_and(|text| is_gone(&text)) {
        return false;
    }
    let aside = record.with_file_name(format!("{RECORD}.{}", std::process::id()));
    if fs::rename(record, &aside).is_err() {
        // Another process was faster.
        return true;
    }
    let was_gone = fs::read_to_string(&aside).is_ok_and(|text| is_gone(&text));
    if !was_gone {
        let _ = fs::hard_link(&aside, record);
    }
    let _ = fs::remove_file(&aside);
    was_gone
}

/// This host, and the processes among which numbers count: containers of one host may share its name and number their own.
fn here() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let numbers = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{}\n{}", host.trim(), numbers.display())
}

/// Whether a record's process ran here, and does so no longer. Of another place nobody here can tell.
fn is_gone(record: &str) -> bool {
    let process = record.strip_prefix("process ");
    let Some((process, place)) = process.and_then(|rest| rest.split_once(" on ")) else {
        return false;
    };
    let knows = !place.starts_with('\n') && !place.ends_with('\n');
    knows
        && place == here()
        && process.parse::<u32>().is_ok()
        && !Path::new("/proc").join(process).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let taken = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "another lowbit is writing here");
        drop(taken);
        FolderLock::take(folder.path()).unwrap();
    }

    #[test]
    fn without_locks_a_record_stands_until_its_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join(RECORD);
        let taken = FolderLock::recorded(folder.path()).unwrap();
        let error = FolderLock::recorded(folder.path()).unwrap_err().to_string();
        let process = format!("writing here (process {} on ", std::process::id());
        assert!(error.contains(&process) && !error.contains('\n'), "{error}");
        drop(taken);
        assert!(!record.exists());
        // Of another host, of another container, or unreadable: nobody here can tell.
        let gone = u32::MAX;
        let host = here().lines().next().unwrap_or_default().to_owned();
        for kept in [
            format!("process {gone} on another\npid:[1]"),
            format!("process {gone} on {host}\npid:[1]"),
            format!("process {gone} on {host}"),
            String::new(),
            format!("process x on {}", here()),
            "nonsense".into(),
        ] {
            fs::write(&record, &kept).unwrap();
            assert!(FolderLock::recorded(folder.path()).is_err(), "{kept}");
            assert_eq!(fs::read_to_string(&record).unwrap(), kept);
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
        fs::write(&record, format!("process {process} on {}", here())).unwrap();
        let taken = FolderLock::recorded(folder.path()).unwrap();
        let now = fs::read_to_string(&record).unwrap();
        assert!(now.starts_with(&format!("process {} ", std::process::id())));
        drop(taken);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
