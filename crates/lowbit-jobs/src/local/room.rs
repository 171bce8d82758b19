//! The machine's cores and memory, and what of them is taken.

use crate::{JobError, Resources};

/// Cores and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Logical processors.
    pub cores: u32,
    /// Memory in MiB.
    pub mem_mib: u64,
}

impl Room {
    /// Returns what this machine has; a tenth of its memory is left to others.
    #[must_use]
    pub fn of_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = text.lines().find_map(|line| {
            let value = line.strip_prefix("MemTotal:")?;
            value.trim().split(' ').next()?.parse::<u64>().ok()
        });
        // Where the memory is not known, cores alone decide.
        let mem_mib = kib.map_or(u64::MAX / 2, |kib| kib / 1024 / 10 * 9);
        Self { cores, mem_mib }
    }

    /// Checks that a task can ever run.
    ///
    /// # Errors
    /// [`JobError::Value`] naming what the machine has.
    pub fn check(&self, resources: &Resources) -> Result<(), JobError> {
        if resources.cpus > self.cores {
            let expected = format!("this machine has {} cores", self.cores);
            return Err(JobError::value(
                "--cpus",
                &resources.cpus.to_string(),
                &expected,
            ));
        }
        if resources.mem_mib > self.mem_mib {
            let expected = format!(
                "the local queue has {}M of this machine's memory",
                self.mem_mib
            );
            return Err(JobError::value(
                "--mem",
                &format!("{}M", resources.mem_mib),
                &expected,
            ));
        }
        Ok(())
    }

    /// Takes a task's share, if there is room.
    #[must_use]
    pub fn less(self, resources: &Resources) -> Option<Self> {
        Some(Self {
            cores: self.cores.checked_sub(resources.cpus)?,
            mem_mib: self.mem_mib.checked_sub(resources.mem_mib)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_share_cores_and_memory_and_one_that_never_fits_is_refused() {
        let room = Room {
            cores: 4,
            mem_mib: 1000,
        };
        let task = |cpus, mem_mib| Resources {
            cpus,
            mem_mib,
            ..Resources::default()
        };
        let left = room.less(&task(3, 100)).unwrap();
        assert_eq!(
            left,
            Room {
                cores: 1,
                mem_mib: 900
            }
        );
        assert!(left.less(&task(2, 1)).is_none() && left.less(&task(1, 901)).is_none());
        room.check(&task(4, 1000)).unwrap();
        let error = room.check(&task(5, 1)).unwrap_err().to_string();
        assert_eq!(error, "--cpus 5: this machine has 4 cores");
        assert!(
            room.check(&task(1, 1001))
                .unwrap_err()
                .to_string()
                .contains("--mem 1001M")
        );
    }
}
