//! The command, its signals and its end.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::Instant;

use super::keep::Keeper;
use crate::cli::Failure;
use crate::cli::process::{Target, at};

/// As shells have it.
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// How often to look whether a group is gone.
const LOOK: Duration = Duration::from_millis(20);

/// Signals that are passed on, from now on ours.
pub(super) struct Signals {
    hup: unix::Signal,
    int: unix::Signal,
    quit: unix::Signal,
    term: unix::Signal,
    usr1: unix::Signal,
    usr2: unix::Signal,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard(Signal);

impl Heard {
    pub fn number(self) -> u8 {
        self.0.as_raw() as u8
    }
}

impl Signals {
    pub fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            term: signal(SignalKind::terminate())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) -> Heard {
        Heard(tokio::select! {
            _ = self.hup.recv() => Signal::HUP,
            _ = self.int.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.term.recv() => Signal::TERM,
            _ = self.usr1.recv() => Signal::USR1,
            _ = self.usr2.recv() => Signal::USR2,
        })
    }
}

/// How the command ended.
pub(super) struct Ended {
    /// Its exit code, or 128 and the signal that ended it.
    pub code: u8,
    /// Why it was ended, if the lock was lost.
    pub lost: Option<String>,
}

/// The command, running.
pub(super) struct Running {
    child: Child,
    target: Option<Target>,
    /// It shares our group at a terminal: what is typed there reaches it by itself, while the group is in front.
    foreground: bool,
}

/// Starts the command.
///
/// # Errors
/// It cannot be run.
pub(super) fn start(command: &[OsString], lock: &str, token: u64) -> Result<Running, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::usage("there is no command"));
    };
    // Out of its group a command could not read from the terminal: it would be stopped.
    let foreground = std::io::stdin().is_terminal();
    let mut starting = Command::new(program);
    starting
        .args(arguments)
        .env("MAINSTAY_LOCK", lock)
        .env("MAINSTAY_FENCING_TOKEN", token.to_string())
        .kill_on_drop(true);
    if !foreground {
        starting.process_group(0);
    }
    let child = starting.spawn().map_err(|error| {
        let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
        let program = program.to_string_lossy();
        Failure::new(format!("cannot run {program}: {error}"))
            .tip("what stands behind -- is the command and its arguments")
            .with_code(code)
    })?;
    let target = if foreground { Target::process(&child) } else { Target::group(&child) };
    Ok(Running { child, target, foreground })
}

impl Running {
    /// Runs it to its end; ends it if the lock is lost.
    ///
    /// # Errors
    /// The system does not say how it ended.
    pub async fn run(
        mut self,
        keeper: &mut Keeper,
        signals: &mut Signals,
        kill_after: Duration,
    ) -> Result<Ended, Failure> {
        let mut lost = None;
        let mut kill_at: Option<Instant> = None;
        let status = loop {
            tokio::select! {
                // The end of the process counts before anything that would stop it.
                biased;
                status = self.child.wait() => break status,
                why = keeper.lost(), if lost.is_none() => {
                    lost = Some(why);
                    self.signal(Signal::TERM);
                    kill_at = Some(Instant::now() + kill_after);
                }
                heard = signals.next() => self.pass_on(heard),
                () = at(kill_at) => {
                    kill_at = None;
                    self.signal(Signal::KILL);
                }
            }
        };
        if lost.is_some() && !self.foreground {
            // The command has ended; what it left running in its group has lost the lock as well.
            self.end_group(kill_at).await;
        }
        let status =
            status.map_err(|error| Failure::new(format!("cannot tell how the command ended: {error}")))?;
        Ok(Ended { code: code(status), lost })
    }

    /// Waits for the rest of the group until its time is over. They are nobody's children any more: one can only look.
    async fn end_group(&self, kill_at: Option<Instant>) {
        while let Some(at) = kill_at.filter(|at| *at > Instant::now()) {
            if !self.target.is_some_and(Target::is_there) {
                return;
            }
            tokio::time::sleep_until(at.min(Instant::now() + LOOK)).await;
        }
        self.signal(Signal::KILL);
    }

    fn pass_on(&self, Heard(signal): Heard) {
        let typed = matches!(signal, Signal::INT | Signal::QUIT) && is_in_front();
        if !(self.foreground && typed) {
            self.signal(signal);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(target) = self.target {
            target.signal(signal);
        }
    }
}

/// Whether our group is the one that the terminal sends its signals to: not so in a shell's background.
fn is_in_front() -> bool {
    rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|front| front == rustix::process::getpgrp())
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
