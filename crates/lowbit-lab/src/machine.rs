//! What the numbers were measured on.

use lowbit_kernels::Isa;
use serde::{Deserialize, Serialize};

/// The machine and the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The machine's name; empty in records of older versions.
    #[serde(default)]
    pub host: String,
    /// The processor's own name.
    pub cpu: String,
    /// Logical processors available to the process.
    pub cores: usize,
    /// Main memory.
    pub memory_bytes: u64,
    /// Kernel name and version.
    pub system: String,
    /// Instruction-set level in use.
    pub isa: String,
    /// Version of lowbit.
    pub lowbit_version: String,
    /// Seconds since 1970 when this was written, at the end of the run.
    pub unix_time: u64,
}

impl Machine {
    /// Looks around; what cannot be found out is called unknown.
    #[must_use]
    pub fn here(isa: Isa) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let kib = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| {
            text.split(' ')
                .next()
                .and_then(|number| number.parse::<u64>().ok())
        });
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            host: read("/proc/sys/kernel/hostname").trim().to_owned(),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.unwrap_or(0) * 1024,
            system: format!("{} {}", std::env::consts::OS, release.trim())
                .trim()
                .to_owned(),
            isa: isa.name().to_owned(),
            lowbit_version: env!("CARGO_PKG_VERSION").to_owned(),
            unix_time: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let plural = if self.cores == 1 { "core" } else { "cores" };
        format!("{}, {} {plural}, {}", self.cpu, self.cores, self.isa)
    }
}
