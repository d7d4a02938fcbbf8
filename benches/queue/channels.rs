//! The contenders behind one face. Each loop is the contender's own: no call is hidden behind a pointer.

use std::ops::Range;

use mainstay::queue::Bounded;

/// Who is measured.
#[derive(Clone, Copy)]
pub enum Kind {
    Mainstay,
    MainstayMany,
    Tokio,
    TokioMany,
    AsyncChannel,
    Flume,
}

/// How many items a batch takes.
const BATCH: usize = 64;

#[derive(Clone)]
pub enum Tx {
    Mainstay(mainstay::queue::Sender<u64>),
    Tokio(tokio::sync::mpsc::Sender<u64>),
    AsyncChannel(async_channel::Sender<u64>),
    Flume(flume::Sender<u64>),
}

pub enum Rx {
    Mainstay(mainstay::queue::Receiver<u64>),
    MainstayMany(mainstay::queue::Receiver<u64>),
    Tokio(tokio::sync::mpsc::Receiver<u64>),
    TokioMany(tokio::sync::mpsc::Receiver<u64>),
    AsyncChannel(async_channel::Receiver<u64>),
    Flume(flume::Receiver<u64>),
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Mainstay, Kind::Tokio, Kind::AsyncChannel, Kind::Flume, Kind::MainstayMany, Kind::TokioMany];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Mainstay => "mainstay",
            Kind::MainstayMany => "mainstay, `recv_many(64)`",
            Kind::Tokio => "tokio mpsc",
            Kind::TokioMany => "tokio mpsc, `recv_many(64)`",
            Kind::AsyncChannel => "async-channel",
            Kind::Flume => "flume",
        }
    }

    pub fn open(self, capacity: usize) -> (Tx, Rx) {
        match self {
            Kind::Mainstay => {
                let (tx, rx) = Bounded::new("bench", capacity).open();
                (Tx::Mainstay(tx), Rx::Mainstay(rx))
            }
            Kind::MainstayMany => {
                let (tx, rx) = Bounded::new("bench", capacity).open();
                (Tx::Mainstay(tx), Rx::MainstayMany(rx))
            }
            Kind::Tokio => {
                let (tx, rx) = tokio::sync::mpsc::channel(capacity);
                (Tx::Tokio(tx), Rx::Tokio(rx))
            }
            Kind::TokioMany => {
                let (tx, rx) = tokio::sync::mpsc::channel(capacity);
                (Tx::Tokio(tx), Rx::TokioMany(rx))
            }
            Kind::AsyncChannel => {
                let (tx, rx) = async_channel::bounded(capacity);
                (Tx::AsyncChannel(tx), Rx::AsyncChannel(rx))
            }
            Kind::Flume => {
                let (tx, rx) = flume::bounded(capacity);
                (Tx::Flume(tx), Rx::Flume(rx))
            }
        }
    }
}

impl Tx {
    pub async fn send_all(self, items: Range<u64>) {
        match self {
            Tx::Mainstay(tx) => {
                for item in items {
                    tx.send(item).await.expect("a receiver");
                }
            }
            Tx::Tokio(tx) => {
                for item in items {
                    tx.send(item).await.expect("a receiver");
                }
            }
            Tx::AsyncChannel(tx) => {
                for item in items {
                    tx.send(item).await.expect("a receiver");
                }
            }
            Tx::Flume(tx) => {
                for item in items {
                    tx.send_async(item).await.expect("a receiver");
                }
            }
        }
    }

    /// Without waiting.
    pub fn fill(&self, items: u64) {
        for item in 0..items {
            match self {
                Tx::Mainstay(tx) => drop(tx.try_send(item).expect("room")),
                Tx::Tokio(tx) => tx.try_send(item).expect("room"),
                Tx::AsyncChannel(tx) => tx.try_send(item).expect("room"),
                Tx::Flume(tx) => tx.try_send(item).expect("room"),
            }
        }
    }
}

impl Rx {
    /// Answers how many there were.
    pub async fn receive_all(self) -> u64 {
        let (mut got, mut batch) = (0, Vec::with_capacity(BATCH));
        match self {
            Rx::Mainstay(mut rx) => {
                while rx.recv().await.is_some() {
                    got += 1;
                }
            }
            Rx::MainstayMany(mut rx) => {
                while rx.recv_many(&mut batch, BATCH).await > 0 {
                    got += batch.drain(..).count() as u64;
                }
            }
            Rx::Tokio(mut rx) => {
                while rx.recv().await.is_some() {
                    got += 1;
                }
            }
            Rx::TokioMany(mut rx) => {
                while rx.recv_many(&mut batch, BATCH).await > 0 {
                    got += batch.drain(..).count() as u64;
                }
            }
            Rx::AsyncChannel(rx) => {
                while rx.recv().await.is_ok() {
                    got += 1;
                }
            }
            Rx::Flume(rx) => {
                while rx.recv_async().await.is_ok() {
                    got += 1;
                }
            }
        }
        got
    }
}
