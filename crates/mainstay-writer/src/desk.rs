//! Where callers come: what they, the writer and a store's own helpers share.

mod lists;
mod office;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use mainstay_core::{
    Error, ErrorKind, StoreTime, Timestamp,
    event::{EventInterest, Position},
    hub::Hub,
    op::{Committed, Failure},
    store::{Batch, Budget, Interest, Key, Maintained, Record, Wake},
    time::Now,
};
use tokio::sync::{oneshot, watch};

use crate::{
    clock::StoreClock,
    inbox::{Inbox, Refused},
    message::{Ask, Message, SMALL, Submission, weight},
    tail::Tail,
};

pub use office::Office;

pub struct Desk {
    pub clock: StoreClock,
    /// To the writer.
    pub inbox: Arc<Inbox<Message>>,
    pub hub: Arc<Hub>,
    pub tail: Tail,
    pub figures: Figures,
    pub due: Due,
    /// Set once, when the store can no longer be trusted.
    pub failed: OnceLock<Error>,
    /// Set once, before that, when it is another writer's turn: nothing is wrong with the store.
    pub moved: OnceLock<Error>,
    /// Until when answers that no transaction proves may be given.
    pub office: Office,
    /// The time to close is over: what has not begun is refused.
    pub abandon: AtomicBool,
    /// How the store ended, once it has.
    pub ended: watch::Sender<Option<Result<(), Error>>>,
}

/// When the tables will next say something that is not true any more: a lease that ran out, a job that expired. A
/// read from then on has the writer tidy up first.
pub struct Due {
    lease_end: AtomicU64,
    expiry: AtomicI64,
}

impl Default for Due {
    fn default() -> Due {
        Due { lease_end: AtomicU64::new(u64::MAX), expiry: AtomicI64::new(i64::MAX) }
    }
}

impl Due {
    /// Said by the writer before it answers anybody.
    pub fn set(&self, lease_end: Option<StoreTime>, expiry: Option<Timestamp>) {
        self.lease_end.store(lease_end.map_or(u64::MAX, |at| at.0), Ordering::Release);
        self.expiry.store(expiry.map_or(i64::MAX, |at| at.0), Ordering::Release);
    }

    pub fn has_come(&self, now: Now) -> bool {
        self.lease_end.load(Ordering::Acquire) <= now.store.0
            || self.expiry.load(Ordering::Acquire) <= now.wall.0
    }
}

/// The writer's figures: those that only grow, and a few that say how things are now.
#[derive(Default)]
pub struct Figures {
    pub groups: AtomicU64,
    pub commits: AtomicU64,
    pub write_micros: AtomicU64,
    pub write_micros_max: AtomicU64,
    pub failed_groups: AtomicU64,
    pub given_back: AtomicU64,
    pub cache_bytes: AtomicU64,
    pub unfinished: AtomicU64,
}

impl Desk {
    /// With nothing under way. The log ends with `tail`.
    pub fn new(clock: StoreClock, queue_bytes: usize, tail: Tail) -> Desk {
        Desk {
            clock,
            inbox: Arc::new(Inbox::new(queue_bytes)),
            hub: Arc::default(),
            tail,
            figures: Figures::default(),
            due: Due::default(),
            failed: OnceLock::new(),
            moved: OnceLock::new(),
            office: Office::default(),
            abandon: AtomicBool::new(false),
            ended: watch::Sender::new(None),
        }
    }

    /// Why the store does not answer any more.
    pub fn gone(&self) -> Error {
        if let Some(moved) = self.moved.get() {
            return Error::new(moved.kind(), moved.to_string());
        }
        match self.failed.get() {
            Some(cause) => {
                let message = format!("the store can no longer be trusted: {cause}");
                Error::new(ErrorKind::Untrusted, message).because(cause.clone())
            }
            None => Error::new(ErrorKind::Closed, "the store is closed"),
        }
    }

    pub fn is_open(&self) -> Result<(), Error> {
        let open = self.failed.get().is_none() && self.ended.borrow().is_none();
        if open { Ok(()) } else { Err(self.gone()) }
    }

    /// Asked when an answer from RAM has been made, and before it is given.
    ///
    /// # Errors
    /// `Unavailable`: another process may have changed what it says.
    pub fn is_current(&self) -> Result<(), Error> {
        if self.office.is_over() {
            let message = "this process cannot tell whether it still leads the store; try again";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    /// Hands a message to the writer.
    pub fn tell(&self, message: Message, weight: usize) -> Result<(), Error> {
        self.inbox.push(message, weight).map_err(|(refused, _)| match refused {
            Refused::Closed => self.gone(),
            Refused::Full => Error::new(
                ErrorKind::Overloaded,
                format!("{} bytes are waiting to be written; try again later", self.inbox.weight()),
            ),
        })
    }

    /// Asks the writer.
    pub async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Error> {
        let (answer, receiver) = oneshot::channel();
        self.tell(Message::Ask(make(answer)), SMALL)?;
        let answered = receiver.await.map_err(|_| self.gone())?;
        self.is_current().map(|()| answered)
    }

    /// Has the writer apply a batch; `within` is how long it may wait for its turn if it does not say so itself.
    pub async fn submit(
        &self,
        batch: Batch,
        within: Duration,
    ) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let weight = weight(&batch);
        let within = batch.within.unwrap_or(within);
        let deadline = self.clock.now().store.plus_ms(millis(within));
        let (sender, receiver) = oneshot::channel();
        let submission = Submission { commits: batch.commits, deadline, sender, alone: false };
        self.tell(Message::Submit(submission), weight)?;
        match receiver.await {
            Ok(answer) => answer.map(|answer| answer.accept()),
            Err(_) => {
                let gone = self.gone();
                Err(Error::unknown(gone.kind(), gone.to_string()).because(gone))
            }
        }
    }

    pub async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        let (answer, receiver) = oneshot::channel();
        self.tell(Message::Maintain(budget, answer), SMALL)?;
        receiver.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// What the tables say is true now: leases that ran out by now have been seen to. If the writer cannot write, they
    /// show what there is.
    pub async fn tidied(&self) -> Result<(), Error> {
        if self.due.has_come(self.clock.now()) {
            // Whatever the writer does, it tidies up first.
            match self.ask(Ask::Ping).await {
                Err(e) if e.kind() != ErrorKind::Overloaded => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// A record that the engine has. Jobs and access tokens are those of the tables.
    pub async fn record(&self, key: &Key) -> Result<Option<Record>, Error> {
        match key {
            Key::Queue(name) => {
                let name = name.clone();
                Ok(self.ask(|answer| Ask::Queue(name, answer)).await?.map(Record::Queue))
            }
            Key::Lock(name) => {
                let name = name.clone();
                let lock = self.ask(|answer| Ask::Lock(name, answer)).await?;
                Ok(lock.map(|lock| Record::Lock(Box::new(lock))))
            }
            Key::Event(key) => {
                let key = key.clone();
                Ok(self.ask(|answer| Ask::Event(key, answer)).await??.map(Record::Event))
            }
            Key::Schedule(name) => {
                let name = name.clone();
                Ok(self.ask(|answer| Ask::Schedule(name, answer)).await?.map(Record::Schedule))
            }
            Key::Job(_) | Key::AccessToken(_) => {
                Err(Error::new(ErrorKind::Invalid, "what the tables have is not asked of the writer"))
            }
        }
    }

    /// The number that a position in the log stands for.
    pub async fn log_position(&self, position: Position) -> Result<u64, Error> {
        match position {
            Position::Latest => Ok(self.tail.head() + 1),
            Position::Earliest => Ok(1),
            Position::Seq(seq) => Ok(seq.max(1)),
            Position::Time(time) => self.ask(|answer| Ask::SeqAt(time, answer)).await?,
        }
    }

    pub async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        self.is_open()?;
        let deadline = self.clock.now().store.plus_ms(millis(at_most));
        let mut ended = self.ended.subscribe();
        let waiting = self.hub.register(on);
        // Queues and the log have been counted by the registration, and schedules are looked at after it; of jobs, and
        // of groups that may be gone, the writer knows what has happened before.
        let is_known = |on: &Interest| {
            let log = matches!(on, Interest::Event(EventInterest::Log { .. }));
            log || matches!(on, Interest::Queue(_) | Interest::Schedules)
        };
        if !on.iter().all(is_known) {
            let interests = on.to_vec();
            if self.ask(|answer| Ask::HasHappened(interests, answer)).await? {
                return Ok(Wake::woken(None));
            }
        }
        let (mut waiting, mut ended) = (pin!(waiting), pin!(ended.wait_for(Option::is_some)));
        let mut asleep = pin!(self.clock.sleep_until(deadline));
        poll_fn(|cx| {
            if let Poll::Ready(wake) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Ok(wake));
            }
            if asleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(Wake::timed_out()));
            }
            match ended.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(Err(self.gone())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Nothing more is taken in; waits for the writer to end, this long. `None`: it has not.
    pub async fn close(&self, at_most: Duration) -> Option<Result<(), Error>> {
        self.inbox.close();
        let deadline: StoreTime = self.clock.now().store.plus_ms(millis(at_most));
        let mut over = self.ended.subscribe();
        let mut over = pin!(over.wait_for(Option::is_some));
        let mut asleep = pin!(self.clock.sleep_until(deadline));
        poll_fn(|cx| match over.as_mut().poll(cx) {
            // The sender lives in `self`.
            Poll::Ready(ending) => Poll::Ready(ending.ok().and_then(|ending| ending.clone())),
            Poll::Pending => asleep.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// The figures of a store, as far as they are the writer's.
    pub fn stats(&self) -> Vec<(&'static str, f64)> {
        let f = &self.figures;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
        vec![
            ("groups_total", read(&f.groups)),
            ("commits_total", read(&f.commits)),
            ("group_write_seconds_total", read(&f.write_micros) / 1e6),
            ("group_write_seconds_max", f.write_micros_max.swap(0, Ordering::Relaxed) as f64 / 1e6),
            ("failed_groups_total", read(&f.failed_groups)),
            ("queue_bytes", self.inbox.weight() as f64),
            ("given_back_total", read(&f.given_back)),
            ("body_cache_bytes", read(&f.cache_bytes)),
            ("unfinished_jobs", read(&f.unfinished)),
            ("waiting_callers", self.hub.waiting() as f64),
        ]
    }

    /// The rest is refused; what [`Desk::close`] says when it took too long.
    pub fn abandon(&self) -> Error {
        self.abandon.store(true, Ordering::Relaxed);
        let message = "the store had more to write than the time to close allowed; the rest was refused";
        Error::new(ErrorKind::DeadlineExceeded, message)
    }
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
