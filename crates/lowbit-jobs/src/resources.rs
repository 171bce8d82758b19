//! What a task may use: cores, memory, time.

use crate::JobError;
use serde::{Deserialize, Serialize};

/// What is asked for. It may differ between two submissions of one manifest and decides no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Cores per task.
    pub cpus: u32,
    /// Memory per task in MiB.
    pub mem_mib: u64,
    /// Seconds that one attempt may take; none for the partition's own limit.
    pub time_s: Option<u64>,
    /// GPUs per task.
    pub gpus: u32,
    /// Tasks that run at once; none for as many as there is room for.
    pub max_parallel: Option<u32>,
    /// How often a task goes on after a time-out, a preemption or a kill.
    pub max_restarts: u32,
    /// Whether tasks that measure speeds ask for a node of their own.
    pub exclusive: bool,
    /// Slurm partition.
    pub partition: Option<String>,
    /// Slurm quality of service.
    pub qos: Option<String>,
    /// Slurm account.
    pub account: Option<String>,
    /// A dependency in Slurm's own words, of the first array.
    pub dependency: Option<String>,
    /// Who hears when an array ends or fails.
    pub email: Option<String>,
    /// More options of sbatch, as they stand.
    pub extra: Option<String>,
    /// Shell lines before the program starts, such as `module load`.
    pub setup: Option<String>,
    /// A shell line that submits one task at a site with a wrapper of its own.
    pub template: Option<String>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpus: 4,
            mem_mib: 4096,
            time_s: None,
            gpus: 0,
            max_parallel: None,
            max_restarts: 10,
            exclusive: true,
            partition: None,
            qos: None,
            account: None,
            dependency: None,
            email: None,
            extra: None,
            setup: None,
            template: None,
        }
    }
}

/// Reads a time as Slurm does: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]`.
///
/// # Errors
/// [`JobError::Value`] for anything else, and for zero.
pub fn parse_time(text: &str) -> Result<u64, JobError> {
    let wrong = || {
        let expected = "expected minutes, minutes:seconds, hours:minutes:seconds or days-hours:minutes, such as 90 or 1-12:00";
        JobError::value("--time", text, expected)
    };
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(days), rest),
        None => (None, text),
    };
    let number = |part: &str| {
        let digits =
            !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| part.parse::<u64>().ok())
            .flatten()
            .ok_or_else(wrong)
    };
    let parts: Vec<u64> = rest.split(':').map(number).collect::<Result<_, _>>()?;
    let seconds = match (days, parts.as_slice()) {
        (None, [m]) => m * 60,
        (None, [m, s]) => m * 60 + s,
        (None, [h, m, s]) => h * 3600 + m * 60 + s,
        (Some(_), [h]) => h * 3600,
        (Some(_), [h, m]) => h * 3600 + m * 60,
        (Some(_), [h, m, s]) => h * 3600 + m * 60 + s,
        _ => return Err(wrong()),
    };
    let days = days.map_or(Ok(0), number)?;
    let seconds = seconds + days * 86_400;
    if seconds == 0 {
        return Err(wrong());
    }
    Ok(seconds)
}

/// Writes seconds as `[days-]hours:minutes:seconds`.
#[must_use]
pub fn show_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 {
        format!("{days}-{h:02}:{m:02}:{s:02}")
    } else {
        format!("{h:02}:{m:02}:{s:02}")
    }
}

/// Reads an amount of memory as Slurm does: MiB, or with K, M, G, T behind it; returns MiB.
///
/// # Errors
/// [`JobError::Value`] for anything else, and for less than a MiB.
pub fn parse_memory(text: &str) -> Result<u64, JobError> {
    let wrong = || {
        JobError::value(
            "--mem",
            text,
            "expected MiB, or a number with M, G or T, such as 4G",
        )
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let plain =
        !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = plain
        .then(|| digits.parse().ok())
        .flatten()
        .ok_or_else(wrong)?;
    let mib = match unit.trim_end_matches('B').trim_end_matches('I') {
        "K" => number / 1024,
        "" | "M" => number,
        "G" => number * 1024,
        "T" => number * 1024 * 1024,
        _ => return Err(wrong()),
    };
    if mib == 0 {
        return Err(wrong());
    }
    Ok(mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_slurm_reads_them() {
        for (text, seconds) in [
            ("90", 5400),
            ("0:20", 20),
            ("1:30:00", 5400),
            ("2-12", 216_000),
            ("1-00:30", 88_200),
            ("1-01:00:05", 90_005),
        ] {
            assert_eq!(parse_time(text).unwrap(), seconds, "{text}");
        }
        assert_eq!(show_time(90_005), "1-01:00:05");
        assert_eq!(parse_time(&show_time(5400)).unwrap(), 5400);
    }

    #[test]
    fn a_time_that_is_no_time_is_refused_with_examples() {
        for text in [
            "",
            "soon",
            "1h",
            "-5",
            "0",
            "1:2:3:4",
            "1-",
            "-",
            "1-2-3",
            "99999999999",
            "1:-2",
            "²",
        ] {
            let error = parse_time(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("--time {text}: expected")),
                "{error}"
            );
        }
    }

    #[test]
    fn memory_is_read_as_slurm_reads_it() {
        for (text, mib) in [
            ("512", 512),
            ("4G", 4096),
            ("2048K", 2),
            ("1t", 1 << 20),
            ("8GiB", 8192),
            ("8GB", 8192),
        ] {
            assert_eq!(parse_memory(text).unwrap(), mib, "{text}");
        }
        for text in [
            "",
            "G",
            "4X",
            "-1",
            "0",
            "1K",
            "4.5G",
            "lots",
            "9999999999999",
        ] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }
}
