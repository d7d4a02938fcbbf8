//! Fencing of files: a file that is replaced under its token.
//!
//! Beside `report.csv` lie `report.csv.fence`, which names the lock and the highest token the file was written under,
//! and `report.csv.lock`, which writers hold for the length of one write. Readers need neither: they see the old file or
//! the new one, never a part.
//!
//! ```
//! # use mainstay::{core::{lease::Token, name::Name}, lock::fence::{Fence, file}};
//! # let folder = std::env::temp_dir().join(format!("mainstay-fence-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let fence = |token| Fence::new(Name::new("report").unwrap(), Token(token));
//! # let report = folder.join("report.csv");
//! file::replace(&report, &fence(7), b"new")?;
//! let late = file::replace(&report, &fence(6), b"old").unwrap_err();
//! assert_eq!((late.stale().map(|stale| stale.highest), std::fs::read(&report)?), (Some(Token(7)), b"new".to_vec()));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use mainstay_core::{lease::Token, name::Name};

use super::{Fence, Stale};

/// How long to wait for another writer. One that was stopped in the middle of its write holds the file for as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Replaces the file by `contents`, durably, unless it was written under a later grant of the lock.
///
/// Blocks on the disk, and for up to 10 s on another writer: call it through
/// [`TaskSet::spawn_blocking`](crate::TaskSet::spawn_blocking). The same token may write again. After a crash in the
/// middle the old file is there, and the token counts as seen. On network file systems it is worth as much as their
/// `flock`.
///
/// The new file has the permissions of the old one, but belongs to whoever writes it. Through a symbolic link the file
/// it leads to is replaced; other names of that file (hard links) keep the old contents.
///
/// # Errors
/// [`FileError::stale`] for a token that came too late; nothing was changed. Else the disk's trouble, also a fence file
/// that cannot be read, or one of another lock, whose tokens cannot be compared with this one's.
pub fn replace(path: impl AsRef<Path>, fence: &Fence, contents: &[u8]) -> Result<(), FileError> {
    let path = &target(path.as_ref())?;
    let _alone = alone(&beside(path, "lock"))?;
    let mark = beside(path, "fence");
    match highest(&mark, fence.lock())? {
        Some(highest) if highest > fence.token() => {
            return Err(FileError(Inner::Stale(Stale { fence: fence.clone(), highest })));
        }
        // The mark first: a writer that comes between it and the file is late, and knows it.
        Some(highest) if highest == fence.token() => {}
        _ => put(&mark, format!("{} {}\n", fence.token().0, fence.lock()).as_bytes())?,
    }
    put(path, contents)?;
    Ok(())
}

/// The highest token the file was written under; `None` if it never was under this lock.
///
/// # Errors
/// As [`replace`].
pub fn highest_token(path: impl AsRef<Path>, lock: &Name) -> Result<Option<Token>, FileError> {
    Ok(highest(&beside(&target(path.as_ref())?, "fence"), lock)?)
}

/// Why a file was not replaced.
#[derive(Debug)]
pub struct FileError(Inner);

#[derive(Debug)]
enum Inner {
    Stale(Stale),
    Io(io::Error),
}

impl FileError {
    /// What the write came too late for, if that is why.
    pub fn stale(&self) -> Option<&Stale> {
        match &self.0 {
            Inner::Stale(stale) => Some(stale),
            Inner::Io(_) => None,
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        FileError(Inner::Io(error))
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Stale(stale) => stale.fmt(f),
            Inner::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

/// Where a symbolic link leads: that file is replaced, and fenced, by whatever name it is written to.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(target) => Ok(target),
        // There is no file yet; a link that leads nowhere is refused.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            Ok(path.to_owned())
        }
        Err(error) => Err(error),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// One writer at a time, also across processes; the system gives it up when its holder dies.
fn alone(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    let began = crate::time::monotonic_us();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        let waited = Duration::from_micros(crate::time::monotonic_us() - began);
        if waited >= PATIENCE {
            let message = format!("another writer has held {} for {PATIENCE:?}", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        // There is no way to wait for it with a time limit.
        std::thread::sleep((waited / 4).clamp(Duration::from_millis(1), Duration::from_millis(50)));
    }
}

fn highest(mark: &Path, lock: &Name) -> io::Result<Option<Token>> {
    let text = match fs::read_to_string(mark) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let read = || {
        let (token, name) = text.trim_end().split_once(' ')?;
        Some((Token(token.parse().ok()?), Name::new(name).ok()?))
    };
    match read() {
        Some((token, name)) if name == *lock => Ok(Some(token)),
        Some((_, name)) => Err(invalid(format!(
            "{} belongs to lock `{name}`, whose tokens say nothing about those of `{lock}`",
            mark.display()
        ))),
        None => {
            Err(invalid(format!("{} is damaged: it should be a token and a lock's name", mark.display())))
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Whole or not at all, and on the disk when it returns. Only called alone, so that the name of what is in the making is
/// nobody else's.
fn put(path: &Path, contents: &[u8]) -> io::Result<()> {
    let making = beside(path, "new");
    let mut file = File::create(&making)?;
    match fs::metadata(path) {
        // What is in the making must not be open to more than the old one was.
        Ok(old) => file.set_permissions(old.permissions())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&making, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(lock: &str, token: u64) -> Fence {
        Fence::new(Name::new(lock).unwrap(), Token(token))
    }

    #[test]
    fn a_file_takes_no_write_of_an_earlier_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, &fence("l", 5), b"five").unwrap();
        replace(&path, &fence("l", 5), b"five again").unwrap();
        replace(&path, &fence("l", 9), b"nine").unwrap();
        let late = replace(&path, &fence("l", 8), b"eight").unwrap_err();
        assert_eq!(late.stale().unwrap().highest, Token(9));
        assert_eq!(fs::read(&path).unwrap(), b"nine");
        assert_eq!(highest_token(&path, &"l".parse().unwrap()).unwrap(), Some(Token(9)));
    }

    #[test]
    fn tokens_of_another_lock_and_damaged_marks_are_not_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, &fence("l", 5), b"five").unwrap();
        let other = replace(&path, &fence("m", 9), b"nine").unwrap_err();
        assert!(other.stale().is_none() && other.to_string().contains("lock `l`"), "{other}");
        fs::write(beside(&path, "fence"), "5").unwrap();
        let damaged = replace(&path, &fence("l", 9), b"nine").unwrap_err();
        assert!(damaged.to_string().contains("damaged"), "{damaged}");
        assert_eq!(fs::read(&path).unwrap(), b"five");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_keeps_its_permissions_and_the_links_that_lead_to_it() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("state"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("state", &link).unwrap();
        replace(&link, &fence("l", 5), b"five").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"five");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // By either name it is the same file, and the same fence.
        assert!(replace(&path, &fence("l", 4), b"four").unwrap_err().stale().is_some());
        assert_eq!(highest_token(&link, &"l".parse().unwrap()).unwrap(), Some(Token(5)));
        symlink("nowhere", folder.path().join("lost")).unwrap();
        assert!(replace(folder.path().join("lost"), &fence("l", 5), b"five").is_err());
    }

    #[test]
    fn of_two_writers_at_once_the_later_grant_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::thread::scope(|scope| {
            for token in 1..=8 {
                let path = &path;
                scope.spawn(move || {
                    // Which comes first is chance; whoever comes after a later one is refused.
                    let _ = replace(path, &fence("l", token), token.to_string().as_bytes());
                });
            }
        });
        assert_eq!(fs::read(&path).unwrap(), b"8");
    }
}
