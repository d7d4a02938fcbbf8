//! The side of the process that leads.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_core::{
    Error, ErrorKind,
    store::{Interest, Wake},
};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    ONE_ROW, WAITING_CALLS,
    rows::{Ears, LOOK, pack, parse, put, tell},
};
use crate::{
    calls::{Call, Told},
    fault::Trouble,
    home::Pool,
    link::{Again, Target},
    local,
    step::Param,
    term::Leading,
};

/// How long a wake-up is another process's, if it does not say that it is over.
const KEPT: Duration = Duration::from_secs(5);
/// A wait of another process that is not asked again for this long is over.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Answers that nobody has fetched for so many leases are let go of.
const LEFT_BEHIND: u32 = 20;

/// Takes calls, has them answered, sends the answers. Until it is dropped.
pub(crate) async fn clerk(target: Arc<Target>, desk: Arc<Leading>, pool: Arc<Pool>) {
    let told = Arc::new(Notify::new());
    let mut ears = Ears::new(target.clone(), told.clone(), "calls");
    let mut link = Again::new(target.clone());
    let (answers, answered) = mpsc::channel::<(String, u64, Told)>(WAITING_CALLS);
    let places = || Arc::new(Semaphore::new(WAITING_CALLS));
    let mut clerk = Clerk {
        desk,
        pool,
        answers,
        calls: places(),
        waits: places(),
        wakes: Arc::default(),
        lines: Arc::default(),
        at_work: JoinSet::new(),
    };
    clerk.at_work.spawn(send_replies(target.clone(), answered));
    clerk.at_work.spawn(let_go(target));
    loop {
        let _ = ears.listen().await;
        if clerk.desk.inbox.is_closed() {
            // What is left is for the next.
            std::future::pending::<()>().await;
        }
        match take(&mut link).await {
            Ok(calls) if calls.is_empty() => {
                let _ = timeout(ears.patience(clerk.is_busy()), told.notified()).await;
            }
            Ok(calls) => {
                for (caller, number, call) in calls {
                    clerk.begin(caller, number, call).await;
                }
                while clerk.at_work.try_join_next().is_some() {}
            }
            Err(_) => {
                link.drop_link();
                sleep(LOOK[2]).await;
            }
        }
    }
}

struct Clerk {
    desk: Arc<Leading>,
    pool: Arc<Pool>,
    answers: mpsc::Sender<(String, u64, Told)>,
    /// Places for calls, and for waits: those take long.
    calls: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    /// Wake-ups that other processes have.
    wakes: Arc<Wakes>,
    /// What is waited for here.
    lines: Arc<Lines>,
    at_work: JoinSet<()>,
}

type Wakes = Mutex<HashMap<(String, u64), Wake>>;
/// Told when a wait is asked again, or withdrawn: then it is not there any more.
type Lines = Mutex<HashMap<(String, u64), Arc<Notify>>>;

impl Clerk {
    fn is_busy(&self) -> bool {
        [&self.calls, &self.waits].iter().any(|places| places.available_permits() < WAITING_CALLS)
    }

    async fn begin(&mut self, caller: String, number: u64, call: Call) {
        match call {
            Call::PassOn(number) => drop(lock(&self.wakes).remove(&(caller, number))),
            Call::Withdraw(number) => {
                let whose = (caller, number);
                if let Some(line) = lock(&self.lines).remove(&whose) {
                    line.notify_one();
                }
                drop(lock(&self.wakes).remove(&whose));
            }
            Call::Wait(on, ms) => self.wait((caller, number), on, Duration::from_millis(ms)).await,
            call => {
                let Ok(place) = self.calls.clone().acquire_owned().await else { return };
                let (desk, pool, answers) = (self.desk.clone(), self.pool.clone(), self.answers.clone());
                self.at_work.spawn(async move {
                    let told = local::answer(&desk, &pool, call).await;
                    let _ = answers.send((caller, number, told)).await;
                    drop(place);
                });
            }
        }
    }

    async fn wait(&mut self, whose: (String, u64), on: Vec<Interest>, at_most: Duration) {
        if let Some(line) = lock(&self.lines).get(&whose) {
            // Asked again: it keeps its place.
            return line.notify_one();
        }
        let Ok(place) = self.waits.clone().try_acquire_owned() else {
            let message = format!(
                "{WAITING_CALLS} calls of other processes wait at the one that leads; try again later"
            );
            let refused = Told::Failed(Error::new(ErrorKind::Overloaded, message).into());
            let _ = self.answers.send((whose.0, whose.1, refused)).await;
            return;
        };
        let line = Arc::new(Notify::new());
        lock(&self.lines).insert(whose.clone(), line.clone());
        let (desk, answers) = (self.desk.clone(), self.answers.clone());
        let (wakes, lines) = (self.wakes.clone(), self.lines.clone());
        self.at_work.spawn(async move {
            let is_there = || lock(&lines).get(&whose).is_some_and(|known| Arc::ptr_eq(known, &line));
            let waited = {
                let mut waiting = pin!(desk.wait(&on, at_most));
                loop {
                    tokio::select! {
                        ended = &mut waiting => break Some(ended),
                        asked = timeout(FORGOTTEN, line.notified()) => if asked.is_err() || !is_there() { break None },
                    }
                }
            };
            drop(place);
            let told = {
                // A withdrawal finds the line, or the wake-up.
                let mut lines = lock(&lines);
                if !lines.get(&whose).is_some_and(|known| Arc::ptr_eq(known, &line)) {
                    // A wake-up that nobody waits for is dropped, and passed on.
                    return;
                }
                lines.remove(&whose);
                match waited {
                    None => return,
                    Some(Ok(wake)) => {
                        let woken = wake.is_woken();
                        if woken {
                            lock(&wakes).insert(whose.clone(), wake);
                        }
                        Told::Woken(woken)
                    }
                    // This process closes, or leads no more: who waits looks again when another does.
                    Some(Err(_)) if desk.is_open().is_err() => return,
                    Some(Err(error)) => Told::Failed(error.into()),
                }
            };
            let woken = matches!(told, Told::Woken(true));
            let _ = answers.send((whose.0.clone(), whose.1, told)).await;
            if woken {
                // One that dies says no more.
                sleep(KEPT).await;
                let wake = lock(&wakes).remove(&whose);
                drop(wake);
            }
        });
    }
}

fn lock<T>(of_all: &Mutex<T>) -> MutexGuard<'_, T> {
    of_all.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut left = &replies[..];
            while !left.is_empty() {
                let (row, many) = pack(left.iter());
                left = &left[many..];
                // What cannot be sent now is not: the database is away, and whoever waits hears that nobody knows.
                for _ in 0..3 {
                    let sent = async { put(&*link.get().await?, "replies", &caller, row.clone()).await };
                    if sent.await.is_ok() {
                        break;
                    }
                    link.drop_link();
                    sleep(LOOK[2]).await;
                }
            }
            if let Ok(link) = link.get().await {
                let _ = tell(&link, "replies").await;
            }
        }
    }
}

/// Lets go of answers that nobody has fetched: of processes that have died.
async fn let_go(target: Arc<Target>) {
    let pause = target.options.lease * LEFT_BEHIND;
    let mut link = Again::new(target);
    // The newest of a while ago.
    let mut old = 0_i64;
    loop {
        let looked = async {
            let link = link.get().await?;
            let rows = link.query("select coalesce(max(id), 0) from {s}.replies", vec![]).await?;
            let newest = rows.first().map_or(0, |row| row.get::<_, i64>(0));
            // After a crash of the server they are numbered anew.
            if newest >= old {
                link.query("delete from {s}.replies where id <= $1", vec![Param::i64(old as u64)]).await?;
            }
            Ok::<_, Trouble>(newest)
        };
        match looked.await {
            Ok(newest) => old = newest,
            Err(trouble) => tracing::debug!(error = %trouble.error(), "old answers stay for now"),
        }
        sleep(pause).await;
    }
}
