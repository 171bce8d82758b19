//! Where a job's files lie: `OUT/jobs/<name>/`.

use crate::files::{make_folder, read_json, write_json};
use crate::records::{Made, Outcome, Progress, Started};
use crate::{JobError, Manifest};
use std::path::{Path, PathBuf};

/// A job's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFolder {
    path: PathBuf,
}

/// What a task's own files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The last attempt.
    pub started: Option<Started>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Whether somebody wants it cancelled.
    pub cancelled: bool,
    /// What of its results is gone, in words, where it ended well.
    pub lost: Option<String>,
}

const MANIFEST: &str = "manifest.jsonl";

impl JobFolder {
    /// Returns the folder of a job, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // One folder has one name: the queue compares them.
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path }
    }

    /// Returns the folder of a manifest's job below the experiment's results.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self::new(Self::parent(&manifest.header.out).join(&manifest.header.name))
    }

    /// Returns the folder that holds a manifest file.
    #[must_use]
    pub fn of_file(manifest: &Path) -> Self {
        Self::new(manifest.parent().unwrap_or(Path::new(".")))
    }

    fn parent(out: &Path) -> PathBuf {
        out.join("jobs")
    }

    /// Returns all jobs below the results folder `out`, the newest last.
    ///
    /// # Errors
    /// [`JobError::NoJob`] when there is none.
    pub fn all(out: &Path) -> Result<Vec<Self>, JobError> {
        let parent = Self::parent(out);
        let time = |job: &Self| {
            let created =
                Manifest::load(&job.manifest()).map(|manifest| manifest.header.created_unix);
            created.unwrap_or(0)
        };
        let mut jobs: Vec<_> = std::fs::read_dir(&parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| Self::new(entry.path()))
            .filter(|job| job.manifest().is_file())
            .map(|job| (time(&job), job))
            .collect();
        if jobs.is_empty() {
            return Err(JobError::NoJob {
                path: parent,
                reason: "no job here; submit one, or give its --out".into(),
            });
        }
        jobs.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
        Ok(jobs.into_iter().map(|(_, job)| job).collect())
    }

    /// Returns the job below `out` that is called `name`, or the newest one.
    ///
    /// # Errors
    /// [`JobError::NoJob`] naming the jobs that are there.
    pub fn find(out: &Path, name: Option<&str>) -> Result<Self, JobError> {
        let mut all = Self::all(out)?;
        let Some(name) = name else {
            return Ok(all.pop().expect("there is at least one"));
        };
        if let Some(job) = all.iter().find(|job| job.name() == name) {
            return Ok(job.clone());
        }
        let names: Vec<_> = all.iter().map(Self::name).collect();
        Err(JobError::NoJob {
            path: Self::parent(out),
            reason: format!("no job {name}; there are {}", names.join(", ")),
        })
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the job's name.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Returns the manifest's path.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.path.join(MANIFEST)
    }

    /// Returns the folder of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Returns a task's own folder.
    #[must_use]
    pub fn task(&self, index: u32) -> TaskFolder {
        TaskFolder {
            path: self.path.join("tasks").join(index.to_string()),
        }
    }

    /// Held by whoever sends the job's tasks, and by the local queue while it looks at them.
    pub(crate) fn submit_lock(&self) -> PathBuf {
        self.path.join("submit.lock")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folders of the job and of its tasks.
    pub(crate) fn make(&self, manifest: &Manifest) -> Result<(), JobError> {
        make_folder(&self.logs())?;
        for task in &manifest.tasks {
            make_folder(&self.task(task.index).path)?;
        }
        Ok(())
    }
}

/// A task's own folder, which nothing else writes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFolder {
    path: PathBuf,
}

impl TaskFolder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    fn started(&self) -> PathBuf {
        self.path.join("started.json")
    }

    fn progress(&self) -> PathBuf {
        self.path.join("progress.json")
    }

    /// Where the experiment lists what it made.
    pub(crate) fn made(&self) -> PathBuf {
        self.path.join("made.json")
    }

    fn outcome(&self) -> PathBuf {
        self.path.join("outcome.json")
    }

    /// Where somebody asks for it to be cancelled.
    pub(crate) fn cancel(&self) -> PathBuf {
        self.path.join("cancel")
    }

    /// Where the wrapper asks the experiment to stop at its next checkpoint.
    pub(crate) fn stop(&self) -> PathBuf {
        self.path.join("stop")
    }

    /// Where the experiment says why it failed.
    pub(crate) fn error(&self) -> PathBuf {
        self.path.join("error.txt")
    }

    /// Reads what the task says about itself.
    #[must_use]
    pub fn records(&self) -> Records {
        let outcome = self.read_outcome();
        if outcome
            .as_ref()
            .is_some_and(|o| o.end == crate::records::End::Done)
        {
            // All that a view needs stands in it and in the list of what it made.
            return Records {
                outcome,
                lost: self.lost(),
                ..Records::default()
            };
        }
        Records {
            started: read_json(&self.started()),
            progress: self.read_progress(),
            outcome,
            cancelled: self.cancel().exists(),
            lost: None,
        }
    }

    /// Which of the files that it made is gone or cut off. What cannot be seen is not lost.
    fn lost(&self) -> Option<String> {
        let made: Vec<Made> = read_json(&self.made())?;
        // OUT/jobs/<name>/tasks/<index>: results may be moved as a whole.
        let out = self.path.ancestors().nth(4)?;
        made.iter().find_map(|Made { path, bytes }| {
            let shown = path.display();
            match (std::fs::metadata(out.join(path)), bytes) {
                (Ok(file), Some(bytes)) if file.len() != *bytes => Some(format!(
                    "{shown} has {} bytes instead of {bytes}",
                    file.len()
                )),
                (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => {
                    Some(format!("{shown} is not there any more"))
                }
                _ => None,
            }
        })
    }

    /// Whether an attempt has begun since it was sent last.
    pub(crate) fn has_begun(&self) -> bool {
        self.started().exists()
    }

    pub(crate) fn read_outcome(&self) -> Option<Outcome> {
        read_json(&self.outcome())
    }

    pub(crate) fn read_progress(&self) -> Option<Progress> {
        read_json(&self.progress())
    }

    pub(crate) fn write_started(&self, started: &Started) -> Result<(), JobError> {
        write_json(&self.started(), started)
    }

    pub(crate) fn write_progress(&self, progress: &Progress) -> Result<(), JobError> {
        write_json(&self.progress(), progress)
    }

    pub(crate) fn write_outcome(&self, outcome: &Outcome) -> Result<(), JobError> {
        write_json(&self.outcome(), outcome)
    }

    /// Sets the records of an earlier submission aside, so that the task runs again; its progress stays.
    pub(crate) fn set_aside(&self, submission: u32) -> Result<(), JobError> {
        for path in [self.started(), self.outcome()] {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let aside = path.with_file_name(format!("{stem}_before_{submission}.json"));
            match std::fs::rename(&path, aside) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(JobError::Write {
                        path,
                        source: error,
                    });
                }
                _ => {}
            }
        }
        for path in [self.cancel(), self.stop(), self.error(), self.made()] {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_name_or_is_the_newest_and_a_missing_one_names_the_others() {
        let out = tempfile::tempdir().unwrap();
        let error = JobFolder::find(out.path(), None).unwrap_err().to_string();
        assert!(error.contains("no job here"), "{error}");
        let mut manifest = crate::manifest::tests::manifest(1);
        manifest.header.out = out.path().to_owned();
        for (name, created) in [("sweep-b", 5), ("sweep-a", 7)] {
            manifest.header.name = name.into();
            manifest.header.created_unix = created;
            let folder = JobFolder::of(&manifest);
            folder.make(&manifest).unwrap();
            manifest.save(&folder.manifest()).unwrap();
        }
        assert_eq!(JobFolder::find(out.path(), None).unwrap().name(), "sweep-a");
        assert_eq!(
            JobFolder::find(out.path(), Some("sweep-b")).unwrap().name(),
            "sweep-b"
        );
        let error = JobFolder::find(out.path(), Some("x"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no job x; there are sweep-b, sweep-a"),
            "{error}"
        );
    }

    #[test]
    fn what_was_made_and_is_gone_or_cut_off_is_lost() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("jobs/sweep-a/tasks/0");
        std::fs::create_dir_all(&path).unwrap();
        let task = TaskFolder::new(path);
        assert_eq!(task.lost(), None);
        let made = [("8bit.json", None), ("8bit.safetensors", Some(3))];
        let made = made.map(|(path, bytes)| Made {
            path: path.into(),
            bytes,
        });
        write_json(&task.made(), &made).unwrap();
        let lost = || task.lost().unwrap_or_default();
        assert_eq!(lost(), "8bit.json is not there any more");
        std::fs::write(out.path().join("8bit.json"), "{}").unwrap();
        std::fs::write(out.path().join("8bit.safetensors"), "").unwrap();
        assert_eq!(lost(), "8bit.safetensors has 0 bytes instead of 3");
        std::fs::write(out.path().join("8bit.safetensors"), "abc").unwrap();
        assert_eq!(lost(), "");
        std::fs::remove_file(out.path().join("8bit.safetensors")).unwrap();
        task.set_aside(1).unwrap();
        assert_eq!(lost(), "");
    }

    #[test]
    fn half_a_record_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let task = TaskFolder::new(folder.path().to_owned());
        std::fs::write(folder.path().join("outcome.json"), "{\"end\": \"do").unwrap();
        assert_eq!(task.records(), Records::default());
    }
}
