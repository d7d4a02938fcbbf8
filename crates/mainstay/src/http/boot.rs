//! `b.http(…)`: a listener as a part of the life cycle.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

#[cfg(feature = "testing")]
use super::Inlet;
use super::flight::Flights;
use super::{Door, Limits, accept, bind};
use crate::Result;
use crate::app::{Boot, Core, Overstayer, Part};
use crate::request::Pipeline;
use crate::tasks::TaskSet;

impl<C> Boot<C> {
    /// Serves `router` on `listen` (`HOST:PORT`, where port 0 takes a free one; or `fd:NAME`, a socket that the service
    /// manager has passed under that name), behind the request [`Pipeline`]. It begins
    /// to listen in its place in the order, once `boot` has returned.
    pub fn http(&self, listen: impl Display, router: Router) -> Http {
        let settings = &self.core.settings;
        let listener = Arc::new(Listener {
            listen: listen.to_string(),
            core: Arc::downgrade(&self.core),
            plan: Mutex::new(Some(Plan {
                router,
                pipeline: Some(Pipeline::from_settings(settings)),
                limits: Limits {
                    connections: settings.max_connections,
                    header_timeout: Duration::from_millis(settings.header_timeout_ms),
                    write_timeout: Duration::from_millis(settings.body_timeout_ms),
                },
            })),
            tasks: TaskSet::on(self.core.tasks.runtime()),
            flights: Arc::default(),
            address: watch::Sender::new(None),
        });
        self.register(listener.clone());
        Http(listener)
    }

    /// Adds to the admin listener: `extend` gets the router of everything but the probes (`/metrics`, `/admin/*`),
    /// and answers it with more routes, or behind a layer that authenticates. Until `boot` has returned, only the
    /// probes answer. Handlers run on the admin thread; what they await may run anywhere.
    pub fn admin(&self, extend: impl FnOnce(Router) -> Router + Send + 'static) {
        self.core.admin.extend(Box::new(extend));
    }

    /// Where the admin listener is bound; `None` if it is off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.core.admin.address()
    }
}

/// A registered listener. May be dropped; the listener lives on.
#[derive(Clone)]
pub struct Http(Arc<Listener>);

impl Http {
    /// Changes the pipeline every request goes through. No effect once the listener is up.
    pub fn pipeline(&self, change: impl FnOnce(Pipeline) -> Pipeline) -> &Self {
        self.plan(|plan| plan.pipeline = plan.pipeline.take().map(change))
    }

    /// Serves the bare router. No effect once the listener is up.
    pub fn without_pipeline(&self) -> &Self {
        self.plan(|plan| plan.pipeline = None)
    }

    /// How many connections may be open; beyond, they wait in the backlog. Defaults to the setting
    /// `max_connections`.
    pub fn max_connections(&self, connections: usize) -> &Self {
        self.plan(|plan| plan.limits.connections = connections.max(1))
    }

    /// How long a client may take over a request's head, and how long an idle connection lives. Defaults to the
    /// setting `header_timeout_ms`.
    pub fn header_timeout(&self, limit: Duration) -> &Self {
        self.plan(|plan| plan.limits.header_timeout = limit)
    }

    /// Where it listens, once it does.
    pub fn address(&self) -> Option<SocketAddr> {
        *self.0.address.borrow()
    }

    /// Waits until it listens. Cancel safe. Never resolves if the start fails. In a `TestApp` it is `127.0.0.1:80`.
    pub async fn bound(&self) -> SocketAddr {
        match self.0.address.subscribe().wait_for(Option::is_some).await.map(|address| *address) {
            Ok(Some(address)) => address,
            _ => std::future::pending().await,
        }
    }

    fn plan(&self, change: impl FnOnce(&mut Plan)) -> &Self {
        if let Some(plan) = self.0.plan.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            change(plan);
        }
        self
    }
}

/// Says what to do: the reason, which follows it, is the system's.
pub(crate) fn cannot_listen(on: &str) -> String {
    format!("cannot listen on {on}; if another process does, stop it or choose another address")
}

struct Listener {
    listen: String,
    core: std::sync::Weak<Core>,
    /// Taken at the start.
    plan: Mutex<Option<Plan>>,
    tasks: TaskSet,
    flights: Arc<Flights>,
    address: watch::Sender<Option<SocketAddr>>,
}

struct Plan {
    router: Router,
    pipeline: Option<Pipeline>,
    limits: Limits,
}

impl Listener {
    async fn open(&self) -> Result<()> {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(plan), Some(core)) = (plan, self.core.upgrade()) else { return Ok(()) };
        let router = match plan.pipeline {
            Some(pipeline) => {
                tracing::debug!(listen = %self.listen, "every request goes through:\n{}", pipeline.steps());
                plan.router.layer(pipeline)
            }
            None => plan.router,
        };
        // Built now; a router that may still be given a state builds its routes anew for every request.
        let router = router.with_state(());
        let door = Arc::new(Door {
            router,
            shutdown: core.shutdown.clone(),
            tasks: self.tasks.clone(),
            flights: self.flights.clone(),
            limits: plan.limits,
        });
        #[cfg(feature = "testing")]
        if core.stage.is_a_test() {
            core.stage.offer(Inlet::new(door.clone()));
            if !core.stage.has_sockets() {
                self.address.send_replace(Some(super::inlet::HERE));
                return Ok(());
            }
        }
        let listen = core.stage.address(&self.listen);
        let bound = bind(listen).await;
        let bound = bound.map_err(|error| error.context(cannot_listen(listen)))?;
        let address = bound.listener.local_addr()?;
        self.tasks.spawn("http listener", accept(bound, door));
        self.address.send_replace(Some(address));
        core.stage.offer(address);
        tracing::info!(%address, "listening");
        Ok(())
    }
}

impl Part for Listener {
    fn name(&self) -> String {
        format!("http {}", self.listen)
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.open().await })
    }

    fn drained(self: Arc<Self>) -> BoxFuture<'static, ()> {
        // The accept loop sees the phase itself and leaves with the last connection.
        Box::pin(async move { self.tasks.idle().await })
    }

    fn in_flight(&self) -> Vec<Overstayer> {
        self.flights.in_flight()
    }

    fn abort(&self) {
        self.tasks.abort();
    }

    fn stop(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        // Only a start that was interrupted leaves anything.
        self.tasks.abort();
        Box::pin(async { Ok(()) })
    }
}
