//! Live streams: from an HTTP publish to its receipt as a server-sent event, by one reader and by very many.
//!
//! Every reader checks that no number is missing, from the first event to the last. One in [`LOOKS`] also looks at how
//! old what it reads is: client and server share the cores.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mainstay::TaskSet;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    Error, Result,
    drive::within,
    latency::{Latency, Quantiles},
    scratch::Scratch,
    server::Server,
    wire::Connection,
};

/// Events a second; one a commit.
pub(super) const RATE: u64 = 100;
const LOOKS: usize = 50;
/// How long a reader may be behind when all is published.
const BEHIND: Duration = Duration::from_secs(30);

/// What so many readers saw.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    pub(super) readers: usize,
    pub(super) deliveries_per_second: f64,
    pub(super) missed: u64,
    pub(super) ms: Quantiles,
}

pub(super) async fn measure(scratch: &Scratch, readers: usize, span: Duration) -> Result<Live> {
    let server = Server::start(&scratch.site(&format!("live-{readers}")), scratch.path()).await?;
    let tasks = TaskSet::current().ok_or_else(|| Error::new("there is no runtime"))?;
    let events = (span.as_secs_f64() * RATE as f64).ceil() as u64;
    let (epoch, latency) = (Instant::now(), Arc::new(Latency::new()));
    let mut reading = Vec::with_capacity(readers);
    for reader in 0..readers {
        let messages = within(Messages::open(server.api)).await?;
        let latency = reader.is_multiple_of(LOOKS).then(|| latency.clone());
        let deadline = span * 2 + BEHIND;
        reading.push(tasks.spawn("reader", async move {
            let mut seen = 0;
            let end = timeout(deadline, messages.read(events, epoch, latency.as_deref(), &mut seen)).await;
            // One that is still behind has missed what it has not got.
            end.unwrap_or(Ok(())).map(|()| seen)
        }));
    }
    let began = Instant::now();
    publish(server.api, events, epoch).await?;
    let mut delivered = 0;
    for reader in reading {
        delivered += reader.await.map_err(Error::doing("a reader"))??;
    }
    let took = began.elapsed().as_secs_f64();
    server.stop().await?;
    Ok(Live {
        readers,
        deliveries_per_second: delivered as f64 / took,
        missed: events * readers as u64 - delivered,
        ms: latency.quantiles(),
    })
}

/// At an even rate, whatever the readers do.
async fn publish(api: SocketAddr, events: u64, epoch: Instant) -> Result<()> {
    let mut connection = Connection::open(api).await?;
    let mut ticks = interval(Duration::from_secs(1) / RATE as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..events {
        ticks.tick().await;
        let body = format!(r#"{{"sent":{}}}"#, epoch.elapsed().as_micros());
        within(connection.ask("POST", "/v1/topics/bench.live/events", &body)).await?;
    }
    Ok(())
}

/// An open stream. The head of its answer has been read.
struct Messages {
    stream: TcpStream,
    input: Vec<u8>,
    body: Vec<u8>,
}

impl Messages {
    async fn open(api: SocketAddr) -> Result<Messages> {
        let mut stream = TcpStream::connect(api).await.map_err(Error::doing("cannot connect a reader"))?;
        let ask = b"GET /v1/events/stream?topics=bench.live&from=earliest HTTP/1.1\r\nhost: bench\r\n\r\n";
        stream.write_all(ask).await.map_err(Error::doing("cannot ask for a stream"))?;
        let mut messages = Messages { stream, input: Vec::new(), body: Vec::new() };
        let end = loop {
            messages.more().await?;
            if let Some(end) = messages.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&messages.input[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") || !head.contains("transfer-encoding: chunked") {
            return Err(Error::new(format!("a stream was answered with: {head}")));
        }
        messages.input.drain(..end);
        Ok(messages)
    }

    /// Until the last of so many events; `seen` counts them.
    async fn read(
        mut self,
        events: u64,
        epoch: Instant,
        latency: Option<&Latency>,
        seen: &mut u64,
    ) -> Result<()> {
        while *seen < events {
            unchunk(&mut self.input, &mut self.body)?;
            let mut from = 0;
            while let Some(end) = self.body[from..].windows(2).position(|two| two == b"\n\n") {
                let message = &self.body[from..from + end];
                from += end + 2;
                if message.starts_with(b":") {
                    continue;
                }
                let seq = number(message, b"id: ");
                if seq != Some(*seen + 1) {
                    let text = String::from_utf8_lossy(message);
                    return Err(Error::new(format!("after event {seen}, a reader got: {text}")));
                }
                *seen += 1;
                if let (Some(latency), Some(sent)) = (latency, number(message, b"\"sent\":")) {
                    latency.record(epoch.elapsed().saturating_sub(Duration::from_micros(sent)));
                }
            }
            self.body.drain(..from);
            if *seen < events {
                self.more().await?;
            }
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(Error::new("the server closed a stream")),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(format!("a stream was lost: {error}"))),
        }
    }
}

/// Moves the chunks that are whole.
fn unchunk(input: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<()> {
    let mut from = 0;
    while let Some(line) = input[from..].windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&input[from..from + line]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.filter(|size| *size > 0).ok_or_else(|| Error::new("the server ended a stream"))?;
        let (start, end) = (from + line + 2, from + line + 2 + size);
        if input.len() < end + 2 {
            break;
        }
        body.extend_from_slice(&input[start..end]);
        from = end + 2;
    }
    input.drain(..from);
    Ok(())
}

/// The digits behind a mark.
fn number(message: &[u8], mark: &[u8]) -> Option<u64> {
    let from = message.windows(mark.len()).position(|found| found == mark)? + mark.len();
    let digits = message[from..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.map(|digit| u64::from(digit - b'0')).reduce(|sum, digit| sum * 10 + digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_taken_when_they_are_whole_and_an_end_is_an_error() {
        let (mut input, mut body) = (b"3\r\nabc\r\na\r\n01234".to_vec(), Vec::new());
        unchunk(&mut input, &mut body).unwrap();
        assert_eq!((&body[..], &input[..]), (&b"abc"[..], &b"a\r\n01234"[..]));
        input.extend_from_slice(b"56789\r\n");
        unchunk(&mut input, &mut body).unwrap();
        assert_eq!((&body[..], input.len()), (&b"abc0123456789"[..], 0));
        assert!(unchunk(&mut b"0\r\n\r\n".to_vec(), &mut body).is_err());
        assert_eq!(number(b"id: 42\ndata: {\"sent\":7}", b"\"sent\":"), Some(7));
        assert_eq!(number(b"id: 42\n", b"id: "), Some(42));
        assert_eq!(number(b": ping", b"id: "), None);
    }
}
