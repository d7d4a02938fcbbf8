//! What is asked of the machine. Where it does not say (not Linux, no such file), the answer is `None`.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use serde::{Deserialize, Serialize};

/// How many cores this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The block device under a folder.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Device {
    major: u64,
    minor: u64,
}

impl Device {
    pub(super) fn of(path: &Path) -> Option<Device> {
        let dev = fs::metadata(path).ok()?.dev();
        let (major, minor) =
            ((dev >> 8) & 0xfff | (dev >> 32) & !0xfff, dev & 0xff | (dev >> 12) & 0xffff_ff00);
        let device = Device { major, minor };
        device.written().map(|_| device)
    }

    /// Bytes written to it since the machine started, by anybody.
    pub(super) fn written(self) -> Option<u64> {
        sectors_written(&fs::read_to_string("/proc/diskstats").ok()?, self).map(|sectors| sectors * 512)
    }

    /// Whether it is a real disk behind a write cache that it says it flushes, in the kernel's words.
    pub(super) fn write_cache(self) -> Option<String> {
        let file = format!("/sys/dev/block/{}:{}/queue/write_cache", self.major, self.minor);
        Some(fs::read_to_string(file).ok()?.trim().to_owned())
    }
}

fn sectors_written(diskstats: &str, device: Device) -> Option<u64> {
    diskstats.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let mut number = || fields.next()?.parse::<u64>().ok();
        let is_it = number()? == device.major && number()? == device.minor;
        // A name, three figures of reads and their time, writes completed and merged.
        if is_it { fields.nth(7)?.parse().ok() } else { None }
    })
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// All of its pages in RAM, shared libraries and mapped files included.
    pub(super) rss: u64,
    /// What is its own alone.
    pub(super) anon: u64,
}

/// Of a process; `None`: this one.
pub(super) fn memory(pid: Option<u32>) -> Option<Memory> {
    memory_in(&fs::read_to_string(proc_file(pid, "status")).ok()?)
}

fn memory_in(status: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory { rss: kib("VmRSS")? * 1024, anon: kib("RssAnon")? * 1024 })
}

/// Seconds of processor time a process has used; `None`: this one.
pub(super) fn cpu_seconds(pid: Option<u32>) -> Option<f64> {
    let stat = fs::read_to_string(proc_file(pid, "stat")).ok()?;
    // The name may contain anything, but it ends at the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn proc_file(pid: Option<u32>, name: &str) -> String {
    match pid {
        Some(pid) => format!("/proc/{pid}/{name}"),
        None => format!("/proc/self/{name}"),
    }
}

/// Runnable processes over the last minute.
pub(super) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_own_line_counts() {
        let text = " 254       0 vda 1 2 3 4 5 6 77 8 9 10 11\n 254       1 vda1 1 2 3 4 5 6 99 8 9 10 11\n";
        assert_eq!(sectors_written(text, Device { major: 254, minor: 0 }), Some(77));
        assert_eq!(sectors_written(text, Device { major: 254, minor: 1 }), Some(99));
        assert_eq!(sectors_written(text, Device { major: 8, minor: 1 }), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\nRssFile:\t 1024 kB\n";
        assert_eq!(memory_in(text), Some(Memory { rss: 2 << 20, anon: 1 << 20 }));
        assert_eq!(memory_in("VmRSS: 1 kB\n"), None);
    }
}
