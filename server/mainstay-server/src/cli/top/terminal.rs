//! The terminal, for as long as a live picture is on it.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use rustix::time::Timespec;

/// A second screen without a cursor; keys are not echoed. Dropped, everything is as it was.
pub(super) struct Terminal {
    before: Option<Termios>,
}

impl Terminal {
    pub(super) fn take() -> io::Result<Terminal> {
        // Standard input may be something else; then there are no keys.
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            // Signals stay: Ctrl-C is the way out that everybody knows.
            quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
            tcsetattr(io::stdin(), OptionalActions::Now, &quiet)?;
        }
        let terminal = Terminal { before };
        write("\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(terminal)
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
            _ => (24, 80),
        }
    }

    /// Replaces the picture, line by line: nothing flickers.
    pub(super) fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = String::from("\x1b[H");
        for (n, line) in text.lines().enumerate() {
            if n > 0 {
                out.push_str("\r\n");
            }
            // The first line in reverse, as such programs have it.
            let (on, off) = if n == 0 { ("\x1b[7m", "\x1b[0m") } else { ("", "") };
            out += &format!("{on}{line}\x1b[K{off}");
        }
        write(&(out + "\x1b[J"))
    }

    /// Whether `q` was pressed since the last call.
    pub(super) fn quit_was_pressed(&self) -> bool {
        self.before.is_some() && keys().any(|key| matches!(key, b'q' | b'Q' | 3))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whatever happens here, the rest is worth a try.
        let _ = write("\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// The keys that have been pressed; never waits.
fn keys() -> impl Iterator<Item = u8> {
    std::iter::from_fn(|| {
        let stdin = io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut ready, Some(&now)).ok()? == 0 || !ready[0].revents().contains(PollFlags::IN) {
            return None;
        }
        let mut key = [0];
        // Of the file descriptor: a buffer between would hide keys from the poll.
        match rustix::io::read(&stdin, &mut key) {
            Ok(1) => Some(key[0]),
            _ => None,
        }
    })
    .take(64)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
