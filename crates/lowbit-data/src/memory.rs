//! How much memory there is.

/// Bytes that can be used without taking them from other programs; none where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kibibytes(&text)?.checked_mul(1024)
}

fn kibibytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_figure_is_read() {
        let text = "MemTotal:       16318480 kB\nMemAvailable:   10000000 kB\n";
        assert_eq!(kibibytes(text), Some(10_000_000));
        assert_eq!(kibibytes("MemAvailable: many"), None);
        assert!(!cfg!(target_os = "linux") || available().is_some());
    }
}
