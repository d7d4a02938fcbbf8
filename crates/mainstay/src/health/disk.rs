//! Room on a disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;

use super::Check;
use crate::{Error, Result};

/// A check of the file system that holds `path`: down when it has less than 5 % free, or less than
/// [`min_free_bytes`](Disk::min_free_bytes), or when it does not answer.
pub fn disk(path: impl Into<PathBuf>) -> Disk {
    Disk { path: path.into(), bytes: 0, percent: 5.0, looking: Arc::default() }
}

/// See [`disk`].
#[derive(Debug, Clone)]
#[must_use = "a check is given to `Boot::check`"]
pub struct Disk {
    path: PathBuf,
    bytes: u64,
    percent: f64,
    looking: Arc<AtomicBool>,
}

impl Disk {
    /// What must be free at least, in bytes. Defaults to 0.
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// What must be free at least, in percent of the file system. Defaults to 5.
    pub fn min_free_percent(mut self, percent: f64) -> Self {
        self.percent = percent;
        self
    }

    fn judge(&self, free: u64, total: u64) -> Result<()> {
        let percent = if total == 0 { 100.0 } else { free as f64 * 100.0 / total as f64 };
        if free >= self.bytes && percent >= self.percent {
            return Ok(());
        }
        let (path, free) = (self.path.display(), human_bytes(free));
        Err(Error::from(format!("{free} ({percent:.1} %) are free on the disk of {path}")))
    }
}

impl Check for Disk {
    fn look(&self) -> BoxFuture<'static, Result<()>> {
        let disk = self.clone();
        Box::pin(async move {
            // A network disk that hangs holds a thread each time: one is enough.
            if disk.looking.swap(true, Ordering::Relaxed) {
                return Err(Error::from(format!("the disk of {} has not answered yet", disk.path.display())));
            }
            let asked = tokio::task::spawn_blocking(move || {
                let answer = rustix::fs::statvfs(&disk.path);
                disk.looking.store(false, Ordering::Relaxed);
                let answer = answer.map_err(|error| {
                    Error::from(std::io::Error::from(error))
                        .context(format!("cannot look at {}", disk.path.display()))
                })?;
                // What is kept for root is not free for us.
                disk.judge(answer.f_bavail * answer.f_frsize, answer.f_blocks * answer.f_frsize)
            });
            asked.await.map_err(Error::from_any)?
        })
    }
}

/// `1.5 GiB`.
pub(super) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_thresholds_count() {
        for (check, free, total, fine) in [
            (disk("/").min_free_percent(0.0), 0, 100, true),
            (disk("/"), 5, 100, true),
            (disk("/"), 4, 100, false),
            (disk("/").min_free_percent(0.0).min_free_bytes(10), 9, 10, false),
            (disk("/").min_free_percent(50.0).min_free_bytes(10), 10, 20, true),
            (disk("/proc"), 0, 0, true),
        ] {
            assert_eq!(check.judge(free, total).is_ok(), fine, "{check:?} {free}/{total}");
        }
        let error = disk("/data").min_free_bytes(u64::MAX).judge(3 << 29, 1 << 40).unwrap_err();
        assert_eq!(error.to_string(), "1.5 GiB (0.1 %) are free on the disk of /data");
    }

    #[tokio::test]
    async fn a_real_disk_is_asked_and_one_that_is_not_there_is_an_error() {
        let here = tempfile::tempdir().unwrap();
        disk(here.path()).min_free_percent(0.0).look().await.unwrap();
        assert!(disk(here.path()).min_free_bytes(u64::MAX).look().await.is_err());
        let error = disk(here.path().join("gone")).look().await.unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_one_thread_only() {
        let check = disk("/");
        check.looking.store(true, Ordering::Relaxed);
        assert!(check.look().await.unwrap_err().to_string().contains("has not answered yet"));
    }
}
