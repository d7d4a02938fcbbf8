//! The current context: set for a future's polls, or for a stretch of synchronous code, and restored after.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task;

use super::Context;

thread_local! {
    static CURRENT: RefCell<Context> = const { RefCell::new(Context(None)) };
}

pub(super) fn current() -> Context {
    peek(Context::clone)
}

/// Reads the current context without cloning it. `read` must not enter another one: it runs no foreign code.
pub(super) fn peek<R>(read: impl FnOnce(&Context) -> R) -> R {
    let mut read = Some(read);
    let mut call = |context: &Context| read.take().map(|read| read(context));
    // On its way out a thread has no context any more.
    let found = CURRENT.try_with(|current| call(&current.borrow())).ok().flatten();
    match found {
        Some(found) => found,
        None => match call(&Context(None)) {
            Some(found) => found,
            None => unreachable!("one of the two calls was the first"),
        },
    }
}

fn replace(next: Context) -> Context {
    CURRENT.try_with(|current| current.replace(next)).unwrap_or_default()
}

impl Context {
    /// Runs `future` in this context: it is current whenever the future is polled, and when it is dropped; around
    /// that, what was current before is so again.
    pub fn scope<F: Future>(&self, future: F) -> Scope<F> {
        Scope { future: Some(future), other: self.clone() }
    }

    /// Makes this context current on this thread until the guard is dropped. For synchronous code: across an
    /// `.await`, use [`scope`](Self::scope). Guards are dropped in reverse order of their making, as scopes do.
    pub fn enter(&self) -> Entered {
        Entered { before: replace(self.clone()), _here: PhantomData }
    }
}

impl Context {
    /// As [`scope`](Self::scope), with a context that is not needed otherwise: none is counted.
    pub(crate) fn into_scope<F: Future>(self, future: F) -> Scope<F> {
        Scope { future: Some(future), other: self }
    }

    /// As [`enter`](Self::enter), with a context that is not needed afterwards: none is counted.
    #[cfg(feature = "http")]
    pub(crate) fn enter_for_good(self) -> Entered {
        Entered { before: replace(self), _here: PhantomData }
    }

    /// As [`enter`](Self::enter) around a stretch of code, with a context that nobody else looks at meanwhile: none is
    /// counted.
    #[cfg(feature = "http")]
    pub(crate) fn lend<R>(&mut self, during: impl FnOnce() -> R) -> R {
        let _swapped = Swapped::new(self);
        during()
    }
}

/// A context is current until this is dropped.
#[must_use = "the context is left again when the guard is dropped"]
#[derive(Debug)]
pub struct Entered {
    before: Context,
    /// It belongs to its thread.
    _here: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        drop(replace(std::mem::take(&mut self.before)));
    }
}

pin_project_lite::pin_project! {
    /// A future with a context. Made by [`Context::scope`]. As cancel safe as the future itself.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F> {
        #[pin]
        future: Option<F>,
        // The future's while it is not polled, else the one around it.
        other: Context,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _swapped = Swapped::new(this.other);
                // What the future's drop says is said in its context.
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<F::Output> {
        let mut this = self.project();
        let _swapped = Swapped::new(this.other);
        let polled = match this.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => unreachable!("polled after its end"),
        };
        if polled.is_ready() {
            // At once: its drop is in its context, too.
            this.future.set(None);
        }
        polled
    }
}

/// Exchanges contexts, and exchanges them back: no counting of references for each poll.
struct Swapped<'a>(&'a mut Context);

impl<'a> Swapped<'a> {
    fn new(other: &'a mut Context) -> Self {
        *other = replace(std::mem::take(other));
        Self(other)
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        *self.0 = replace(std::mem::take(self.0));
    }
}
