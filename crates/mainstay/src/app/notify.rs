//! Telling systemd how we are, where it asked to be told (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).

use std::time::Duration;

use crate::health::Health;

/// A reload begins; `READY=1` ends it. The time lets systemd tell this reload from an earlier one (`Type=notify-reload`).
pub(crate) fn reloading() {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Monotonic);
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
}

/// Keeps systemd's watchdog quiet as long as the service makes progress: at half of its interval. Runs on the control
/// thread, so that a blocked runtime is noticed instead of being the one who tells.
pub(crate) async fn watchdog(health: Health) {
    let Some(interval) = watchdog_interval(|name| std::env::var(name).ok()) else { return };
    let mut tick = tokio::time::interval(interval / 2);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if health.live() {
            notify("WATCHDOG=1");
        }
    }
}

/// `None` if systemd asks for no signs of life, or asks another process.
fn watchdog_interval(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    (ours && micros >= 2).then(|| Duration::from_micros(micros))
}

/// Sends `READY=1`, `STOPPING=1` and the like; nothing happens where nobody listens.
pub(crate) fn notify(state: &str) {
    #[cfg(target_os = "linux")]
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&socket),
        };
        let sent = address.and_then(|address| {
            let from = UnixDatagram::unbound()?;
            from.set_nonblocking(true)?;
            from.send_to_addr(state.as_bytes(), &address)
        });
        if let Err(error) = sent {
            tracing::debug!(%error, state, "cannot notify the service manager");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = state;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_for_whom_they_were_asked_of() {
        let ask = |micros: &'static str, pid: Option<String>| {
            watchdog_interval(|name| match name {
                "WATCHDOG_USEC" => Some(micros.to_owned()),
                _ => pid.clone(),
            })
        };
        let ours = Some(std::process::id().to_string());
        assert_eq!(ask("2000000", None), Some(crate::secs(2)));
        assert_eq!(ask("2000000", ours), Some(crate::secs(2)));
        assert_eq!(ask("2000000", Some("1".into())), None);
        assert_eq!(ask("0", None), None);
        assert_eq!(ask("soon", None), None);
        assert_eq!(watchdog_interval(|_| None), None);
    }
}
