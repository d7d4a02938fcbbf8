//! `tokio::sync::watch`.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::{Mutex, MutexGuard};

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    sender_gone: bool,
    waiting: Vec<Waker>,
}

#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Mutex<State<T>>>,
    seen: u64,
}

pub struct Ref<'r, T>(MutexGuard<'r, State<T>>);

/// The sender is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Sender<T> {
    pub fn new(value: T) -> Self {
        let state = State { value, version: 0, sender_gone: false, waiting: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.held().version;
        Receiver { shared: self.0.clone(), seen }
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.held())
    }

    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        let mut state = self.0.held();
        change(&mut state.value);
        state.version += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn send_replace(&self, value: T) -> T {
        let mut old = None;
        self.send_modify(|present| old = Some(std::mem::replace(present, value)));
        old.expect("replaced")
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.held();
        state.sender_gone = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<T> Receiver<T> {
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.held())
    }

    /// # Errors
    /// The sender is gone.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        self.until(|_, is_new| is_new).await.map(drop)
    }

    /// # Errors
    /// The sender is gone.
    pub async fn wait_for(&mut self, mut fits: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        self.until(|value, _| fits(value)).await
    }

    async fn until(&mut self, mut fits: impl FnMut(&T, bool) -> bool) -> Result<Ref<'_, T>, RecvError> {
        poll_fn(|cx| {
            let mut state = self.shared.held();
            if fits(&state.value, state.version > self.seen) {
                self.seen = state.version;
                return Poll::Ready(Ok(()));
            }
            self.seen = state.version;
            if state.sender_gone {
                return Poll::Ready(Err(RecvError));
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await?;
        Ok(self.borrow())
    }
}
