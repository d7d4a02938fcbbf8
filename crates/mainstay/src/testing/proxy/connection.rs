//! One connection through the proxy.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use mainstay_core::rules::mix;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{Control, Direction, lane::Lane};
use crate::testing::{Hold, hold_time};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks on the way in one direction: what the line holds. Beyond, the sender is not read from.
const ON_THE_WAY: usize = 64;

/// Why both directions end at once.
enum Cut {
    /// An end is gone, or the test wants it.
    Reset,
    /// So many bytes have passed.
    Limit,
}

struct Chunk {
    due: Instant,
    /// None at the end.
    bytes: Vec<u8>,
}

pub(super) async fn run(
    mut client: TcpStream,
    control: &Control,
    mut resets: watch::Receiver<u64>,
    number: u64,
) {
    let connect = async {
        control.to_server.joined().await;
        TcpStream::connect(control.upstream).await
    };
    let server = tokio::select! {
        server = connect => server,
        _ = resets.changed() => Err(io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    // Else the system would join slices again.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let passed = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let chance = |direction: Direction| mix(mix(control.seed, number), direction as u64);
        let debt = Debt::default();
        let asked = || {
            if !control.impatient.load(Ordering::Relaxed) {
                debt.owed();
            }
        };
        let answered = || debt.paid();
        let (up_chance, down_chance) = (chance(Direction::ToServer), chance(Direction::ToClient));
        let up = pass(from_client, to_server, &control.to_server, up_chance, &NOBODY, &asked);
        let down = pass(from_server, to_client, &control.to_client, down_chance, &answered, &NOBODY);
        tokio::select! {
            passed = async { tokio::try_join!(up, down) } => passed.map(|_| ()),
            _ = resets.changed() => Err(Cut::Reset),
        }
    };
    match passed {
        Ok(()) => (),
        Err(Cut::Limit) => {
            let _ = tokio::join!(client.shutdown(), server.shutdown());
        }
        // Closed with no time to linger, a socket says reset.
        Err(Cut::Reset) => {
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
}

/// Hears that something came, or went.
type Note<'n> = &'n (dyn Fn() + Sync);
const NOBODY: fn() = || ();

/// Passes on what comes, and the end of it.
async fn pass(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    lane: &Lane,
    seed: u64,
    came: Note<'_>,
    went: Note<'_>,
) -> Result<(), Cut> {
    let (queue, line) = mpsc::channel(ON_THE_WAY);
    tokio::try_join!(read(from, queue, lane, seed, came), write(to, line, lane, went)).map(|_| ())
}

async fn read(
    mut from: ReadHalf<'_>,
    queue: mpsc::Sender<Chunk>,
    lane: &Lane,
    seed: u64,
    came: Note<'_>,
) -> Result<(), Cut> {
    let mut draws = 0;
    loop {
        let mut bytes = vec![0; CHUNK];
        let read = from.read(&mut bytes).await;
        came();
        let n = read.map_err(|_| Cut::Reset)?;
        bytes.truncate(n);
        lane.received.send_modify(|seen| *seen += n as u64);
        let faults = lane.faults();
        draws += 1;
        // Nothing overtakes what was sent before it: it waits in the queue.
        let due = Instant::now() + faults.latency + part(faults.jitter, mix(seed, draws));
        if queue.send(Chunk { due, bytes }).await.is_err() || n == 0 {
            return Ok(());
        }
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut line: mpsc::Receiver<Chunk>,
    lane: &Lane,
    went: Note<'_>,
) -> Result<(), Cut> {
    let mut passed = 0;
    while let Some(chunk) = line.recv().await {
        // A timer takes a millisecond at least.
        if chunk.due > Instant::now() {
            sleep_until(chunk.due).await;
        }
        let mut rest = &chunk.bytes[..];
        while !rest.is_empty() {
            let faults = lane.flowing().await;
            let room = faults.limit.map_or(u64::MAX, |limit| limit.saturating_sub(passed));
            if room == 0 {
                return Err(Cut::Limit);
            }
            // A tenth of a second's worth at once, so that a change of the bandwidth is soon felt.
            let worth = faults.bandwidth.map_or(u64::MAX, |rate| (rate / 10).max(1));
            let slice = faults.slice.unwrap_or(usize::MAX).min(rest.len());
            let n = slice.min(usize::try_from(room.min(worth)).unwrap_or(usize::MAX));
            if let Some(rate) = faults.bandwidth {
                sleep(Duration::from_secs_f64(n as f64 / rate as f64)).await;
                // A stall that came meanwhile holds these bytes, too.
                lane.flowing().await;
            }
            to.write_all(&rest[..n]).await.map_err(|_| Cut::Reset)?;
            went();
            passed += n as u64;
            lane.forwarded.send_modify(|seen| *seen += n as u64);
            if faults.limit.is_some_and(|limit| passed >= limit) {
                return Err(Cut::Limit);
            }
            rest = &rest[n..];
            if faults.slice.is_some() {
                // The reader gets a chance to see the slice alone.
                tokio::task::yield_now().await;
            }
        }
        if chunk.bytes.is_empty() {
            lane.flowing().await;
            // It fails only if the other end is gone, which its own direction sees.
            let _ = to.shutdown().await;
            return Ok(());
        }
    }
    Ok(())
}

/// Virtual time stands still while the server owes an answer.
#[derive(Default)]
struct Debt(Mutex<Option<Hold>>);

impl Debt {
    fn owed(&self) {
        self.lock().get_or_insert_with(hold_time);
    }

    fn paid(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of `whole` by chance.
fn part(whole: Duration, chance: u64) -> Duration {
    whole.mul_f64((chance >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;
    use crate::testing::{Faults, block_on_virtual};

    /// Each write by itself: a socket would join them.
    struct Writes<'a>(&'a mut Vec<String>);

    impl AsyncWrite for Writes<'_> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push("end".to_owned());
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn slices_are_writes_of_their_own() {
        block_on_virtual(async {
            let (lane, (queue, line)) = (Lane::default(), mpsc::channel(2));
            lane.set(Faults::default().slice(3));
            for bytes in [b"abcdefgh".to_vec(), Vec::new()] {
                assert!(queue.send(Chunk { due: Instant::now(), bytes }).await.is_ok());
            }
            let mut writes = Vec::new();
            assert!(write(Writes(&mut writes), line, &lane, &|| ()).await.is_ok());
            assert_eq!(writes, ["abc", "def", "gh", "end"]);
            assert_eq!(*lane.forwarded.borrow(), 8);
        });
    }
}
