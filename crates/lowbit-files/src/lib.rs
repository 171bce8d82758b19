//! Writing a file so that it is either whole or not there, and so that nothing is left of a writer that was killed; and a folder
//! for one process at a time.
//!
//! The bytes go to a draft beside the file's place, are flushed to the disk, and take the place by a rename. On Linux the
//! draft has no name until it is whole, so that it vanishes with its process; elsewhere, and on file systems that cannot do
//! that, it is called `.NAME.<process>-<number>.tmp`. A draft is locked as long as its process lives: whoever writes the same
//! file removes the drafts that nobody holds any longer. A link to a file stays a link: what it leads to is replaced. What is no file (a
//! pipe, a terminal, `/dev/null`) is written to and stays what it is.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

mod folder_lock;

pub use folder_lock::{FolderLock, FolderTaken};

/// Writes `bytes` beside `path`, flushes them to the disk and puts them into its place; into `path` itself where a pipe or a
/// device stands there.
///
/// # Errors
/// The system's reason; nothing is left behind, and an older file under `path` is as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(mut stream) = stream(path)? {
        return stream.write_all(bytes);
    }
    // Otherwise the rename would replace the link.
    let target = fs::canonicalize(path);
    let path = target.as_deref().unwrap_or(path);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = folder_of(path);
    clear_abandoned(folder, name);
    let mut draft = Draft::create(folder, name)?;
    draft.file.write_all(bytes)?;
    draft.file.sync_all()?;
    draft.publish(path)?;
    // So that the name outlives a power cut too. Not every system lets a folder be flushed; the file is whole anyway.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// What stands under `path`, open for writing, where that is no file and no folder: it must not be replaced by one.
fn stream(path: &Path) -> io::Result<Option<File>> {
    // Of a stream that leads into a file others have the rest: they would lose it with the file.
    let is_own = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"];
    if is_own.iter().any(|own| path.starts_with(own)) {
        return OpenOptions::new().append(true).open(path).map(Some);
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            OpenOptions::new().write(true).open(path).map(Some)
        }
        _ => Ok(None),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Where Linux shows a process its open files.
#[cfg(target_os = "linux")]
const OWN_FILES: &str = "/proc/self/fd";

/// A file that is being written.
struct Draft {
    file: File,
    /// Where it stands, once it has a name.
    place: Option<PathBuf>,
}

impl Draft {
    fn create(folder: &Path, name: &OsStr) -> io::Result<Self> {
        match Self::nameless(folder) {
            Some(draft) => Ok(draft),
            None => Self::with_name(folder, name),
        }
    }

    /// A file without a name, where the system has such.
    #[cfg(target_os = "linux")]
    fn nameless(folder: &Path) -> Option<Self> {
        use rustix::fs::{Mode, OFlags};
        // Without it the file could not be given its name.
        if !Path::new(OWN_FILES).exists() {
            return None;
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666)).ok()?;
        let draft = Self {
            file: File::from(file),
            place: None,
        };
        // Locked already when its name appears.
        draft.file.lock().ok()?;
        Some(draft)
    }

    #[cfg(not(target_os = "linux"))]
    fn nameless(_: &Path) -> Option<Self> {
        None
    }

    fn with_name(folder: &Path, name: &OsStr) -> io::Result<Self> {
        loop {
            let place = folder.join(draft_name(name));
            let file = match OpenOptions::new().write(true).create_new(true).open(&place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            let draft = Self {
                file,
                place: Some(place.clone()),
            };
            // Where nothing can be locked, nothing is cleared either.
            let _ = draft.file.lock();
            // Before it was locked somebody may have taken it for abandoned.
            if place.exists() {
                return Ok(draft);
            }
        }
    }

    /// Takes the place of `path`.
    fn publish(mut self, path: &Path) -> io::Result<()> {
        let place = match &self.place {
            Some(place) => place.clone(),
            None => self.link(path)?,
        };
        self.place = Some(place.clone());
        fs::rename(&place, path)?;
        self.place = None;
        Ok(())
    }

    /// Gives a nameless file a name beside `path`: only a rename can put it into a place that is taken.
    #[cfg(target_os = "linux")]
    fn link(&self, path: &Path) -> io::Result<PathBuf> {
        use rustix::fs::{AtFlags, CWD};
        use std::os::fd::AsRawFd;
        let nameless = format!("{OWN_FILES}/{}", self.file.as_raw_fd());
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        loop {
            let place = path.with_file_name(draft_name(name));
            match rustix::fs::linkat(CWD, &nameless, CWD, &place, AtFlags::SYMLINK_FOLLOW) {
                Err(rustix::io::Errno::EXIST) => continue,
                linked => linked?,
            }
            return Ok(place);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn link(&self, _: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            // The error that matters is the one that brought us here.
            let _ = fs::remove_file(place);
        }
    }
}

fn draft_name(name: &OsStr) -> OsString {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}-{number}.tmp", std::process::id()));
    draft
}

/// Removes drafts of the file `name` that no process holds.
fn clear_abandoned(folder: &Path, name: &OsStr) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_draft_of(&entry.file_name(), name) {
            continue;
        }
        let place = entry.path();
        if let Ok(file) = OpenOptions::new().write(true).open(&place)
            && file.try_lock().is_ok()
        {
            // Another process may clear it as well; gone is gone.
            let _ = fs::remove_file(&place);
        }
    }
}

/// Whether `draft` is `.NAME.<digits and dashes>.tmp`, which earlier versions wrote too.
fn is_draft_of(draft: &OsStr, name: &OsStr) -> bool {
    let middle = draft
        .as_encoded_bytes()
        .strip_prefix(b".")
        .and_then(|rest| rest.strip_prefix(name.as_encoded_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(b".tmp"));
    middle.is_some_and(|middle| {
        !middle.is_empty() && middle.iter().all(|&x| x.is_ascii_digit() || x == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_what_was_there_and_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "x").unwrap();
        write_atomically(&path, b"new").unwrap_err();
        assert!(path.join("inside").exists());
        assert_eq!(names(folder.path()), ["taken"], "no draft stays");
    }

    #[test]
    fn a_write_replaces_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        write_atomically(&at("link"), b"new").unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["file", "link"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_stays() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_atomically(&pipe, b"whole").unwrap();
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(reader.join().unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["pipe"]);
    }

    #[test]
    fn a_draft_with_a_name_becomes_the_file_or_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let draft = |name: &str| Draft::with_name(folder.path(), OsStr::new(name)).unwrap();
        let mut kept = draft("kept");
        kept.file.write_all(b"whole").unwrap();
        kept.publish(&folder.path().join("kept")).unwrap();
        drop(draft("dropped"));
        assert_eq!(names(folder.path()), ["kept"]);
        assert_eq!(fs::read(folder.path().join("kept")).unwrap(), b"whole");
    }

    #[test]
    fn abandoned_drafts_are_cleared_and_those_of_living_processes_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for abandoned in [".model.4711.tmp", ".model.4711-3.tmp"] {
            fs::write(at(abandoned), "half").unwrap();
        }
        for other in [
            ".model.tmp",
            ".model.x.tmp",
            ".model2.4711.tmp",
            "model.4711.tmp",
        ] {
            fs::write(at(other), "not ours").unwrap();
        }
        let held = File::create(at(".model.99-0.tmp")).unwrap();
        held.lock().unwrap();
        write_atomically(&at("model"), b"whole").unwrap();
        let expected = [
            ".model.99-0.tmp",
            ".model.tmp",
            ".model.x.tmp",
            ".model2.4711.tmp",
            "model",
            "model.4711.tmp",
        ];
        assert_eq!(names(folder.path()), expected);
        // Not by closing it: a process that another test starts has it open too until it runs its program.
        held.unlock().unwrap();
        write_atomically(&at("model"), b"again").unwrap();
        assert!(!at(".model.99-0.tmp").exists());
    }

    #[test]
    fn threads_that_write_one_file_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..25 {
                        write_atomically(path, &vec![writer; 10_000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, vec![bytes[0]; 10_000]);
        assert_eq!(names(folder.path()), ["file"]);
    }

    const WRITES_TO: &str = "LOWBIT_TEST_WRITES_TO";

    /// Not a test of its own: the process that the next test kills.
    #[test]
    fn writer_for_the_next_test() {
        if let Some(path) = std::env::var_os(WRITES_TO) {
            for byte in (0..=255).cycle() {
                write_atomically(Path::new(&path), &vec![byte; 4 << 20]).unwrap();
            }
        }
    }

    #[test]
    fn a_writer_that_is_killed_leaves_a_whole_file_and_the_next_one_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for round in 0..12u64 {
            let mut writer = Command::new(std::env::current_exe().unwrap())
                .args(["writer_for_the_next_test", "--nocapture"])
                .env(WRITES_TO, &path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let start = Instant::now();
            while !path.exists() && start.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(3 + 7 * round));
            writer.kill().unwrap();
            writer.wait().unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len(), 4 << 20);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture");
        }
        write_atomically(&path, b"the last").unwrap();
        assert_eq!(names(folder.path()), ["file"]);
    }
}
