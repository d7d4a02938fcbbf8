//! The admin listener: probes, metrics, administration, on the control thread. First to open, last to close.

#[cfg(feature = "testing")]
mod desk;
mod routes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use tokio::time::timeout;

#[cfg(feature = "testing")]
pub(crate) use desk::Desk;

use crate::app::Core;
use crate::http::{Door, Limits, accept, bind, cannot_listen};
use crate::shutdown::{Phase, Shutdown};
use crate::tasks::TaskSet;
use crate::{Error, Result, millis, secs};

type Extend = Box<dyn FnOnce(Router) -> Router + Send>;

/// The admin listener's state within an app.
pub(crate) struct Admin {
    address: OnceLock<SocketAddr>,
    extensions: Mutex<Vec<Extend>>,
    /// Everything but the probes; absent until `boot` has returned, because `boot` may add authentication.
    guarded: Mutex<Option<Router>>,
    base: Mutex<Option<Router>>,
    /// Its own: it does not drain with the rest.
    shutdown: Shutdown,
    tasks: OnceLock<TaskSet>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: OnceLock::new(),
            extensions: Mutex::default(),
            guarded: Mutex::default(),
            base: Mutex::default(),
            shutdown: Shutdown::new(),
            tasks: OnceLock::new(),
        }
    }
}

impl Admin {
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    pub fn extend(&self, extend: Extend) {
        lock(&self.extensions).push(extend);
    }

    /// Opens everything but the probes: nothing is added any more.
    pub fn complete(&self) {
        let extensions = std::mem::take(&mut *lock(&self.extensions));
        let base = lock(&self.base).take().unwrap_or_default();
        let router = extensions.into_iter().fold(base, |router, extend| extend(router));
        *lock(&self.guarded) = Some(router.layer(from_fn(routes::tell_route)));
    }

    pub(super) fn guarded(&self) -> Option<Router> {
        lock(&self.guarded).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Before there is any other thread.
pub(crate) fn adopt_passed_sockets() {
    crate::http::adopt();
}

/// Says which sockets were passed for nothing.
pub(crate) fn warn_of_unused_sockets() {
    for socket in crate::http::unused() {
        tracing::warn!(%socket, "the service manager has passed a socket that nothing listens on");
    }
}

/// Binds and serves the admin listener on `control`, if there is to be one.
pub(crate) async fn open(core: &Arc<Core>, control: &TaskSet) -> Result<()> {
    let listen = core.settings.admin_address().map(str::to_owned);
    if listen.is_some() || core.stage.is_a_test() {
        *lock(&core.admin.base) = Some(routes::guarded(core));
    }
    #[cfg(feature = "testing")]
    core.stage.offer(Desk::of(core));
    let Some(listen) = listen else { return Ok(()) };
    let router = routes::all(core);
    let named = listen.clone();
    let (tasks, core) = (TaskSet::on(control.runtime()), core.clone());
    let _ = core.admin.tasks.set(tasks.clone());
    // Bound where it is served: a socket belongs to the runtime that registered it.
    let opened = control.spawn("admin listener", async move {
        let bound = bind(&listen).await?;
        let address = bound.listener.local_addr()?;
        let _ = core.admin.address.set(address);
        let door = Door {
            router,
            shutdown: core.admin.shutdown.clone(),
            tasks: tasks.clone(),
            flights: Arc::default(),
            limits: Limits { connections: 256, header_timeout: secs(10), write_timeout: secs(60) },
        };
        tasks.spawn("admin accept", accept(bound, Arc::new(door)));
        tracing::info!(%address, "admin listening");
        Ok::<_, Error>(())
    });
    let opened = match crate::clock::real(opened).await {
        Ok(opened) => opened,
        Err(error) => Err(Error::from_any(error)),
    };
    opened.map_err(|error| error.context(format!("administration: {}", cannot_listen(&named))))
}

/// Closes the listener and gives its last answers `limit` to get out.
pub(crate) async fn close(core: &Core, limit: Duration) {
    core.admin.shutdown.advance(Phase::Draining);
    // What they hold holds the app.
    drop((lock(&core.admin.base).take(), lock(&core.admin.guarded).take()));
    if let Some(tasks) = core.admin.tasks.get() {
        // Idle connections linger for half a second otherwise; nothing is lost with them.
        let _ = timeout(limit.min(millis(100)), tasks.idle()).await;
        tasks.abort();
    }
}
