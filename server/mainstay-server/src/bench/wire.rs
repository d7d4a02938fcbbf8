//! The least of an HTTP/1.1 client: one connection that is kept, one request at a time.
//!
//! Client and server share the cores here, so a convenient client would be measured too. It sends no
//! `Idempotency-Key`, which clients that retry should send, and which costs the server a little more.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Error, Result};

pub(super) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
}

/// What was answered.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(to).await.map_err(Error::doing(format!("cannot connect to {to}")))?;
        stream.set_nodelay(true).map_err(Error::doing("the connection"))?;
        Ok(Connection { stream, out: Vec::new(), input: Vec::new() })
    }

    /// The body of a good answer.
    pub(super) async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<&[u8]> {
        let answer = self.send(method, path, body).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        let said = String::from_utf8_lossy(answer.body);
        Err(Error::new(format!("{method} {path} was answered with {}: {said}", answer.status)))
    }

    pub(super) async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<Answer<'_>> {
        self.out.clear();
        for part in [method, " ", path, " HTTP/1.1\r\nhost: bench\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        if !body.is_empty() {
            let head = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
            self.out.extend_from_slice(head.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body.as_bytes());
        let lost = || Error::doing("the connection to the server was lost");
        self.stream.write_all(&self.out).await.map_err(lost())?;
        self.input.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.input).await.map_err(lost())? == 0 {
                return Err(Error::new("the server closed the connection"));
            }
            if let Some(head) = Head::read(&self.input)? {
                break head;
            }
        };
        let end = head.end + head.length;
        self.input.reserve(end.saturating_sub(self.input.len()));
        while self.input.len() < end {
            if self.stream.read_buf(&mut self.input).await.map_err(lost())? == 0 {
                return Err(Error::new("the server closed the connection inside an answer"));
            }
        }
        Ok(Answer { status: head.status, body: &self.input[head.end..end] })
    }
}

struct Head {
    status: u16,
    /// Where the body begins.
    end: usize,
    length: usize,
}

impl Head {
    /// `None`: not all of it is there yet.
    fn read(input: &[u8]) -> Result<Option<Head>> {
        let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&input[..end]).map_err(Error::doing("the answer"))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        match (status, length) {
            (Some(status), Some(length)) => Ok(Some(Head { status, end: end + 4, length })),
            (Some(status @ 204), None) => Ok(Some(Head { status, end: end + 4, length: 0 })),
            _ => Err(Error::new(format!("an answer that is not understood here: {head}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 201 Created\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc";
        assert!(Head::read(&text[..40]).unwrap().is_none());
        let head = Head::read(text).unwrap().unwrap();
        assert_eq!((head.status, head.length, &text[head.end..]), (201, 3, &b"abc"[..]));
        assert_eq!(Head::read(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().length, 0);
        assert!(Head::read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
