//! Room in memory: that of the container if there is one, else of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::Check;
use super::disk::human_bytes;
use crate::telemetry::resident_bytes;
use crate::{Error, Result};

/// A check of memory: down when more than 90 % of the limit is in use. The limit is that of the control group
/// (version 2 or 1; of all above it, the tightest), else the machine's memory. Caches that can be given up do not
/// count as used.
pub fn memory() -> Memory {
    Memory { percent: 90.0, resident: u64::MAX, root: PathBuf::from("/") }
}

/// See [`memory`].
#[derive(Debug, Clone)]
#[must_use = "a check is given to `Boot::check`"]
pub struct Memory {
    percent: f64,
    resident: u64,
    /// `/`, but for tests.
    root: PathBuf,
}

/// What is in use, of what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Usage {
    used: u64,
    limit: u64,
    of: &'static str,
}

impl Memory {
    /// What may be in use at most, in percent of the limit. Defaults to 90.
    pub fn max_percent(mut self, percent: f64) -> Self {
        self.percent = percent;
        self
    }

    /// What this process may have resident at most, in bytes. Unlimited by default.
    pub fn max_resident_bytes(mut self, bytes: u64) -> Self {
        self.resident = bytes;
        self
    }

    fn judge(&self) -> Result<()> {
        let unknown = || Error::from("what memory is in use cannot be read here");
        let usage = cgroup2(&self.root).or_else(|| cgroup1(&self.root));
        let machine = machine(&self.root);
        // A limit above the machine's memory is none.
        let usage = match (usage, machine) {
            (Some(group), Some(machine)) if group.limit <= machine.limit => group,
            (_, Some(machine)) => machine,
            (Some(group), None) => group,
            (None, None) => return Err(unknown()),
        };
        let resident = resident_bytes(&self.root.join("proc")).unwrap_or_default();
        let percent = usage.used as f64 * 100.0 / usage.limit.max(1) as f64;
        if percent <= self.percent && resident <= self.resident {
            return Ok(());
        }
        let (used, limit, of) = (human_bytes(usage.used), human_bytes(usage.limit), usage.of);
        let resident = human_bytes(resident);
        Err(Error::from(format!(
            "{used} of {limit} ({percent:.1} %) of the {of} are in use, {resident} by this process"
        )))
    }
}

impl Check for Memory {
    fn look(&self) -> BoxFuture<'static, Result<()>> {
        // Files of the kernel: a read of a few microseconds, no disk.
        let judged = self.judge();
        Box::pin(std::future::ready(judged))
    }
}

/// Version 2: one tree for everything.
fn cgroup2(root: &Path) -> Option<Usage> {
    let own = own_group(root, |controllers| controllers.is_empty())?;
    tightest(&root.join("sys/fs/cgroup"), &own, "memory.max", "memory.current", "inactive_file")
}

/// Version 1: memory has a tree of its own.
fn cgroup1(root: &Path) -> Option<Usage> {
    let own = own_group(root, |controllers| controllers.split(',').any(|name| name == "memory"))?;
    let tree = root.join("sys/fs/cgroup/memory");
    tightest(&tree, &own, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
}

/// The group's path below the tree.
fn own_group(root: &Path, is_it: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        is_it(parts.next()?).then(|| parts.next().unwrap_or_default().trim_start_matches('/').into())
    })
}

/// Of the group and all above it, the one nearest to its limit. In a container the paths may be those of the host: then
/// the root of what is mounted is the group.
fn tightest(tree: &Path, own: &Path, limit: &str, used: &str, cache: &str) -> Option<Usage> {
    let groups = own.ancestors().map(|group| tree.join(group));
    let usages = groups.filter_map(|group| {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        // `max` is no number, and no limit.
        let limit: u64 = read(limit)?.trim().parse().ok()?;
        let used: u64 = read(used)?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let cache = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse().ok()).unwrap_or(0);
        Some(Usage { used: used.saturating_sub(cache), limit, of: "control group" })
    });
    usages.max_by_key(|usage| u128::from(usage.used) * 1_000_000 / u128::from(usage.limit.max(1)))
}

fn machine(root: &Path) -> Option<Usage> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    let (total, available) = (kib("MemTotal")? << 10, kib("MemAvailable")? << 10);
    Some(Usage { used: total.saturating_sub(available), limit: total, of: "machine" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine of 1,000 MiB, half of it in use, and a process that has 100 pages resident.
    fn fake(files: &[(&str, &str)]) -> (tempfile::TempDir, Memory) {
        let dir = tempfile::tempdir().unwrap();
        let common = [
            ("proc/meminfo", "MemTotal:  1024000 kB\nMemFree: 1 kB\nMemAvailable:   512000 kB\n"),
            ("proc/self/statm", "500 100 50 1 0 60 0\n"),
        ];
        for (path, text) in common.iter().chain(files) {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let memory = Memory { root: dir.path().to_owned(), ..memory() };
        (dir, memory)
    }

    fn verdict(files: &[(&str, &str)]) -> String {
        let (_dir, memory) = fake(files);
        memory.max_percent(0.0).judge().unwrap_err().to_string()
    }

    #[test]
    fn without_a_group_the_machine_counts() {
        assert!(
            verdict(&[]).starts_with("500.0 MiB of 1000.0 MiB (50.0 %) of the machine"),
            "{}",
            verdict(&[])
        );
        let (_dir, memory) = fake(&[]);
        memory.judge().unwrap();
        assert!(memory.max_resident_bytes(1).judge().is_err(), "the process's own bound");
    }

    #[test]
    fn a_group_of_version_2_counts_without_its_cache_and_the_tightest_above_it_decides() {
        let (limit, used) = (format!("{}\n", 200 * MIB), format!("{}\n", 100 * MIB));
        let stat = format!("anon 1\ninactive_file {}\nactive_file 3\n", 20 * MIB);
        let mut files = vec![
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1\n"),
            ("sys/fs/cgroup/a/memory.max", limit.as_str()),
            ("sys/fs/cgroup/a/memory.current", used.as_str()),
            ("sys/fs/cgroup/a/memory.stat", stat.as_str()),
        ];
        let text = verdict(&files);
        assert!(text.starts_with("80.0 MiB of 200.0 MiB (40.0 %) of the control group"), "{text}");
        // The same seen from inside a container.
        files[0].1 = "0::/\n";
        files.push(("sys/fs/cgroup/memory.max", "104857600"));
        files.push(("sys/fs/cgroup/memory.current", "94371840"));
        let text = verdict(&files);
        assert!(text.starts_with("90.0 MiB of 100.0 MiB (90.0 %) of the control group"), "{text}");
    }

    #[test]
    fn a_group_of_version_1_counts_and_a_limit_beyond_the_machine_is_none() {
        let mut files = vec![
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n"),
            ("sys/fs/cgroup/memory/memory.stat", "cache 9\ntotal_inactive_file 52428800\n"),
        ];
        let text = verdict(&files);
        assert!(text.starts_with("50.0 MiB of 100.0 MiB (50.0 %) of the control group"), "{text}");
        files[1].1 = "9223372036854771712\n";
        assert!(verdict(&files).contains("of the machine"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_can_be_read() {
        let error = memory().max_percent(0.0).judge().unwrap_err().to_string();
        assert!(error.contains("are in use"), "{error}");
    }
}
