//! What a person who starts the server sees first.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;

/// Says where the server listens and what it keeps: a banner on a terminal, else one line.
pub(super) fn print(api: SocketAddr, admin: Option<SocketAddr>, store: &str, durable: bool) {
    let mut out = std::io::stdout();
    let text = if out.is_terminal() { banner(api, admin, store, durable) } else { line(api, admin) };
    // Nobody reads it: no reason not to serve.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(api: SocketAddr, admin: Option<SocketAddr>) -> String {
    match admin {
        Some(admin) => format!("mainstay api http://{api} admin http://{admin}\n"),
        None => format!("mainstay api http://{api}\n"),
    }
}

fn banner(api: SocketAddr, admin: Option<SocketAddr>, store: &str, durable: bool) -> String {
    let kept = if durable {
        "durable: an answered write survives a crash"
    } else {
        "NOT durable: everything is gone when the server stops"
    };
    let admin = admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}"));
    format!(
        "\n  mainstay {version}\n\n  API        http://{api}\n  Dashboard  http://{api}/ui/\n  API docs   http://{api}/docs\n  \
         Admin      {admin}\n  Store      {store}\n             {kept}\n\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_says_whether_the_store_is_durable() {
        let api = ([127, 0, 0, 1], 6246).into();
        let text = banner(api, None, "memory:", false);
        assert!(text.contains("http://127.0.0.1:6246") && text.contains("NOT durable"), "{text}");
        assert!(!banner(api, None, "sqlite:./x.db", true).contains("NOT"));
    }
}
