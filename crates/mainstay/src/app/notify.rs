//! Telling systemd how we are, where it asked to be told (`NOTIFY_SOCKET`).

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
