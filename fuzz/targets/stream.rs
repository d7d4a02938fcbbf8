//! Server-sent events as the client reads them: the same messages, however the bytes arrive.
#![no_main]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mainstay_api::client::{EventStream, Streamed};

/// What comes out until the end, or a mistake.
fn all(pieces: Vec<Bytes>) -> (Vec<Streamed>, bool) {
    let mut stream = EventStream::of(pieces);
    let mut seen = Vec::new();
    loop {
        match now(stream.next()) {
            Ok(Some(streamed)) => seen.push(streamed),
            Ok(None) => return (seen, true),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return (seen, false);
            }
        }
    }
}

/// Everything is there: nothing is waited for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for what is there"),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((step, sent)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _in = runtime.enter();
    let step = usize::from(*step).max(1);
    let pieces = sent.chunks(step).map(Bytes::copy_from_slice).collect();
    assert_eq!(all(vec![Bytes::copy_from_slice(sent)]), all(pieces));
});
