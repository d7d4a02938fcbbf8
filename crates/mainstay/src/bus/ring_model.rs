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

use mainstay_core::topic::TopicFilter;
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

/// In blocks of two, so that a few events fill some.
fn ring() -> Arc<Ring<2>> {
    Ring::new(0, TopicFilter::new("tick").unwrap())
}

fn publish(ring: &Ring<2>, number: u64) {
    ring.publish(Envelope::of(&Tick(number)));
}

async fn read(reader: &mut Reader<2>) -> Result<u64, ListenError> {
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
fn a_slow_reader_is_told_of_all_that_it_missed_whenever_blocks_go() {
    check_with(2, || {
        let ring = ring();
        let mut reader = ring.reader(1);
        let tells = ring.clone();
        let telling = thread::spawn(move || {
            (1..=4).for_each(|number| publish(&tells, number));
            tells.close();
        });
        let mut seen = 0;
        loop {
            match block_on(read(&mut reader)) {
                Ok(number) => {
                    assert_eq!(number, seen + 1);
                    seen = number;
                }
                Err(ListenError::Lagged(missed)) => seen += missed,
                Err(error) => break assert_eq!(error, ListenError::Closed),
            }
        }
        assert_eq!(seen, 4, "the newest is always kept");
        telling.join().unwrap();
        assert!(ring.blocks() <= 2);
    });
}

#[test]
fn two_who_publish_and_a_reader_that_yields_miss_nothing() {
    check_with(2, || {
        let ring = ring();
        let mut reader = ring.reader(10);
        let others: Vec<_> = [1, 2]
            .map(|number| {
                let ring = ring.clone();
                thread::spawn(move || publish(&ring, number))
            })
            .into();
        let mut got =
            block_on(async { [read(&mut reader).await.unwrap(), read(&mut reader).await.unwrap()] });
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        others.into_iter().for_each(|other| other.join().unwrap());
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
