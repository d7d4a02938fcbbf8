//! One request a connection, which may be cut before the answer has come.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than any wait that is asked for.
const LIMIT: Duration = Duration::from_secs(40);

/// The answer; `None`: none came. `cut`: it is not waited for any longer than this.
pub(super) async fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &Value,
    cut: Option<Duration>,
) -> Option<(u16, Value)> {
    let asked = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {to}\r\n{key}content-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        read(&answer)
    };
    timeout(cut.unwrap_or(LIMIT), asked).await.ok()?
}

fn read(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    if body.is_empty() {
        return Some((status, Value::Null));
    }
    // One that was cut short is none.
    Some((status, serde_json::from_str(body).ok()?))
}
