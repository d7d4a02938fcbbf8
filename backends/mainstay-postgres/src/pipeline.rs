//! Requests that go out one behind the other, before the first is answered.

use std::{future::poll_fn, pin::Pin, task::Poll};

use tokio_postgres::Error;

type Answer = Result<u64, Error>;

/// Requests under way on one session, in the order in which they went out.
#[derive(Default)]
pub(crate) struct Requests<'a> {
    sent: Vec<Sent<'a>>,
}

enum Sent<'a> {
    Waits(Pin<Box<dyn Future<Output = Answer> + Send + 'a>>),
    Answered(Answer),
}

impl<'a> Requests<'a> {
    /// Sends a request, now: a future of `tokio_postgres` hands its request over when it is first polled. (Polled by a set of
    /// futures, that could be after the next.)
    ///
    /// # Errors
    /// It could not be handed over.
    pub(crate) async fn send(
        &mut self,
        request: impl Future<Output = Answer> + Send + 'a,
    ) -> Result<(), Error> {
        let mut request: Pin<Box<dyn Future<Output = Answer> + Send + 'a>> = Box::pin(request);
        let sent = poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx))).await;
        self.sent.push(match sent {
            Poll::Pending => Sent::Waits(request),
            Poll::Ready(Err(e)) if e.as_db_error().is_none() => return Err(e),
            Poll::Ready(answer) => Sent::Answered(answer),
        });
        Ok(())
    }

    /// Waits for all answers: how many rows each changed.
    ///
    /// # Errors
    /// The first one: it says why; those behind it only say that it did.
    pub(crate) async fn answers(self) -> Result<Vec<u64>, Error> {
        let mut answers = Vec::with_capacity(self.sent.len());
        for sent in self.sent {
            answers.push(match sent {
                Sent::Waits(request) => request.await,
                Sent::Answered(answer) => answer,
            });
        }
        answers.into_iter().collect()
    }
}
