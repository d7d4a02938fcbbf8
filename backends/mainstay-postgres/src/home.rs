//! The life of a store in this process: it leads, or looks for whether it may.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_core::{Error, ErrorKind};
use mainstay_writer::{desk::Office, message::Message, stopwatch::Stopwatch};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    clock::DatabaseClock,
    fault::Trouble,
    lead::{self, Try},
    link::{Again, Link, Target, lost},
    outbox, post, schema,
    term::{self, Leading, Start, Term},
};

/// What this process is to the store at the moment.
#[derive(Clone)]
pub(crate) enum Role {
    /// Nobody knows yet.
    Looking,
    Leads(Arc<Leading>),
    /// This one leads, with this epoch.
    Follows(String, u64),
    /// The database is not there, or will not have it.
    Away(Error),
    Closed,
}

pub(crate) struct Home {
    pub(crate) target: Arc<Target>,
    pub(crate) clock: Arc<DatabaseClock>,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) users: Option<Handle>,
    pub(crate) pool: Arc<Pool>,
    /// Opening has gone well: what goes wrong from now on is heard by nobody who waits for it.
    pub(crate) opened: AtomicBool,
}

/// How soon to look again whether the last one still leads. Asking costs a look at one row.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The session by which a process leads: others see that it has ended.
struct Session {
    link: Again,
    ended: Arc<Notify>,
}

impl Session {
    fn new(target: &Arc<Target>) -> Session {
        let ended = Arc::new(Notify::new());
        Session { link: Again::telling(target.clone(), ended.clone()), ended }
    }
}

impl Home {
    /// Until the store closes.
    pub(crate) async fn live(self: Arc<Home>) {
        let mut session = Session::new(&self.target);
        let mut closing = self.closing.subscribe();
        while !*closing.borrow() {
            let role = match self.try_to_lead(&mut session).await {
                Ok(role) => role,
                Err(trouble) => Some(Role::Away(trouble.error())),
            };
            if let Some(role) = role {
                let damage = matches!(&role, Role::Away(error) if error.kind() == ErrorKind::Untrusted);
                self.role.send_if_modified(|now| {
                    let same = matches!((&*now, &role), (Role::Follows(a, b), Role::Follows(c, d)) if (a, b) == (c, d));
                    if !same {
                        *now = role;
                    }
                    !same
                });
                if damage {
                    // Trying again would end the same, again and again.
                    let _ = closing.wait_for(|closing| *closing).await;
                }
                tokio::select! {
                    () = sleep(LOOK_AGAIN) => {}
                    _ = closing.wait_for(|closing| *closing) => {}
                }
            }
        }
        self.role.send_replace(Role::Closed);
    }

    /// Leads for as long as it may; `None`: it did, and it is over. Otherwise what it is instead.
    async fn try_to_lead(&self, session: &mut Session) -> Result<Option<Role>, Trouble> {
        let link = session.link.get().await?;
        let (asked, own) = (Office::now(), self.clock.own());
        match lead::take(&link, &self.target.options).await? {
            Try::Follows(owner, epoch) => Ok(Some(Role::Follows(owner, epoch))),
            Try::Outdated(format) => {
                let error = Error::new(ErrorKind::Untrusted, schema::another(self.target.schema(), format));
                self.is_damaged(&error);
                Ok(Some(Role::Away(error)))
            }
            Try::Leads(epoch, time) => {
                // Before anything is loaded: tokens go on from it.
                if self.target.options.database_time {
                    self.clock.heard(own, time);
                }
                let epoch = Arc::new(AtomicU64::new(epoch));
                let over = self.lead(session, epoch.clone(), asked + self.target.options.lease).await;
                if let Ok(session) = session.link.get().await {
                    let _ = lead::release(&session, epoch.load(Ordering::Acquire)).await;
                }
                Ok(over.err().map(Role::Away))
            }
        }
    }

    /// Nobody else can lead until `certain`.
    async fn lead(
        &self,
        session: &mut Session,
        epoch: Arc<AtomicU64>,
        mut certain: Duration,
    ) -> Result<(), Error> {
        let Session { link, ended } = session;
        let options = &self.target.options;
        tracing::info!(
            schema = options.schema,
            epoch = epoch.load(Ordering::Relaxed),
            "this process leads the store"
        );
        let Term { mut ready, mut done } = term::start(Start {
            target: self.target.clone(),
            clock: self.clock.clone(),
            epoch: epoch.clone(),
            users: self.users.clone(),
        })?;
        let mut renewal = interval(options.lease / 3);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = Stopwatch::start();
        let (mut desk, mut failed) = (None, None);
        // Ends with the term, whatever is under way.
        let mut clerk = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                // In this order: why it ended is heard before that it has.
                biased;
                opened = &mut ready, if desk.is_none() && failed.is_none() => match opened {
                    Ok(Ok(opened)) => {
                        opened.office.set(certain);
                        self.role.send_replace(Role::Leads(opened.clone()));
                        clerk.spawn_on(
                            post::clerk(self.target.clone(), opened.clone(), self.pool.clone()),
                            &self.target.runtime,
                        );
                        clerk.spawn_on(
                            outbox::drain(self.target.clone(), opened.desk.clone()),
                            &self.target.runtime,
                        );
                        // Closed while it was loading: then there was no inbox to close.
                        if *self.closing.borrow() {
                            opened.inbox.close();
                        }
                        desk = Some(opened);
                    }
                    Ok(Err(error)) => {
                        self.is_damaged(&error);
                        failed = Some(error);
                    }
                    Err(_) => failed = Some(Error::new(ErrorKind::Unavailable, "the writing thread could not start")),
                },
                _ = over(&mut done) => break,
                () = ended.notified() => if !link.is_open() {
                    // Others need not wait for the end of the lease.
                    certain = Duration::ZERO;
                    if let Some(desk) = &desk {
                        desk.office.suspend();
                    }
                    renewal.reset_immediately();
                },
                _ = renewal.tick() => {
                    let (began, asked) = (Stopwatch::start(), Office::now());
                    let proved = epoch.load(Ordering::Acquire);
                    // A session that hangs must not keep this process in office: another may lead when the lease is over.
                    let left = (options.lease.mul_f32(0.75)).saturating_sub(renewed.elapsed());
                    let renewal = timeout(left.max(options.lease / 6), self.renew(link, proved));
                    match renewal.await.unwrap_or_else(|_| Err(lost("the lease could not be renewed in time"))) {
                        Ok(true) => {
                            renewed = began;
                            certain = asked + options.lease;
                            if let Some(desk) = &desk {
                                desk.office.set(certain);
                            }
                        }
                        // The writer has made its own epoch invalid meanwhile, to be sure of a commit.
                        Ok(false) if epoch.load(Ordering::Acquire) != proved => {}
                        Ok(false) => depose(desk.as_ref(), "another process leads the store now"),
                        // It may be led by another before it can be asked again.
                        Err(cause) if renewed.elapsed() > options.lease.mul_f32(0.6) => {
                            depose(desk.as_ref(), &format!("the lease could not be renewed: {}", cause.error()));
                        }
                        Err(_) => link.drop_link(),
                    }
                }
            }
        }
        if let Some(desk) = &desk {
            desk.office.suspend();
        }
        // Whoever comes from now on waits for what is next.
        self.role.send_if_modified(|role| {
            let leads = matches!(role, Role::Leads(_));
            if leads {
                *role = Role::Looking;
            }
            leads
        });
        match failed.or_else(|| desk.and_then(|desk| desk.ended.borrow().clone()?.err())) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Tables that make no sense, or that a newer build has changed, end a process that waited for its turn, as they
    /// would end one that leads.
    fn is_damaged(&self, error: &Error) {
        if error.kind() == ErrorKind::Untrusted && self.opened.load(Ordering::Acquire) {
            tracing::error!(%error, "the store cannot be led; this process does not try again");
            if let Some(hook) = &self.target.options.on_fatal {
                hook(error);
            }
        }
    }

    async fn renew(&self, link: &mut Again, epoch: u64) -> Result<bool, Trouble> {
        let asked = self.clock.own();
        let session = link.get().await?;
        let options = &self.target.options;
        let Some(time) = lead::renew(&session, options, epoch).await? else { return Ok(false) };
        if options.database_time {
            self.clock.heard(asked, time);
        }
        Ok(true)
    }

    /// Runs a future on the store's own runtime, whose timers are real.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let gone = |_| Error::new(ErrorKind::Closed, "the store is closed");
        self.target.runtime.spawn(call).await.map_err(gone)?
    }
}

async fn over(done: &mut oneshot::Receiver<()>) {
    let _ = done.await;
}

/// Nothing more is acknowledged by this writer.
fn depose(desk: Option<&Arc<Leading>>, why: &str) {
    let Some(desk) = desk else { return };
    let error = Error::new(ErrorKind::Unavailable, format!("{why}; try again"));
    if desk.moved.set(error.clone()).is_ok() {
        tracing::warn!(%error, "this process does not lead the store any more");
        let _ = desk.inbox.force(Message::Failed(error));
    }
}

/// A few sessions for reads.
pub(crate) struct Pool {
    target: Arc<Target>,
    free: std::sync::Mutex<Vec<Again>>,
    permits: tokio::sync::Semaphore,
}

impl Pool {
    pub(crate) fn new(target: Arc<Target>) -> Pool {
        let permits = tokio::sync::Semaphore::new(target.options.readers.max(1));
        Pool { target, free: std::sync::Mutex::default(), permits }
    }

    /// How long a read may wait for its turn.
    pub(crate) fn within(&self) -> Duration {
        self.target.options.within
    }

    /// Reads in one snapshot, on a session that nobody else uses meanwhile.
    pub(crate) async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&Link) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let within = self.target.options.within;
        let busy = |_| {
            let message = "all sessions for reads are busy; try again later, or allow more (`readers`)";
            Error::new(ErrorKind::DeadlineExceeded, message)
        };
        let permit = tokio::time::timeout(within, self.permits.acquire()).await.map_err(busy)?;
        let _permit = permit.map_err(|_| Error::new(ErrorKind::Closed, "the store is closed"))?;
        let free = self.lock().pop();
        let mut again = free.unwrap_or_else(|| Again::new(self.target.clone()));
        let link = again.get().await.map_err(Trouble::error)?;
        link.run("begin isolation level repeatable read read only").await.map_err(Trouble::error)?;
        let answer = read(&link).await;
        // A session that cannot end its transaction is let go of.
        if link.run(if answer.is_ok() { "commit" } else { "rollback" }).await.is_ok() {
            self.lock().push(again);
        }
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Again>> {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
