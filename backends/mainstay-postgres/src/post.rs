//! How calls travel through the database: rows of `calls` and `replies`, each with all that waited to be sent.

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
use mainstay_writer::{desk::Desk, stopwatch::Stopwatch};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::types::Type;

use crate::{
    calls::{Call, Told, give_back},
    fault::Trouble,
    home::{Pool, Role},
    link::{Again, Link, Target},
    local,
    step::Param,
};

/// Calls of a process that may wait to be sent; more are refused.
const WAITING_CALLS: usize = 4_096;
/// So many go into one row.
const ONE_ROW: usize = 1_000;
/// How soon to look for rows nobody told of: with notifications, without while something is under way, and without.
const LOOK: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(3), Duration::from_millis(30)];
/// How long a wake-up is another process's, if it does not say that it is over.
const KEPT: Duration = Duration::from_secs(5);
/// After a new process has begun to lead, what the last one may have taken is given up after this long.
const GIVE_UP: Duration = Duration::from_secs(2);

/// The side of a process that follows.
pub(crate) struct Post {
    caller: String,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
    out: mpsc::Sender<(u64, Call)>,
    within: Duration,
    closed: AtomicBool,
}

/// Passes a wake-up of the process that leads on when it is dropped.
struct PassOn {
    post: Arc<Post>,
    number: u64,
}

impl Drop for PassOn {
    fn drop(&mut self) {
        // If there is no room, it is passed on a little later.
        let _ = self
            .post
            .out
            .try_send((self.post.next.fetch_add(1, Ordering::Relaxed), Call::PassOn(self.number)));
    }
}

/// An answer to another question: another build leads.
pub(crate) fn other(told: &Told) -> Error {
    let message = format!("the process that leads the store answered something else: {told:.40?}");
    Error::unknown(ErrorKind::Unavailable, message)
}

/// A call without an answer yet.
struct Open {
    tell: oneshot::Sender<Told>,
    sent: Stopwatch,
    at_most: Duration,
}

impl Post {
    /// With what is to be sent.
    pub(crate) fn new(target: &Target, entropy: u64) -> (Arc<Post>, mpsc::Receiver<(u64, Call)>) {
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
        let (_, told) = self.ask(call, Duration::ZERO)?;
        self.told(told, changes).await
    }

    /// Sends a call; it may take so much longer than others do.
    fn ask(&self, call: Call, longer: Duration) -> Result<(u64, oneshot::Receiver<Told>), Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        // The leader gives up first.
        let at_most = self.within + longer + GIVE_UP;
        self.open().insert(number, Open { tell, sent: Stopwatch::start(), at_most });
        if self.out.try_send((number, call)).is_err() {
            self.open().remove(&number);
            let message =
                format!("{WAITING_CALLS} calls wait to be sent to the process that leads; try again later");
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        Ok((number, told))
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

    /// Waits at the process that leads. The wake-up is passed on there when it is dropped here.
    pub(crate) async fn wait(self: &Arc<Self>, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        let call = Call::Wait(on.to_vec(), mainstay_writer::desk::millis(at_most));
        let (number, told) = self.ask(call, at_most)?;
        match self.told(told, false).await? {
            Told::Woken(true) => Ok(Wake::woken(Some(Box::new(PassOn { post: self.clone(), number })))),
            Told::Woken(false) => Ok(Wake::timed_out()),
            told => Err(other(&told)),
        }
    }

    /// Another leads: what its predecessor took is not answered any more.
    fn give_up(&self, since: Stopwatch) {
        self.open().retain(|_, open| open.sent.elapsed() < since.elapsed());
    }

    /// Nobody waits any longer than was said.
    fn sweep(&self) {
        self.open().retain(|_, open| open.sent.elapsed() < open.at_most);
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
            let passed = (self.next.fetch_add(1, Ordering::Relaxed), Call::PassOn(number));
            let _ = self.out.try_send(passed);
        }
        if let Some(call) = missed.and_then(|told| give_back(&told, entropy)) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // If there is no room, the leases run out.
            let _ = self.out.try_send((number, call));
        }
    }

    /// The life of this side, until the store closes.
    pub(crate) async fn live(
        self: Arc<Post>,
        target: Arc<Target>,
        mut sending: mpsc::Receiver<(u64, Call)>,
        mut role: watch::Receiver<Role>,
        entropy: impl Fn() -> u64,
    ) {
        let told = Arc::new(Notify::new());
        let (mut link, mut ears) =
            (Again::new(target.clone()), Ears::new(target.clone(), told.clone(), "replies"));
        let (mut waiting, mut leader) = (Vec::new(), None::<String>);
        loop {
            self.sweep();
            let busy = !self.open().is_empty();
            tokio::select! {
                many = sending.recv_many(&mut waiting, ONE_ROW), if waiting.is_empty() => if many == 0 { return },
                () = told.notified(), if busy => {}
                () = sleep(ears.patience(busy)), if busy => {}
                changed = role.changed() => {
                    if changed.is_err() {
                        return self.close();
                    }
                    let now = match &*role.borrow_and_update() {
                        Role::Closed => return self.close(),
                        Role::Follows(owner, epoch) => Some(format!("{owner}/{epoch}")),
                        _ => None,
                    };
                    if now.is_some() && leader.is_some() && now != leader {
                        let (post, since) = (self.clone(), Stopwatch::start());
                        drop(target.runtime.spawn(async move {
                            sleep(GIVE_UP).await;
                            post.give_up(since);
                        }));
                    }
                    leader = now.or(leader);
                }
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
        waiting: &mut Vec<(u64, Call)>,
        entropy: &impl Fn() -> u64,
    ) -> Result<(), Trouble> {
        let link = link.get().await?;
        if !waiting.is_empty() {
            send(&link, "calls", &self.caller, waiting).await?;
            waiting.clear();
        }
        let sql = "delete from {s}.replies where caller = $1 returning body";
        for row in link.query(sql, vec![Param::new(self.caller.clone(), Type::TEXT)]).await? {
            for (number, told) in parse::<Vec<(u64, Told)>>(row.get(0)).unwrap_or_default() {
                self.deliver(number, told, entropy());
            }
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::error!(%error, "a call or an answer of another process makes no sense"))
        .ok()
}

/// Writes a row, and then tells of it: never in one transaction, for commits with a notification wait for each other.
async fn send(link: &Link, table: &str, caller: &str, what: &impl Serialize) -> Result<(), Trouble> {
    let body = serde_json::to_vec(what).expect("calls have a JSON form");
    let sql = format!("insert into {{s}}.{table} (caller, body) values ($1, $2)");
    let params = vec![Param::new(caller.to_owned(), Type::TEXT), Param::bytes(body)];
    link.query(&sql, params).await?;
    link.query("select pg_notify($1, '')", vec![Param::new(link.channel(table), Type::TEXT)]).await.map(drop)
}

/// A session that hears of new rows.
struct Ears {
    target: Arc<Target>,
    told: Arc<Notify>,
    table: &'static str,
    link: Option<Link>,
}

impl Ears {
    fn new(target: Arc<Target>, told: Arc<Notify>, table: &'static str) -> Ears {
        Ears { target, told, table, link: None }
    }

    /// Listens, if it may and does not yet.
    async fn listen(&mut self) -> Result<(), Trouble> {
        if !self.target.options.listen || self.link.as_ref().is_some_and(|link| !link.is_closed()) {
            return Ok(());
        }
        let link = Link::open(&self.target, Some(self.told.clone())).await?;
        link.run(&format!("listen \"{}\"", link.channel(self.table))).await?;
        self.link = Some(link);
        Ok(())
    }

    fn patience(&self, busy: bool) -> Duration {
        match &self.link {
            Some(_) => LOOK[0],
            None if busy => LOOK[1],
            None => LOOK[2],
        }
    }
}

/// The side of the process that leads: takes calls, has them answered, sends the answers. Until it is dropped.
pub(crate) async fn clerk(target: Arc<Target>, desk: Arc<Desk>, pool: Arc<Pool>) {
    let (told, taken) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(WAITING_CALLS)));
    let mut ears = Ears::new(target.clone(), told.clone(), "calls");
    let mut link = Again::new(target.clone());
    let (answers, answered) = mpsc::channel::<(String, u64, Told)>(WAITING_CALLS);
    // Wake-ups that other processes have.
    let wakes: Arc<Wakes> = Arc::default();
    let mut at_work = JoinSet::new();
    at_work.spawn(send_replies(target.clone(), answered));
    loop {
        let _ = ears.listen().await;
        match take(&mut link).await {
            Ok(calls) if calls.is_empty() => {
                let _ =
                    timeout(ears.patience(taken.available_permits() < WAITING_CALLS), told.notified()).await;
            }
            Ok(calls) => {
                for (caller, number, call) in calls {
                    let Ok(permit) = taken.clone().acquire_owned().await else { return };
                    let (desk, pool, answers) = (desk.clone(), pool.clone(), answers.clone());
                    let wakes = wakes.clone();
                    at_work.spawn(async move {
                        let told = match call {
                            Call::PassOn(number) => {
                                let wake = lock(&wakes).remove(&(caller, number));
                                return drop(wake);
                            }
                            Call::Wait(on, ms) => match desk.wait(&on, Duration::from_millis(ms)).await {
                                Ok(wake) => {
                                    let woken = wake.is_woken();
                                    if woken {
                                        lock(&wakes).insert((caller.clone(), number), wake);
                                    }
                                    Told::Woken(woken)
                                }
                                Err(error) => Told::Failed(error.into()),
                            },
                            call => local::answer(&desk, &pool, call).await,
                        };
                        let woken = matches!(told, Told::Woken(true));
                        let _ = answers.send((caller.clone(), number, told)).await;
                        drop(permit);
                        if woken {
                            // One that dies says no more.
                            sleep(KEPT).await;
                            let wake = lock(&wakes).remove(&(caller, number));
                            drop(wake);
                        }
                    });
                }
                while at_work.try_join_next().is_some() {}
            }
            Err(_) => {
                link.drop_link();
                sleep(LOOK[2]).await;
            }
        }
    }
}

type Wakes = Mutex<HashMap<(String, u64), Wake>>;

fn lock(wakes: &Wakes) -> MutexGuard<'_, HashMap<(String, u64), Wake>> {
    wakes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(link: &mut Again) -> Result<Vec<(String, u64, Call)>, Trouble> {
    let link = link.get().await?;
    let mut rows = link.query("delete from {s}.calls returning id, caller, body", vec![]).await?;
    rows.sort_by_key(|row| row.get::<_, i64>(0));
    let mut calls = Vec::new();
    for row in &rows {
        let caller: String = row.get(1);
        for (number, call) in parse::<Vec<(u64, Call)>>(row.get(2)).unwrap_or_default() {
            calls.push((caller.clone(), number, call));
        }
    }
    Ok(calls)
}

async fn send_replies(target: Arc<Target>, mut answered: mpsc::Receiver<(String, u64, Told)>) {
    let mut link = Again::new(target);
    let mut waiting = Vec::new();
    while answered.recv_many(&mut waiting, ONE_ROW).await > 0 {
        let mut by_caller: HashMap<String, Vec<(u64, Told)>> = HashMap::new();
        for (caller, number, told) in waiting.drain(..) {
            by_caller.entry(caller).or_default().push((number, told));
        }
        for (caller, replies) in by_caller {
            // What cannot be sent now is not: the database is away, and whoever waits hears that nobody knows.
            for _ in 0..3 {
                let sent = async { send(&*link.get().await?, "replies", &caller, &replies).await };
                if sent.await.is_ok() {
                    break;
                }
                link.drop_link();
                sleep(LOOK[2]).await;
            }
        }
    }
}
