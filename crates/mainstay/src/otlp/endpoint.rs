//! Where a collector is.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::secs;

const CONNECT: Duration = secs(2);
const ANSWER: Duration = secs(10);
/// An answer is looked at for its status only.
const HEAD: usize = 1024;

/// The address of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `HOST:PORT`.
    authority: String,
    path: String,
}

/// Whether an endpoint can be used.
pub(crate) fn check(endpoint: &str) -> Result<(), String> {
    Endpoint::parse(endpoint).map(drop)
}

impl Endpoint {
    /// `None` for an empty text: no export.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            "must be http://HOST[:PORT], of a collector nearby that takes OTLP over HTTP (no TLS)".to_owned()
        };
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.is_empty()
            || authority.contains(|c: char| c == '@' || c.is_whitespace() || c.is_control())
        {
            return Err(wrong());
        }
        let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if port { authority.to_owned() } else { format!("{authority}:4318") };
        let path = if path.len() > 1 { path.to_owned() } else { "/v1/traces".to_owned() };
        Ok(Some(Self { authority, path }))
    }

    /// Sends a body and waits for the answer.
    pub fn post(&self, body: &str) -> io::Result<()> {
        let mut addresses = self.authority.to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| io::Error::other("the host has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let (host, path, length) = (&self.authority, &self.path, body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        let mut piece = [0; HEAD];
        while !answer.windows(2).any(|end| end == b"\r\n") && answer.len() < HEAD {
            match stream.read(&mut piece)? {
                0 => break,
                n => answer.extend_from_slice(&piece[..n]),
            }
        }
        let status = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        match status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(()),
            _ => Err(io::Error::other(format!("the collector answered `{status}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_wrong_ones_are_refused() {
        for (text, authority, path) in [
            ("http://collector", "collector:4318", "/v1/traces"),
            ("http://127.0.0.1:4320/", "127.0.0.1:4320", "/v1/traces"),
            ("http://[::1]:9/x/y", "[::1]:9", "/x/y"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap().unwrap();
            assert_eq!((&*endpoint.authority, &*endpoint.path), (authority, path));
        }
        assert_eq!(Endpoint::parse(" "), Ok(None));
        for wrong in ["https://collector", "collector:4318", "http://", "http://a@b", "http://a\r\nb"] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
