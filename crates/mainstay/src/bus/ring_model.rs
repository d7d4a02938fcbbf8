//! The ring under a model checker: whoever reads sleeps through nothing.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "ring.rs"]
mod ring;
mod sync {
    pub(super) use mainstay_loom::{Mutex, MutexGuard, Notify, atomic};
}

use std::sync::Arc;

use mainstay_core::topic::{TopicFilter, TopicName};
use mainstay_loom::{block_on, check, check_with, poll_and_drop, thread};
use serde::{Deserialize, Serialize};

use self::ring::{Reader, Ring};
use super::ListenError;
use crate::{Event, event::Envelope};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tick(u64);

impl Event for Tick {
    const TOPIC: &'static str = "tick";
}

fn ring() -> Arc<Ring> {
    Ring::new(0, TopicFilter::new("tick").unwrap())
}

fn publish(ring: &Ring, number: u64) {
    ring.publish(&Envelope::of(&Tick(number), TopicName::new("tick").unwrap()));
}

async fn read(reader: &mut Reader) -> Result<u64, ListenError> {
    reader.recv(|event| event.read::<Tick>().unwrap().0).await
}

#[test]
fn a_reader_gets_all_and_then_hears_of_the_end_whenever_they_come() {
    check(|| {
        let ring = ring();
        let mut reader = ring.reader(10);
        let tells = ring.clone();
        let telling = thread::spawn(move || {
            publish(&tells, 1);
            publish(&tells, 2);
            tells.close();
        });
        let got =
            block_on(async { [read(&mut reader).await, read(&mut reader).await, read(&mut reader).await] });
        assert_eq!(got, [Ok(1), Ok(2), Err(ListenError::Closed)]);
        telling.join().unwrap();
    });
}

#[test]
fn one_who_goes_or_sleeps_takes_no_news_of_another_along() {
    check_with(2, || {
        let ring = ring();
        let (mut patient, mut gone) = (ring.reader(10), ring.reader(10));
        let tells = ring.clone();
        let telling = thread::spawn(move || publish(&tells, 1));
        let going = thread::spawn(move || drop(poll_and_drop(read(&mut gone))));
        assert_eq!(block_on(read(&mut patient)), Ok(1));
        telling.join().unwrap();
        going.join().unwrap();
        assert_eq!(ring.readers(), 1);
    });
}
