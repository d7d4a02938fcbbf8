//! What stands before the server.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay::admission::{Admission, AdmissionRules};
use mainstay::context::Criticality;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience::adaptive::{AdaptiveLimiterLayer, Aimd, Vegas};

use crate::sim::{Answer, Detached, Server};

/// One client's request, and what it meets.
pub struct Piece {
    pub server: Server,
    pub detached: Detached,
    pub deadline: Instant,
    /// At once, as failures often do.
    pub fails: bool,
}

/// How one client gets its answer.
pub type Guard = Arc<dyn Fn(Piece) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

pub fn none() -> Guard {
    Arc::new(|Piece { server, detached, fails, .. }| {
        Box::pin(async move {
            if !fails {
                detached.run(async move { server.work().await }).await;
            }
            Answer::Served
        })
    })
}

pub fn mainstay() -> Guard {
    let admission = Admission::seeded("bench", AdmissionRules::default(), 7).expect("valid rules");
    Arc::new(move |Piece { server, detached, deadline, fails }| {
        let admission = admission.clone();
        Box::pin(async move {
            let Ok(permit) = admission.admit_as(Criticality::Critical, Some(deadline)).await else {
                return Answer::Shed;
            };
            if fails {
                return Answer::Served; // and the permit is dropped without a word
            }
            let work = async move {
                server.work().await;
                permit.done();
            };
            detached.run(work).await;
            Answer::Served
        })
    })
}

pub fn tower(limit: usize) -> Guard {
    through(ServiceBuilder::new().load_shed().concurrency_limit(limit).service(service_fn(work)))
}

pub fn aimd() -> Guard {
    let limit = Aimd::builder().initial_limit(20).latency_threshold(Duration::from_millis(50)).build();
    let layer = AdaptiveLimiterLayer::new(limit.expect("a limit"));
    through(ServiceBuilder::new().load_shed().layer(layer).service(service_fn(work)))
}

pub fn vegas() -> Guard {
    let layer = AdaptiveLimiterLayer::new(Vegas::builder().initial_limit(20).build().expect("a limit"));
    through(ServiceBuilder::new().load_shed().layer(layer).service(service_fn(work)))
}

/// A request as a tower service gets it.
struct Request {
    server: Server,
    fails: bool,
    /// The guard has let it through.
    reached: Arc<AtomicBool>,
}

async fn work(request: Request) -> Result<(), std::io::Error> {
    request.reached.store(true, Ordering::Relaxed);
    if request.fails {
        return Err(std::io::ErrorKind::ConnectionReset.into());
    }
    request.server.work().await;
    Ok(())
}

/// A service whose call is one piece of work; it is finished whoever waits.
fn through<S>(service: S) -> Guard
where
    S: Service<Request, Response = ()> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
{
    Arc::new(move |Piece { server, detached, fails, .. }| {
        let mut service = service.clone();
        Box::pin(async move {
            let reached = Arc::new(AtomicBool::new(false));
            let request = Request { server, fails, reached: reached.clone() };
            let (answered, answer) = oneshot::channel();
            let work = async move {
                if let Ok(ready) = service.ready().await {
                    // Its error is an answer too, unless the guard has made it.
                    let _ = ready.call(request).await;
                }
                let _ = answered.send(());
            };
            detached.run(work).await;
            let _ = answer.await;
            if reached.load(Ordering::Relaxed) { Answer::Served } else { Answer::Shed }
        })
    })
}
