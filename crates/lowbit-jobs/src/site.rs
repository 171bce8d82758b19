//! What a site asks for on every submission: a TOML file, over which flags go.

use crate::files::on_path;
use crate::resources::{parse_memory, parse_time};
use crate::scheduler::Engine;
use crate::{JobError, Resources};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What was asked for, by flags or by a site's file; all of it may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wishes {
    /// `slurm` or `local`.
    pub on: Option<String>,
    /// Slurm partition.
    pub partition: Option<String>,
    /// Slurm quality of service.
    pub qos: Option<String>,
    /// Slurm account.
    pub account: Option<String>,
    /// Time of one attempt.
    pub time: Option<Text>,
    /// Memory per task.
    pub mem: Option<Text>,
    /// Cores per task.
    pub cpus: Option<u32>,
    /// GPUs per task.
    pub gpus: Option<u32>,
    /// Tasks at once.
    pub max_parallel: Option<u32>,
    /// How often a task goes on.
    pub max_restarts: Option<u32>,
    /// Dependency in Slurm's words.
    pub dependency: Option<String>,
    /// Who hears of the end.
    pub email: Option<String>,
    /// More options of sbatch.
    pub extra: Option<String>,
    /// Shell lines before the program.
    pub setup: Option<String>,
    /// A site's own submit line.
    pub template: Option<String>,
    /// Whether a task that measures speeds asks for a node of its own.
    pub exclusive: Option<bool>,
}

/// A value that people write with quotes or without: `time = 90`, `time = "1:30:00"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// Without.
    Number(u64),
    /// With.
    Text(String),
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

impl Wishes {
    /// Reads the site's file: the one that is given, or `$LOWBIT_SITE`, or `~/.config/lowbit/site.toml` if it exists.
    ///
    /// # Errors
    /// [`JobError`] naming the file and the key that is wrong.
    pub fn of_site(given: Option<&Path>) -> Result<Self, JobError> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(path) = given
            .map(ToOwned::to_owned)
            .or_else(|| variable("LOWBIT_SITE"))
        {
            return Self::read(&path);
        }
        let config =
            variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        match config
            .map(|config| config.join("lowbit/site.toml"))
            .filter(|path| path.is_file())
        {
            Some(path) => Self::read(&path),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, JobError> {
        let text = std::fs::read_to_string(path).map_err(JobError::read(path))?;
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            let before = error
                .span()
                .map_or("", |span| &text[..span.start.min(text.len())]);
            JobError::Malformed {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                reason: error.message().trim().replace('\n', " "),
            }
        })
    }

    /// Returns these wishes, and those of `under` where they are silent.
    #[must_use]
    pub fn over(self, under: Self) -> Self {
        Self {
            on: self.on.or(under.on),
            partition: self.partition.or(under.partition),
            qos: self.qos.or(under.qos),
            account: self.account.or(under.account),
            time: self.time.or(under.time),
            mem: self.mem.or(under.mem),
            cpus: self.cpus.or(under.cpus),
            gpus: self.gpus.or(under.gpus),
            max_parallel: self.max_parallel.or(under.max_parallel),
            max_restarts: self.max_restarts.or(under.max_restarts),
            dependency: self.dependency.or(under.dependency),
            email: self.email.or(under.email),
            extra: self.extra.or(under.extra),
            setup: self.setup.or(under.setup),
            template: self.template.or(under.template),
            exclusive: self.exclusive.or(under.exclusive),
        }
    }

    /// Returns where to: as asked, else Slurm where its `sbatch` is on the PATH, else this machine's queue.
    ///
    /// # Errors
    /// [`JobError::Value`] for a place that is none.
    pub fn engine(&self) -> Result<Engine, JobError> {
        match self.on.as_deref() {
            Some("slurm") => Ok(Engine::Slurm),
            Some("local") => Ok(Engine::Local),
            Some(other) => Err(JobError::value("--on", other, "expected slurm or local")),
            None if self.template.is_some() || on_path("sbatch").is_some() => Ok(Engine::Slurm),
            None => Ok(Engine::Local),
        }
    }

    /// Checks the wishes and returns what is asked for.
    ///
    /// # Errors
    /// [`JobError::Value`] for the first that cannot be.
    pub fn resources(&self, engine: Engine) -> Result<Resources, JobError> {
        let default = Resources::default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let most = if engine == Engine::Local {
            cores
        } else {
            u32::MAX
        };
        let lines = [
            ("--partition", &self.partition),
            ("--qos", &self.qos),
            ("--account", &self.account),
            ("--dependency", &self.dependency),
            ("--email", &self.email),
            ("--extra", &self.extra),
        ];
        for (name, value) in lines {
            // Each becomes a line of the batch script.
            if let Some(value) = value
                .as_ref()
                .filter(|value| value.trim().is_empty() || value.contains(['\n', '\r']))
            {
                return Err(JobError::value(
                    name,
                    value.trim(),
                    "expected one line that is not empty",
                ));
            }
        }
        if self.cpus == Some(0) {
            return Err(JobError::value("--cpus", "0", "expected at least 1"));
        }
        if self.max_parallel == Some(0) {
            return Err(JobError::value(
                "--max-parallel",
                "0",
                "expected at least 1",
            ));
        }
        Ok(Resources {
            cpus: self.cpus.unwrap_or(default.cpus.min(most)),
            mem_mib: self
                .mem
                .as_ref()
                .map_or(Ok(default.mem_mib), |mem| parse_memory(&mem.to_string()))?,
            time_s: self
                .time
                .as_ref()
                .map(|time| parse_time(&time.to_string()))
                .transpose()?,
            gpus: self.gpus.unwrap_or(0),
            max_parallel: self.max_parallel,
            max_restarts: self.max_restarts.unwrap_or(default.max_restarts),
            exclusive: self.exclusive.unwrap_or(default.exclusive),
            partition: self.partition.clone(),
            qos: self.qos.clone(),
            account: self.account.clone(),
            dependency: self.dependency.clone(),
            email: self.email.clone(),
            extra: self.extra.clone(),
            setup: self.setup.clone(),
            template: self.template.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> Result<Wishes, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.toml");
        std::fs::write(&path, text).unwrap();
        Wishes::of_site(Some(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_go_over_the_site_s_file() {
        let site =
            site("partition = \"long\"\ntime = 90\nmem = \"8G\"\nexclusive = false").unwrap();
        let flags = Wishes {
            partition: Some("short".into()),
            cpus: Some(2),
            ..Wishes::default()
        };
        let found = flags.over(site).resources(Engine::Slurm).unwrap();
        assert_eq!(found.partition.as_deref(), Some("short"));
        assert_eq!(
            (found.time_s, found.mem_mib, found.cpus, found.exclusive),
            (Some(5400), 8192, 2, false)
        );
    }

    #[test]
    fn a_wrong_site_file_is_named_with_its_line() {
        let error = site("partition = \"x\"\npartitoin = \"y\"").unwrap_err();
        assert!(
            error.contains("site.toml:2") && error.contains("partitoin"),
            "{error}"
        );
        let error = site("cpus = \"many\"").unwrap_err();
        assert!(
            error.contains("site.toml:1") && !error.contains('\n'),
            "{error}"
        );
        let error = Wishes::of_site(Some(Path::new("/none/site.toml")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/none/site.toml: cannot read"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_are_refused_before_anything_is_sent() {
        let wishes = |change: fn(&mut Wishes)| {
            let mut wishes = Wishes::default();
            change(&mut wishes);
            wishes
                .engine()
                .and_then(|engine| wishes.resources(engine))
                .unwrap_err()
                .to_string()
        };
        assert!(
            wishes(|w| w.on = Some("mars".into()))
                .starts_with("--on mars: expected slurm or local")
        );
        assert!(wishes(|w| w.time = Some(Text::Text("soon".into()))).starts_with("--time soon"));
        assert!(wishes(|w| w.mem = Some(Text::Text("lots".into()))).starts_with("--mem lots"));
        assert!(wishes(|w| w.cpus = Some(0)).starts_with("--cpus 0"));
        assert!(wishes(|w| w.partition = Some("a\n#SBATCH --uid=0".into())).contains("one line"));
    }
}
