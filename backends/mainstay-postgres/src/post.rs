//! How calls travel through the database: rows of `calls` and `replies`, each with all that waited to be sent.

mod clerk;
mod rows;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_core::{
    Error, ErrorKind,
    store::{Interest, Wake},
};
use mainstay_writer::{desk::millis, stopwatch::Stopwatch};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::sleep,
};
use tokio_postgres::types::Type;

use crate::{
    calls::{Call, Told, give_back},
    fault::Trouble,
    home::Role,
    link::{Again, Link, Target},
    step::Param,
};

pub(crate) use clerk::clerk;
use rows::{Ears, LOOK, pack, parse, put, tell};

/// Calls of a process that may wait to be sent; more are refused.
const WAITING_CALLS: usize = 4_096;
/// So many go into one row.
const ONE_ROW: usize = 1_000;
/// What may have been lost is given up after this long: what the last process that led may have taken, once another does,
/// and what was sent over a connection that broke. A wait is over so much later than was asked at the latest.
const GIVE_UP: Duration = Duration::from_secs(2);
/// A wait without an answer is asked again this often, in case the first or its answer was lost.
const ANEW: Duration = Duration::from_secs(10);
/// How often to see whom nobody will answer any more.
const SWEEP: Duration = Duration::from_millis(250);

/// The side of a process that follows.
pub(crate) struct Post {
    caller: String,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
    out: mpsc::Sender<Letter>,
    within: Duration,
    closed: AtomicBool,
}

/// A call on its way.
pub(crate) struct Letter {
    number: u64,
    call: Call,
    /// Somebody waits for an answer. Without, it may be sent twice: it ends what ends once.
    answered: bool,
}

/// Passes a wake-up of the process that leads on when it is dropped.
struct PassOn {
    post: Arc<Post>,
    number: u64,
}

impl Drop for PassOn {
    fn drop(&mut self) {
        // If there is no room, it is passed on a little later.
        self.post.send(Call::PassOn(self.number));
    }
}

/// Whether who waits for this may be woken though nothing has happened. A cancellation is taken at its word.
pub(crate) fn may_look(on: &[Interest]) -> bool {
    !on.iter().any(|one| matches!(one, Interest::CancelRequested(_)))
}

/// An answer to another question: another build leads.
pub(crate) fn other(told: &Told) -> Error {
    let message = format!("the process that leads the store answered something else: {told:.40?}");
    Error::unknown(ErrorKind::Unavailable, message)
}

/// A wait that is under way. Dropped meanwhile, it ends at the process that leads, too.
struct Asked<'p> {
    post: &'p Post,
    number: Option<u64>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.post.open().remove(&number);
            // If there is no room, it ends there when nobody asks again.
            self.post.send(Call::Withdraw(number));
        }
    }
}

/// A call without an answer yet.
struct Open {
    tell: oneshot::Sender<Told>,
    sent: Stopwatch,
    at_most: Duration,
    /// It is in the database, or may be.
    out: bool,
    wait: Option<Wait>,
    /// What only reads is asked again when another leads.
    again: Option<Call>,
}

/// A call that waits for something to happen. It may be sent again, under its number.
struct Wait {
    on: Vec<Interest>,
    at_most: Duration,
    asked: Stopwatch,
}

impl Open {
    fn is_over(&self) -> bool {
        self.sent.elapsed() >= self.at_most
    }

    /// Its answer may have been lost.
    fn hurry(&mut self) {
        self.at_most = self.at_most.min(self.sent.elapsed() + GIVE_UP);
    }
}

impl Post {
    /// With what is to be sent.
    pub(crate) fn new(target: &Target, entropy: u64) -> (Arc<Post>, mpsc::Receiver<Letter>) {
        let (out, sending) = mpsc::channel(WAITING_CALLS);
        // Other than every other of this process, and of others.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let caller = format!("{}/{made}/{entropy:x}", target.options.name);
        let within = target.options.within;
        (
            Arc::new(Post {
                caller,
                next: AtomicU64::new(0),
                open: Mutex::default(),
                out,
                within,
                closed: AtomicBool::new(false),
            }),
            sending,
        )
    }

    /// Asks the process that leads. Dropped, it is answered all the same, and what was granted goes back.
    pub(crate) async fn call(&self, call: Call) -> Result<Told, Error> {
        let changes = call.changes();
        // The leader gives up first.
        let at_most = call.within().unwrap_or(self.within) + GIVE_UP;
        let (_, told) = self.ask(call, at_most, None)?;
        self.told(told, changes).await
    }

    /// Sends a call.
    fn ask(
        &self,
        call: Call,
        at_most: Duration,
        wait: Option<Wait>,
    ) -> Result<(u64, oneshot::Receiver<Told>), Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        let (sent, again) = (Stopwatch::start(), call.again());
        self.open().insert(number, Open { tell, sent, at_most, out: false, wait, again });
        if self.out.try_send(Letter { number, call, answered: true }).is_err() {
            self.open().remove(&number);
            let message =
                format!("{WAITING_CALLS} calls wait to be sent to the process that leads; try again later");
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        Ok((number, told))
    }

    /// Sends what is not answered, if there is room.
    fn send(&self, call: Call) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let _ = self.out.try_send(Letter { number, call, answered: false });
    }

    async fn told(&self, told: oneshot::Receiver<Told>, changes: bool) -> Result<Told, Error> {
        match told.await {
            Ok(Told::Failed(trouble)) => Err(trouble.into()),
            Ok(told) => Ok(told),
            Err(_) => {
                let (kind, message) = match self.closed.load(Ordering::Acquire) {
                    true => (ErrorKind::Closed, "the store is closed"),
                    false => (
                        ErrorKind::Unavailable,
                        "the process that leads the store took the call and did not answer",
                    ),
                };
                Err(if changes { Error::unknown(kind, message) } else { Error::new(kind, message) })
            }
        }
    }

    /// Waits at the process that leads. The wake-up is passed on there when it is dropped here. When another leads, it is
    /// woken: who waits looks again.
    pub(crate) async fn wait(self: &Arc<Self>, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        let wait = Wait { on: on.to_vec(), at_most, asked: Stopwatch::start() };
        let call = Call::Wait(on.to_vec(), millis(at_most));
        let (number, told) = self.ask(call, at_most.saturating_add(GIVE_UP), Some(wait))?;
        // Who goes before it is answered leaves the line.
        let mut asked = Asked { post: self, number: Some(number) };
        let told = told.await;
        asked.number = None;
        match told {
            Ok(Told::Woken(true)) => Ok(Wake::woken(Some(Box::new(PassOn { post: self.clone(), number })))),
            Ok(Told::Woken(false)) => Ok(Wake::timed_out()),
            Ok(Told::Failed(trouble)) => match Error::from(trouble) {
                // It leads no more, or closes. Whether another does shows when who waits looks.
                error if error.kind() == ErrorKind::Unavailable && may_look(on) => Ok(Wake::woken(None)),
                error => Err(error),
            },
            Ok(told) => Err(other(&told)),
            Err(_) if self.closed.load(Ordering::Acquire) => {
                Err(Error::new(ErrorKind::Closed, "the store is closed"))
            }
            Err(_) => Ok(Wake::woken(None)),
        }
    }

    /// Another leads: what its predecessor took is not answered any more. Who waits looks again.
    fn change_hands(&self) {
        let mut open = self.open();
        open.retain(|_, open| open.wait.as_ref().is_none_or(|wait| !may_look(&wait.on)));
        for (number, open) in open.iter_mut() {
            if !self.ask_again(*number, open) {
                open.hurry();
            }
        }
    }

    /// Sends a wait once more, for what is left of its time, or what only reads. `false`: it is neither.
    fn ask_again(&self, number: u64, open: &mut Open) -> bool {
        let call = match (&mut open.wait, &open.again) {
            (Some(wait), _) => {
                wait.asked = Stopwatch::start();
                let left = wait.at_most.saturating_sub(open.sent.elapsed());
                Call::Wait(wait.on.clone(), millis(left))
            }
            (None, again) => match again.as_ref().and_then(Call::again) {
                Some(call) => call,
                None => return false,
            },
        };
        // If there is no room, a wait is asked a little later.
        let sent = self.out.try_send(Letter { number, call, answered: true }).is_ok();
        sent || open.wait.is_some()
    }

    /// Nobody waits any longer than was said; waits are asked again.
    fn sweep(&self) {
        let mut open = self.open();
        for (_, over) in open.extract_if(|_, open| open.is_over()) {
            let told = match over {
                Open { wait: Some(_), .. } => Told::Woken(false),
                Open { out: false, .. } => {
                    let message = "the call could not be sent to the process that leads the store; try again";
                    Told::Failed(Error::new(ErrorKind::Unavailable, message).into())
                }
                // Nobody knows.
                Open { out: true, .. } => continue,
            };
            let _ = over.tell.send(told);
        }
        for (number, open) in open.iter_mut() {
            if open.out && open.wait.as_ref().is_some_and(|wait| wait.asked.elapsed() >= ANEW) {
                self.ask_again(*number, open);
            }
        }
    }

    /// Whoever waits hears that the store is closed.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.open().clear();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what came. What nobody waits for any more is given back.
    fn deliver(&self, number: u64, told: Told, entropy: u64) {
        let open = self.open().remove(&number);
        let missed = match open {
            Some(open) => open.tell.send(told).err(),
            None => Some(told),
        };
        if matches!(missed, Some(Told::Woken(true))) {
            self.send(Call::PassOn(number));
        }
        if let Some(call) = missed.and_then(|told| give_back(&told, entropy)) {
            // If there is no room, the leases run out.
            self.send(call);
        }
    }

    /// The life of this side, until the store closes.
    pub(crate) async fn live(
        self: Arc<Post>,
        target: Arc<Target>,
        sending: mpsc::Receiver<Letter>,
        role: watch::Receiver<Role>,
        entropy: impl Fn() -> u64,
    ) {
        tokio::select! {
            () = self.carry(target, sending, entropy) => {}
            // Beside it: whatever the database does, nobody waits for longer than was said.
            () = self.mind(role) => {}
        }
        self.close();
    }

    /// Sees whose calls are not answered any more, until the store closes.
    async fn mind(&self, mut role: watch::Receiver<Role>) {
        let mut leader = None::<String>;
        loop {
            tokio::select! {
                () = sleep(SWEEP) => self.sweep(),
                changed = role.changed() => {
                    let now = match &*role.borrow_and_update() {
                        Role::Closed => return,
                        Role::Follows(owner, epoch) => Some(format!("{owner}/{epoch}")),
                        Role::Leads(_) => Some("this process".to_owned()),
                        Role::Looking | Role::Away(_) => None,
                    };
                    if changed.is_err() {
                        return;
                    }
                    if now.is_some() && leader.is_some() && now != leader {
                        self.change_hands();
                    }
                    leader = now.or(leader);
                }
            }
        }
    }

    async fn carry(
        &self,
        target: Arc<Target>,
        mut sending: mpsc::Receiver<Letter>,
        entropy: impl Fn() -> u64,
    ) {
        let told = Arc::new(Notify::new());
        let (mut link, mut ears) =
            (Again::new(target.clone()), Ears::new(target.clone(), told.clone(), "replies"));
        let mut waiting = Vec::new();
        loop {
            let busy = !self.open().is_empty() || !waiting.is_empty();
            tokio::select! {
                many = sending.recv_many(&mut waiting, ONE_ROW), if waiting.is_empty() => if many == 0 { return },
                () = told.notified(), if busy => {}
                () = sleep(ears.patience(busy)), if busy => {}
            }
            let _ = ears.listen().await;
            let exchanged = self.exchange(&mut link, &mut waiting, &entropy).await;
            if let Err(trouble) = exchanged {
                tracing::debug!(error = %trouble.error(), "calls wait for the database");
                link.drop_link();
                sleep(LOOK[2]).await;
            }
        }
    }

    async fn exchange(
        &self,
        link: &mut Again,
        waiting: &mut Vec<Letter>,
        entropy: &impl Fn() -> u64,
    ) -> Result<(), Trouble> {
        let link = link.get().await?;
        self.hand_in(&link, waiting).await?;
        let sql = "delete from {s}.replies where caller = $1 returning body";
        for row in link.query(sql, vec![Param::new(self.caller.clone(), Type::TEXT)]).await? {
            for (number, told) in parse::<Vec<(u64, Told)>>(row.get(0)).unwrap_or_default() {
                self.deliver(number, told, entropy());
            }
        }
        Ok(())
    }

    /// Has what waits on its way. What changes something is sent once: if nobody knows whether it has arrived, its caller
    /// hears its answer soon, or that nobody knows.
    async fn hand_in(&self, link: &Link, waiting: &mut Vec<Letter>) -> Result<(), Trouble> {
        // Who has been told that it could not be sent is not to find that it was.
        waiting.retain(|letter| !letter.answered || self.mark(letter, true));
        if waiting.is_empty() {
            return Ok(());
        }
        while !waiting.is_empty() {
            let (row, many) = pack(waiting.iter().map(|letter| (letter.number, &letter.call)));
            let Err(trouble) = put(link, "calls", &self.caller, row).await else {
                waiting.drain(..many);
                continue;
            };
            let mut those: Vec<_> = waiting.drain(..many).collect();
            those.retain(|letter| self.goes_again(letter, &trouble));
            those.append(waiting);
            *waiting = those;
            for letter in waiting.iter() {
                self.mark(letter, false);
            }
            return Err(trouble);
        }
        tell(link, "calls").await
    }

    /// Whether what could not be sent is sent again.
    fn goes_again(&self, letter: &Letter, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::Lost(_) if letter.answered && letter.call.changes() => {
                if let Some(open) = self.open().get_mut(&letter.number) {
                    open.hurry();
                }
                false
            }
            Trouble::NotSent(error) => {
                if let Some(open) = self.open().remove(&letter.number) {
                    let _ = open.tell.send(Told::Failed(Error::new(error.kind(), error.to_string()).into()));
                }
                false
            }
            _ => true,
        }
    }

    /// Whether somebody still waits for an answer; notes whether the call is out.
    fn mark(&self, letter: &Letter, out: bool) -> bool {
        self.open().get_mut(&letter.number).map(|open| open.out = out).is_some()
    }
}
