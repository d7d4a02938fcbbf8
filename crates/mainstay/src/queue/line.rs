//! Tasks that wait in line: first come first served, left in constant time, without an allocation for each wait.

use std::task::Waker;

/// A place in a [`Line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(usize);

/// A waiting line. A waiter that was *called* has left the line, but keeps its place until it is removed: so a call
/// that nobody will answer can be passed on.
pub(super) struct Line<W> {
    places: Vec<Place<W>>,
    /// The first free place; they are linked by `next`.
    free: usize,
    head: usize,
    tail: usize,
    /// How many wait to be woken.
    resting: usize,
}

struct Place<W> {
    want: W,
    state: State,
    prev: usize,
    next: usize,
}

enum State {
    Free,
    /// To be woken, or it looks again by itself.
    Waiting(Option<Waker>),
    /// Whether it got what it wanted.
    Called(bool),
}

const NONE: usize = usize::MAX;

impl<W: Copy> Line<W> {
    pub fn new() -> Self {
        Self { places: Vec::new(), free: NONE, head: NONE, tail: NONE, resting: 0 }
    }

    /// Whether nobody waits to be called.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Whether somebody waits to be woken.
    pub fn rests(&self) -> bool {
        self.resting > 0
    }

    /// At the end. Without a waker it looks again by itself, or [`rest`](Self::rest)s later.
    pub fn join(&mut self, want: W, waker: Option<Waker>) -> Key {
        self.resting += usize::from(waker.is_some());
        let place = Place { want, state: State::Waiting(waker), prev: self.tail, next: NONE };
        let at = match self.free {
            NONE => {
                self.places.push(place);
                self.places.len() - 1
            }
            at => {
                self.free = self.places[at].next;
                self.places[at] = place;
                at
            }
        };
        match self.tail {
            NONE => self.head = at,
            tail => self.places[tail].next = at,
        }
        self.tail = at;
        Key(at)
    }

    /// What the first one wants.
    pub fn front(&self) -> Option<W> {
        self.places.get(self.head).map(|place| place.want)
    }

    /// Calls the first one.
    pub fn call(&mut self, got_it: bool) -> Option<Waker> {
        let at = self.head;
        let place = self.places.get_mut(at)?;
        let was = std::mem::replace(&mut place.state, State::Called(got_it));
        self.unlink(at);
        match was {
            State::Waiting(waker) => self.stop(waker),
            State::Free | State::Called(_) => None,
        }
    }

    /// Whether this one was called, and got what it wanted.
    pub fn called(&self, key: Key) -> Option<bool> {
        match self.places[key.0].state {
            State::Called(got_it) => Some(got_it),
            State::Waiting(_) | State::Free => None,
        }
    }

    /// Makes sure that the right task is woken, unless it was called; answers the waker that is not needed any more.
    pub fn rest(&mut self, key: Key, waker: &Waker) -> Option<Waker> {
        match &mut self.places[key.0].state {
            State::Waiting(Some(old)) if old.will_wake(waker) => None,
            State::Waiting(old) => {
                self.resting += usize::from(old.is_none());
                old.replace(waker.clone())
            }
            State::Free | State::Called(_) => None,
        }
    }

    /// Gives the place up; answers what [`called`](Self::called) would have said, and the waker if it still waited.
    pub fn remove(&mut self, key: Key) -> (Option<bool>, Option<Waker>) {
        let Key(at) = key;
        let was = std::mem::replace(&mut self.places[at].state, State::Free);
        if matches!(was, State::Waiting(_)) {
            self.unlink(at);
        }
        self.places[at].next = self.free;
        self.free = at;
        match was {
            State::Waiting(waker) => (None, self.stop(waker)),
            State::Called(got_it) => (Some(got_it), None),
            State::Free => (None, None),
        }
    }

    /// Somebody rests no longer, if it did.
    fn stop(&mut self, waker: Option<Waker>) -> Option<Waker> {
        self.resting -= usize::from(waker.is_some());
        waker
    }

    fn unlink(&mut self, at: usize) {
        let (prev, next) = (self.places[at].prev, self.places[at].next);
        match prev {
            NONE => self.head = next,
            prev => self.places[prev].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => self.places[next].prev = prev,
        }
    }
}

/// Wakers to be woken and dropped once the lock is free: both run foreign code. Make it before the lock is taken, so
/// that it is dropped after.
#[derive(Default)]
pub(super) struct Wakes {
    first: Option<Waker>,
    more: Vec<Waker>,
    idle: Option<Waker>,
}

impl Wakes {
    #[inline]
    pub fn add(&mut self, waker: Option<Waker>) {
        if self.first.is_none() {
            self.first = waker;
        } else {
            self.more.extend(waker);
        }
    }

    /// Only drops it, later.
    pub fn discard(&mut self, waker: Option<Waker>) {
        if waker.is_some() {
            self.idle = waker;
        }
    }
}

impl Drop for Wakes {
    #[inline]
    fn drop(&mut self) {
        if let Some(waker) = self.first.take() {
            waker.wake();
            self.more.drain(..).for_each(Waker::wake);
        }
    }
}
