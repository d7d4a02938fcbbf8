//! Panics as records: one for each, where it happens, with the context it happens in.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// From now on every panic of the process is one record in its log; where nobody listens, what was there before tells
/// of it.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if tracing::enabled!(tracing::Level::ERROR) { tell(panic) } else { before(panic) }
        }));
        INSTALLED.store(true, Relaxed);
    });
}

fn tell(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = crate::tasks::panic_message(panic.payload());
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default();
    // Taken only when `RUST_BACKTRACE` asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(panic = %message, %location, thread, backtrace, "panicked");
}

/// Who catches a panic tells of it here: it has been told already where there is a hook.
pub(crate) fn caught(who: &dyn std::fmt::Display, panic: &(dyn Any + Send)) {
    if !INSTALLED.load(Relaxed) {
        tracing::error!(panic = %crate::tasks::panic_message(panic), "{who} panicked");
    }
}
