//! The thread that ends the process when nothing else does.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Ends the process with code 1 when it was armed and the time has passed: also when every runtime is blocked.
#[derive(Clone)]
pub(crate) struct Watchdog(SyncSender<Duration>);

impl Watchdog {
    /// Starts the thread. `last_words` is what it prints before it ends the process.
    pub fn start(last_words: impl FnOnce() -> String + Send + 'static) -> std::io::Result<Self> {
        let (arm, armed) = sync_channel(1);
        named("mainstay-watchdog", move || watch(&armed, last_words))?;
        Ok(Self(arm))
    }

    /// Begins the countdown. Only the first call counts.
    pub fn arm(&self, after: Duration) {
        let _ = self.0.try_send(after);
    }
}

fn watch(armed: &Receiver<Duration>, last_words: impl FnOnce() -> String + Send + 'static) {
    // The app is gone without having been told to stop: there is nothing to watch.
    let Ok(after) = armed.recv() else { return };
    // Whatever comes now, another arming or the sender's end, does not stop it: only the process's exit does.
    std::thread::sleep(after);
    // Straight to stderr: the log may be what is stuck. On a thread of its own, because stderr may be, too, and so may
    // be what knows who is late.
    let speaking = named("mainstay-last-words", move || {
        use std::io::Write as _;
        let text = format!("the grace is over, ending the process by force\n{}\n", last_words());
        let _ = std::io::stderr().write_all(text.as_bytes());
    });
    for _ in 0..20 {
        if speaking.as_ref().is_ok_and(std::thread::JoinHandle::is_finished) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // An exit runs what libraries have registered for it, which may hang as well.
    let exiting = named("mainstay-exit", || std::process::exit(1));
    std::thread::sleep(if exiting.is_ok() { Duration::from_millis(400) } else { Duration::ZERO });
    std::process::abort();
}

fn named(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(body)
}
