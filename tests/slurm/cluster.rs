//! A throw-away Slurm of one node that ends with the test. The scripts lie beside this file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Cluster {
    pub(crate) folder: PathBuf,
    /// What `SLURM_CONF` is to be.
    pub(crate) conf: PathBuf,
}

impl Cluster {
    /// Starts it, or says why it cannot be.
    pub(crate) fn start(folder: &Path) -> Result<Self, String> {
        for tool in ["munged", "slurmctld", "slurmd", "sbatch"] {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .stdout(Stdio::null())
                .status();
            if !found.is_ok_and(|status| status.success()) {
                return Err(format!("no {tool} here"));
            }
        }
        let output = Command::new(scripts().join("start.sh"))
            .arg(folder)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| error.to_string())?;
        let conf = String::from_utf8_lossy(&output.stdout)
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned();
        if !output.status.success() || conf.is_empty() {
            return Err("tests/slurm/start.sh failed; it needs root".into());
        }
        Ok(Self {
            folder: folder.to_owned(),
            conf: conf.into(),
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(scripts().join("stop.sh"))
            .arg(&self.folder)
            .status();
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/slurm")
}
