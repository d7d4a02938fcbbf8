//! Layers around a handler.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use mainstay::pipeline::{Middleware, Next, Pipeline};
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::{Layer, Service};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Rest = Next<u32, String, Error>;
type Log = Arc<Mutex<Vec<String>>>;

/// A middleware that writes down what passes it.
fn noting(
    log: &Log,
    name: &'static str,
) -> impl Fn(u32, Rest) -> futures_util::future::BoxFuture<'static, Result<String, Error>> + Clone + use<> {
    let log = log.clone();
    move |request, next| {
        let log = log.clone();
        Box::pin(async move {
            log.lock().unwrap().push(format!("{name} in {request}"));
            let answer = next.run(request + 1).await;
            let seen = answer.as_ref().map_or_else(ToString::to_string, Clone::clone);
            log.lock().unwrap().push(format!("{name} out {seen}"));
            answer.map(|answer| format!("{answer} {name}"))
        })
    }
}

async fn handler(request: u32) -> Result<String, Error> {
    if request == 99 { Err("broken".into()) } else { Ok(request.to_string()) }
}

#[tokio::test]
async fn layers_see_and_change_request_and_response_in_their_order() {
    let log = Log::default();
    let service = Pipeline::new()
        .middleware("a", "first", noting(&log, "a"))
        .middleware("b", "second", noting(&log, "b"))
        .handler(handler);
    assert_eq!(service.run(1).await.unwrap(), "3 b a");
    assert_eq!(*log.lock().unwrap(), ["a in 1", "b in 2", "b out 3", "a out 3 b"]);
    assert_eq!(service.steps().to_string(), "1. a: first\n2. b: second\n");
}

#[tokio::test]
async fn errors_travel_out_through_every_layer_and_each_may_catch_them() {
    let log = Log::default();
    let catching = async |request, next: Rest| {
        next.run(request).await.or_else(|e| Ok::<_, Error>(format!("caught {e}")))
    };
    let stack = Pipeline::new().middleware("a", "", noting(&log, "a"));
    let service = stack.clone().middleware("b", "", noting(&log, "b")).handler(handler);
    assert_eq!(service.run(97).await.unwrap_err().to_string(), "broken");
    assert_eq!(*log.lock().unwrap(), ["a in 97", "b in 98", "b out broken", "a out broken"]);
    let service = stack
        .middleware("catch", "", move |request, next| Box::pin(catching(request, next)))
        .handler(handler);
    assert_eq!(service.run(98).await.unwrap(), "caught broken a");
}

#[tokio::test]
async fn a_layer_may_answer_by_itself_or_run_the_rest_again() {
    let shut = |_, _: Rest| ready(Ok::<_, Error>("shut".to_owned()));
    let service = Pipeline::new()
        .middleware("shut", "", shut)
        .handler(async |_| -> Result<String, Error> { panic!("reached") });
    assert_eq!(service.run(1).await.unwrap(), "shut");
    let twice = |request, next: Rest| async move {
        match next.clone().run(request).await {
            Err(_) => next.run(request + 1).await,
            answer => answer,
        }
    };
    let service = Pipeline::new().middleware("twice", "", twice).service(Picky::new());
    assert_eq!(service.run(99).await.unwrap(), "100");
}

/// Panics when it is called without having been asked, and a clone has not been asked.
struct Picky {
    asked: bool,
}

impl Picky {
    fn new() -> Self {
        Self { asked: false }
    }
}

impl Clone for Picky {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl Service<u32> for Picky {
    type Response = String;
    type Error = Error;
    type Future = Ready<Result<String, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.asked = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.asked), "called unready");
        ready(if request == 99 { Err("broken".into()) } else { Ok(request.to_string()) })
    }
}

#[tokio::test]
async fn nothing_is_called_unready() {
    let log = Log::default();
    let pipeline = Pipeline::new()
        .middleware("a", "", noting(&log, "a"))
        .layer("limit", "one at a time", ConcurrencyLimitLayer::new(1))
        .middleware("b", "", noting(&log, "b"));
    let service = pipeline.clone().service(Picky::new());
    for _ in 0..3 {
        assert_eq!(service.run(1).await.unwrap(), "3 b a");
    }
    // The same as a layer in another stack, whose driver asks once for each call.
    let mut theirs = ConcurrencyLimitLayer::new(2).layer(Layer::layer(&pipeline, Picky::new()));
    for _ in 0..3 {
        std::future::poll_fn(|cx| theirs.poll_ready(cx)).await.unwrap();
        assert_eq!(theirs.call(1).await.unwrap(), "3 b a");
    }
}

#[tokio::test]
async fn load_shedding_outside_sees_the_limit_inside() {
    let log = Log::default();
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let slow = move |request: u32| {
        let gate = gate.lock().unwrap().take();
        async move {
            if let Some(gate) = gate {
                gate.await?;
            }
            handler(request).await
        }
    };
    let service = Pipeline::new()
        .layer("shed", "refuses when what is inside is not ready", LoadShedLayer::new())
        .layer("a", "between the two", Middleware::new(noting(&log, "a")))
        .layer("limit", "one at a time", ConcurrencyLimitLayer::new(1))
        .handler(slow);
    let first = service.run(1);
    let second = async {
        let shed = service.run(5).await.unwrap_err();
        open.send(()).unwrap();
        shed
    };
    let (first, shed) = tokio::join!(first, second);
    assert_eq!(first.unwrap(), "2 a");
    assert!(shed.to_string().contains("overloaded"), "{shed}");
}
