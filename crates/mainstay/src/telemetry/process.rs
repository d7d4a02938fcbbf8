//! What the operating system says of this process, from `/proc`.

use std::fs;
use std::path::Path;

/// What is known; a machine without `/proc` knows nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    /// Since 1970.
    pub start_seconds: f64,
}

impl Process {
    pub fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let uptime = fs::read_to_string("/proc/stat").ok()?;
        let booted = uptime.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Self::parse(&stat, booted, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64)
    }

    /// Fields as in proc_pid_stat(5), counted after the name in parentheses, which may contain anything.
    fn parse(stat: &str, booted: f64, ticks: u64, page: u64) -> Option<Self> {
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |of: u64| of as f64 / ticks as f64;
        Some(Self {
            cpu_seconds: seconds(field(14)? + field(15)?),
            threads: field(20)?,
            start_seconds: booted + seconds(field(22)?),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(proc: &Path) -> Option<u64> {
    let statm = fs::read_to_string(proc.join("self/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How many file descriptors are open, and how many may be.
pub(super) fn descriptors() -> Option<(u64, Option<u64>)> {
    // One of them is the reading's own.
    let open = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Some((open.saturating_sub(1), limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 7 0 1000 8192 3 18446744073709551615 1 1";
        let process = Process::parse(stat, 1_000_000.0, 100, 4096).unwrap();
        let expected = Process {
            cpu_seconds: 2.0,
            resident_bytes: 12_288,
            virtual_bytes: 8192,
            threads: 7,
            start_seconds: 1_000_010.0,
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("nonsense", 0.0, 100, 4096), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_known() {
        let process = Process::read().unwrap();
        assert!(
            process.resident_bytes > 100_000 && process.resident_bytes <= process.virtual_bytes,
            "{process:?}"
        );
        let now = crate::time::wall().as_secs_f64();
        assert!((now - 86_400.0..now + 2.0).contains(&process.start_seconds), "{process:?}");
        let (open, limit) = descriptors().unwrap();
        assert!(open >= 3 && limit.is_none_or(|limit| open <= limit));
    }
}
