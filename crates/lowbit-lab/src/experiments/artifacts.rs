//! Folders and files of experiments: made, held, written.

use crate::{Events, LabError};
use lowbit::format::write_atomically;
use lowbit_files::FolderLock;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where the state of a training is written after every epoch.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The f32 model's file.
pub const FP32: &str = "model_fp32.safetensors";
/// What one training came to.
pub const TRAINING_RESULTS: &str = "training_results.json";
/// What a comparison came to.
pub const COMPARISON_RESULTS: &str = "comparison_results.json";

/// Name of the packed model's file.
#[must_use]
pub fn packed(bits: u8) -> String {
    format!("model_{bits}bit.safetensors")
}

/// A folder that no other process writes into for as long as this value lives.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    _lock: FolderLock,
}

impl Held {
    /// Makes the folder if it is not there, and holds it.
    ///
    /// # Errors
    /// [`LabError::Busy`] if another process holds it, [`LabError::Io`] if it cannot be made.
    pub fn take(path: PathBuf) -> Result<Self, LabError> {
        make_folder(&path)?;
        match FolderLock::take(&path) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(taken) => Err(LabError::Busy { path, taken }),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`LabError::Io`] with the folder.
pub fn make_folder(path: &Path) -> Result<(), LabError> {
    std::fs::create_dir_all(path).map_err(|source| LabError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Writes results as JSON, whole or not at all.
///
/// # Errors
/// [`LabError::Format`] with the file.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LabError> {
    let json = serde_json::to_string_pretty(value).expect("results are plain data");
    write_atomically(path, json.as_bytes())?;
    Ok(())
}

/// Says that there is no checkpoint where one was to be gone on from.
pub(super) fn say_if_new(resume: bool, checkpoint: &Path, events: &dyn Events) {
    if resume && !checkpoint.exists() {
        events.note(&format!(
            "--resume: {} is not there, so this begins anew",
            checkpoint.display()
        ));
    }
}

/// Refuses an `output` that cannot be written, before anything is computed for it: where it is one of the files that are
/// read, or lies in a folder that is read, or is a folder itself, or lies in none.
///
/// # Errors
/// [`LabError::OwnInput`], [`LabError::Output`].
pub fn check_output(output: &Path, inputs: &[&Path]) -> Result<(), LabError> {
    let refuse = |reason: &'static str| {
        Err(LabError::Output {
            path: output.to_owned(),
            reason,
        })
    };
    if output.is_dir() {
        return refuse("is a folder; give the name of a file in it");
    }
    match output.parent() {
        Some(folder) if folder.as_os_str().is_empty() || folder.is_dir() => {}
        _ => return refuse("lies in a folder that is not there; make it first"),
    }
    let Ok(target) = std::fs::canonicalize(output) else {
        // Nothing is there that could be lost.
        return Ok(());
    };
    let lost = inputs.iter().find(|input| {
        let Ok(source) = std::fs::canonicalize(input) else {
            return false;
        };
        source == target || target.starts_with(&source) || one_file(&source, &target)
    });
    match lost {
        Some(input) => Err(LabError::OwnInput {
            output: output.to_owned(),
            input: (*input).to_owned(),
        }),
        None => Ok(()),
    }
}

/// Whether both paths lead to the same file, by whatever links.
#[must_use]
pub fn same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b || one_file(&a, &b),
        _ => false,
    }
}

/// Whether two names are hard links of one file.
#[cfg(unix)]
fn one_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn one_file(_a: &Path, _b: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_free_again_afterwards() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out/train");
        let held = Held::take(path.clone()).unwrap();
        let error = Held::take(path.clone()).unwrap_err().to_string();
        assert!(
            error.contains("out/train") && error.contains("another lowbit"),
            "{error}"
        );
        // Another folder beside it is free, and nothing is left in this one.
        Held::take(parent.path().join("out/other")).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        drop(held);
        Held::take(path).unwrap();
    }

    #[test]
    fn an_output_is_not_written_over_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let input = path.join("m.safetensors");
        std::fs::write(&input, "weights").unwrap();
        std::fs::create_dir_all(path.join("photos/a")).unwrap();
        std::fs::write(path.join("photos/a/1.png"), "pixels").unwrap();
        let photos = path.join("photos");
        let refused = |output: PathBuf| check_output(&output, &[&input, &photos]).is_err();
        assert!(refused(input.clone()));
        assert!(refused(path.join("photos/../m.safetensors")));
        assert!(refused(path.join("photos/a/1.png")));
        assert!(!refused(path.join("photos/a/2.png")));
        assert!(!refused(path.join("n.safetensors")));
        std::fs::write(path.join("n.safetensors"), "weights").unwrap();
        assert!(!refused(path.join("n.safetensors")));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&input, path.join("soft")).unwrap();
            std::fs::hard_link(&input, path.join("hard")).unwrap();
            assert!(refused(path.join("soft")) && refused(path.join("hard")));
            assert!(same_file(&path.join("hard"), &path.join("soft")));
            std::os::unix::fs::symlink(&photos, path.join("p")).unwrap();
            assert!(refused(path.join("p/a/1.png")));
        }
        let reason = |output: &str| {
            let error = check_output(&path.join(output), &[]).unwrap_err();
            error.to_string()
        };
        assert!(reason("photos").contains("is a folder"));
        assert!(reason("none/m.safetensors").contains("lies in a folder that is not there"));
        assert!(!same_file(&input, &path.join("n.safetensors")));
        assert!(!same_file(&path.join("none"), &path.join("none")));
    }
}
