//! Where lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where lines go. In configuration: `stderr`, `stdout`, or the path of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Output {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to this file, which is made if there is none. It is opened anew by [`Log::reopen`](super::Log::reopen).
    File(PathBuf),
}

impl Output {
    pub(super) fn open(&self) -> Result<Sink, String> {
        match self {
            Output::Stderr => Ok(Sink::new(Box::new(io::stderr()), None)),
            Output::Stdout => Ok(Sink::new(Box::new(io::stdout()), None)),
            Output::File(path) => {
                let file =
                    append(path).map_err(|error| format!("cannot log to {}: {error}", path.display()))?;
                Ok(Sink::new(Box::new(file), Some(path.clone())))
            }
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Output::Stderr => io::stderr().is_terminal(),
            Output::Stdout => io::stdout().is_terminal(),
            Output::File(_) => false,
        }
    }
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        match &*text {
            "stderr" => Output::Stderr,
            "stdout" => Output::Stdout,
            path => Output::File(path.into()),
        }
    }
}

impl From<Output> for String {
    fn from(output: Output) -> Self {
        match output {
            Output::Stderr => "stderr".to_owned(),
            Output::Stdout => "stdout".to_owned(),
            Output::File(path) => path.display().to_string(),
        }
    }
}

/// An output that is open.
pub(super) struct Sink {
    out: Box<dyn Write + Send>,
    file: Option<PathBuf>,
    /// The last write ended within a line: what comes next must not be glued to it.
    torn: bool,
}

impl Sink {
    pub fn new(out: Box<dyn Write + Send>, file: Option<PathBuf>) -> Self {
        Self { out, file, torn: false }
    }

    /// Writes whole lines; answers how many of them are lost.
    pub fn write(&mut self, lines: &[u8]) -> u64 {
        if self.torn && self.write_through(b"\n") == 1 {
            self.torn = false;
        }
        let done = if self.torn { 0 } else { self.write_through(lines) };
        if done < lines.len() {
            self.torn |= done > 0 && lines[done - 1] != b'\n';
        }
        let lost = lines[done..].iter().filter(|byte| **byte == b'\n').count() as u64;
        // What was written is only out when it is flushed.
        let _ = self.out.flush();
        lost
    }

    /// As far as it goes.
    fn write_through(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            match self.out.write(&bytes[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody has made our output non-blocking; this thread may wait for it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(crate::millis(10));
                }
                Err(_) => break,
            }
        }
        done
    }

    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.file {
            self.out = Box::new(append(path)?);
            self.torn = false;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A disk with so much room.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = bytes.len().min(disk.0);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= n;
            disk.1.extend(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_lost_on_a_full_disk_are_counted_and_none_is_glued_to_a_torn_one() {
        let disk = Disk::default();
        let mut sink = Sink::new(Box::new(disk.clone()), None);
        let room = |n| disk.0.lock().unwrap().0 = n;
        room(6);
        assert_eq!(sink.write(b"one\ntwo\nthree\n"), 2);
        assert_eq!(sink.write(b"four\n"), 1);
        room(100);
        assert_eq!(sink.write(b"five\n"), 0);
        assert_eq!(disk.0.lock().unwrap().1, b"one\ntw\nfive\n");
    }

    #[test]
    fn a_rotated_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sink = Output::from(path.display().to_string()).open().unwrap();
        sink.write(b"one\n");
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        sink.write(b"two\n");
        sink.reopen().unwrap();
        sink.write(b"three\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("old")).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        let missing = Output::File(folder.path().join("no/log")).open();
        assert!(missing.err().unwrap().contains("no/log"));
    }
}
