//! The manifest: one line about the experiment, then one line per task, frozen when it is submitted.

use crate::JobError;
use crate::data_mark::DataMark;
use crate::files::{quoted, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Version of the manifest's format.
pub const FORMAT: u32 = 1;

/// Bytes of one argument that Linux does not start a program with.
const MOST_OF_WORD: usize = 128 << 10;

/// What all tasks share: the first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program that froze the settings.
    pub lowbit: String,
    /// The program that tasks run.
    pub binary: Binary,
    /// Name of the experiment, such as `sweep`.
    pub experiment: String,
    /// Name of the job: the experiment and a checksum of its tasks and data.
    pub name: String,
    /// Seconds since 1970.
    pub created_unix: u64,
    /// Folder in which tasks start.
    pub folder: PathBuf,
    /// Folder of the experiment's results.
    pub out: PathBuf,
    /// The data, where they are a path.
    pub data: Option<DataMark>,
    /// Other files that decide what comes out: models to begin with, lists of a split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<DataMark>,
}

/// The program, by what it is recognized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binary {
    /// Where it lies.
    pub path: PathBuf,
    /// CRC-32 of its bytes.
    pub crc32: u32,
}

/// The script and the library, where the program is not a file of its own.
static STARTED_BY: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();

impl Binary {
    /// Returns the running program.
    ///
    /// # Errors
    /// [`JobError::Read`] when it cannot be read.
    pub fn running() -> Result<Self, JobError> {
        let (path, library) = match STARTED_BY.get() {
            Some((script, library)) => (script.clone(), Some(library)),
            None => {
                let found = std::env::current_exe();
                (
                    found.map_err(JobError::read(Path::new("the program")))?,
                    None,
                )
            }
        };
        let mut hasher = crc32fast::Hasher::new();
        for file in std::iter::once(&path).chain(library) {
            hasher.update(&std::fs::read(file).map_err(JobError::read(file))?);
        }
        let crc32 = hasher.finalize();
        Ok(Self { path, crc32 })
    }

    /// Says that the program is a script, which an interpreter runs, with all that it does in a library: the process's own
    /// file is then the interpreter's. What is said first holds.
    pub fn started_by(script: PathBuf, library: PathBuf) {
        let _ = STARTED_BY.set((script, library));
    }

    /// Whether the program is such a script.
    #[must_use]
    pub fn is_script() -> bool {
        STARTED_BY.get().is_some()
    }
}

/// One run of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// From 0; the line's place.
    pub index: u32,
    /// Tasks of a stage run side by side; a stage begins when all tasks of earlier ones have ended, well or not.
    pub stage: u32,
    /// Whether it measures speeds and must not share the machine with other tasks.
    pub exclusive: bool,
    /// Name for people, such as `8bit_seed2`.
    pub name: String,
    /// Settings that tell it from other tasks, for people.
    pub settings: BTreeMap<String, String>,
    /// The program's arguments, every setting among them.
    pub argv: Vec<String>,
}

/// An experiment with all its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What all tasks share.
    pub header: Header,
    /// By index.
    pub tasks: Vec<Task>,
}

impl Manifest {
    /// Freezes an experiment. Tasks are numbered in their order.
    ///
    /// # Errors
    /// [`JobError`] when the program cannot be read.
    pub fn freeze(
        experiment: &str,
        folder: PathBuf,
        out: PathBuf,
        data: Option<DataMark>,
        files: Vec<DataMark>,
        mut tasks: Vec<Task>,
    ) -> Result<Self, JobError> {
        // They stand in batch scripts.
        for path in [&folder, &out] {
            if path.display().to_string().contains(char::is_control) {
                return Err(JobError::Value {
                    what: "folder".into(),
                    value: format!("{path:?}"),
                    expected: "a name without line breaks and other control characters".into(),
                });
            }
        }
        for word in tasks.iter().flat_map(|task| &task.argv) {
            if word.len() >= MOST_OF_WORD {
                return Err(JobError::Value {
                    what: "an argument of a task".into(),
                    value: format!("{}…", word.chars().take(60).collect::<String>()),
                    expected: format!(
                        "less than {} KiB, which is what systems take; it has {}",
                        MOST_OF_WORD >> 10,
                        word.len() >> 10
                    ),
                });
            }
        }
        for (index, task) in tasks.iter_mut().enumerate() {
            task.index = index as u32;
        }
        let identity = match files.is_empty() {
            true => serde_json::to_vec(&(&data, &tasks)),
            false => serde_json::to_vec(&(&data, &files, &tasks)),
        };
        let identity = identity.expect("a manifest is plain data");
        let header = Header {
            format: FORMAT,
            lowbit: env!("CARGO_PKG_VERSION").into(),
            binary: Binary::running()?,
            experiment: experiment.into(),
            name: format!("{experiment}-{:08x}", crc32fast::hash(&identity)),
            created_unix: crate::files::unix_now(),
            folder,
            out,
            data,
            files,
        };
        Ok(Self { header, tasks })
    }

    /// Writes it as JSON lines.
    ///
    /// # Errors
    /// [`JobError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), JobError> {
        let mut text = String::new();
        let header = serde_json::to_string(&self.header);
        let lines = self.tasks.iter().map(serde_json::to_string);
        for line in std::iter::once(header).chain(lines) {
            text += &line.expect("a manifest is plain data");
            text.push('\n');
        }
        write_atomically(path, text.as_bytes())
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`JobError`] naming the line that is wrong, or the version that wrote it.
    pub fn load(path: &Path) -> Result<Self, JobError> {
        let text = std::fs::read_to_string(path).map_err(JobError::read(path))?;
        let malformed = |line: usize, reason: String| JobError::Malformed {
            path: path.to_owned(),
            line,
            reason: format!("not a manifest of lowbit: {reason}"),
        };
        let mut lines = text.lines().enumerate();
        let (_, first) = lines
            .next()
            .ok_or_else(|| malformed(1, "the file is empty".into()))?;
        // Of another version more than these two fields may differ.
        let any: serde_json::Value =
            serde_json::from_str(first).map_err(|error| malformed(1, error.to_string()))?;
        let found_format = any["format"].as_u64().unwrap_or(0) as u32;
        let found = any["lowbit"].as_str().unwrap_or("unknown").to_owned();
        if found_format != FORMAT || found != env!("CARGO_PKG_VERSION") {
            let path = path.to_owned();
            return Err(JobError::Version {
                path,
                found,
                found_format,
            });
        }
        let header =
            serde_json::from_value(any).map_err(|error| malformed(1, error.to_string()))?;
        let mut tasks = Vec::new();
        for (number, line) in lines {
            let task: Task = serde_json::from_str(line)
                .map_err(|error| malformed(number + 1, error.to_string()))?;
            if task.index as usize != tasks.len() {
                let reason = format!("task {} where {} should be", task.index, tasks.len());
                return Err(malformed(number + 1, reason));
            }
            tasks.push(task);
        }
        Ok(Self { header, tasks })
    }

    /// Returns a task by its index.
    #[must_use]
    pub fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(index as usize)
    }

    /// Returns the shell line that runs a task by hand, without queue and records.
    #[must_use]
    pub fn by_hand(&self, task: &Task) -> String {
        let mut line = format!(
            "cd {} && {}",
            quoted(&self.header.folder.display().to_string()),
            quoted(&self.header.binary.path.display().to_string())
        );
        for word in &task.argv {
            line.push(' ');
            line += &quoted(word);
        }
        line
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn task(stage: u32, name: &str) -> Task {
        Task {
            index: 0,
            stage,
            exclusive: false,
            name: name.into(),
            settings: BTreeMap::from([("width".into(), name.into())]),
            argv: vec!["sweep".into(), "--set".into(), format!("model={name} x")],
        }
    }

    pub(crate) fn manifest(count: usize) -> Manifest {
        let tasks = (0..count).map(|i| task(0, &format!("t{i}"))).collect();
        Manifest::freeze(
            "sweep",
            "/tmp".into(),
            "/tmp/out".into(),
            None,
            vec![],
            tasks,
        )
        .unwrap()
    }

    #[test]
    fn a_manifest_is_read_back_as_it_was_frozen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.jsonl");
        let manifest = manifest(3);
        manifest.save(&path).unwrap();
        assert_eq!(Manifest::load(&path).unwrap(), manifest);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
        assert!(
            manifest
                .by_hand(&manifest.tasks[1])
                .ends_with("sweep --set 'model=t1 x'")
        );
    }

    #[test]
    fn equal_tasks_have_one_name_and_others_another() {
        assert_eq!(manifest(3).header.name, manifest(3).header.name);
        assert_ne!(manifest(3).header.name, manifest(2).header.name);
        let mark = |bytes| DataMark {
            path: "/d".into(),
            files: 1,
            bytes,
            crc32: 1,
        };
        let with = |data, files| {
            let tasks = vec![task(0, "t")];
            Manifest::freeze("sweep", "/".into(), "/o".into(), data, files, tasks)
                .unwrap()
                .header
                .name
        };
        assert_ne!(with(Some(mark(1)), vec![]), with(Some(mark(2)), vec![]));
        assert_ne!(with(None, vec![mark(1)]), with(None, vec![mark(2)]));
    }

    #[test]
    fn a_folder_that_would_break_a_script_is_refused() {
        let made =
            |out: &str| Manifest::freeze("sweep", "/".into(), out.into(), None, vec![], vec![]);
        let error = made("/o\ntouch x").unwrap_err();
        assert!(error.is_input(), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("line breaks") && !error.contains('\n'),
            "{error}"
        );
        assert!(made("/o \"q\" \\ %").is_ok());
    }

    #[test]
    fn a_manifest_of_another_version_or_a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.jsonl");
        for (text, parts) in [
            ("", &["manifest.jsonl:1", "empty"][..]),
            ("{ half", &["manifest.jsonl:1"]),
            (
                "{\"format\": 9, \"lowbit\": \"7.0.0\", \"new\": 1}",
                &["lowbit 7.0.0 (format 9)", "finish it with that version"],
            ),
            ("[]", &["unknown"]),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Manifest::load(&path).unwrap_err().to_string();
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{text}: {error}"
            );
            assert!(!error.contains('\n'));
        }
        manifest(2).save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"index\":1", "\"index\":5")).unwrap();
        let error = Manifest::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("manifest.jsonl:3") && error.contains("task 5 where 1"),
            "{error}"
        );
    }
}
