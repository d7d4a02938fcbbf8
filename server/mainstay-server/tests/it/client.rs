//! The smallest HTTP client there is: one request a connection, so that tests see every byte.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::document;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {} {text:?}", self.status))
    }

    /// The JSON of an answer with this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts a problem with this code, complete as the contract wants it.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let id = self.header("x-request-id").map(str::to_owned);
        let problem = self.is(status);
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"].as_str().map(str::to_owned), id, "{problem}");
        assert!(problem["instance"].as_str().is_some_and(|path| path.starts_with('/')), "{problem}");
        for member in ["type", "title", "detail", "retryable", "outcome"] {
            assert!(!problem[member].is_null(), "{member} in {problem}");
        }
        assert!(problem["errors"].is_array(), "{problem}");
        problem
    }
}

/// The pointers of a problem, sorted.
pub fn pointers(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<_> =
        errors.iter().map(|error| error["pointer"].as_str().unwrap_or_default().to_owned()).collect();
    all.sort();
    all
}

/// A request to be sent.
pub struct Request {
    to: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    behind: Vec<u8>,
    unchecked: bool,
}

impl Request {
    pub fn new(to: SocketAddr, method: &str, path: &str) -> Self {
        Self {
            to,
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            behind: Vec::new(),
            unchecked: false,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn json(self, body: Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn text(&self, connection: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head.push_str(&format!("host: {}\r\n", self.to));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let chunked = self.headers.iter().any(|(name, _)| name == "transfer-encoding");
        if !chunked && (!self.body.is_empty() || self.method == "POST") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str(&format!("connection: {connection}\r\n\r\n"));
        let mut text = head.into_bytes();
        text.extend_from_slice(&self.body);
        text.extend_from_slice(&self.behind);
        text
    }

    /// The document has other limits than the server of this test.
    pub fn unchecked(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// Sends another behind it, without waiting for the answer.
    pub fn and_then(mut self, other: Request) -> Self {
        self.behind = other.text("keep-alive");
        self
    }

    /// Sends it and leaves the connection open, the answer unread.
    pub async fn open(self) -> TcpStream {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        stream.write_all(&self.text("keep-alive")).await.unwrap();
        stream
    }

    pub async fn send(self) -> Reply {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        // A server may answer before it has read everything, and close.
        let _ = stream.write_all(&self.text("close")).await;
        let reply = read(&mut stream, &self.method).await;
        if !self.unchecked && self.behind.is_empty() {
            let kind = self.headers.iter().find(|(name, _)| name == "content-type").map(|(_, kind)| &**kind);
            document::check(&self.method, &self.path, kind, &self.body, &reply);
        }
        reply
    }
}

/// Reads one answer.
pub async fn read(stream: &mut TcpStream, method: &str) -> Reply {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let read = stream.read_buf(&mut bytes).await.unwrap();
        assert!(read > 0, "the connection ended in the head: {:?}", String::from_utf8_lossy(&bytes));
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
    let length: usize = if method == "HEAD" { 0 } else { length.map_or(0, Result::unwrap) };
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        let read = stream.read_buf(&mut body).await.unwrap();
        assert!(read > 0, "the connection ended in the body");
    }
    Reply { status, headers, body }
}

/// Reads the head of an answer whose body goes on.
pub async fn read_head(stream: &mut TcpStream) -> String {
    line_by_line(stream, "\r\n\r\n").await.expect("a head")
}

/// Reads a chunk of a body that goes on; `None` at its end.
pub async fn read_chunk(stream: &mut TcpStream) -> Option<String> {
    let length = line_by_line(stream, "\r\n").await?;
    let length = usize::from_str_radix(length.trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    stream.read_exact(&mut chunk).await.unwrap();
    chunk.truncate(length);
    (length > 0).then(|| String::from_utf8(chunk).unwrap())
}

/// `None` if the stream has ended before.
async fn line_by_line(stream: &mut TcpStream, end: &str) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(stream.read_u8().await.ok()?));
    }
    Some(text)
}
