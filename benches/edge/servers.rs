//! The edges that are compared. All answer the same bytes.

use std::{convert::Infallible, net::SocketAddr, process::ExitCode};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use mainstay::{App, Boot, Error, Result, config::Loader, secs};
use tokio::net::{TcpListener, TcpStream};

const HELLO: &str = "Hello, world!\n";

/// hyper alone: as little as a server can be.
pub async fn bare(listener: TcpListener) {
    async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = Response::new(Full::new(Bytes::from_static(HELLO.as_bytes())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Ok(response)
    }
    accept(listener, |stream| async move {
        let _ = http1::Builder::new().serve_connection(stream, service_fn(hello)).await;
    })
    .await;
}

/// hyper with axum's router: what the chassis adds to.
pub async fn axum(listener: TcpListener) {
    let router = routes().with_state(()); // as axum::serve does
    accept(listener, |stream| {
        let service = TowerToHyperService::new(router.clone());
        async move {
            let _ = http1::Builder::new().serve_connection(stream, service).await;
        }
    })
    .await;
}

/// The whole pipeline: listener with its books, context, metrics, access log by `EDGE_LOG_LEVEL`, limits, panic guard.
pub fn chassis(threads: usize, bound: impl FnOnce(SocketAddr) + Send + 'static) -> ExitCode {
    let config = Loader::new("edge")
        .default_value("admin_listen", "off")
        .default_value("lame_duck_ms", 0)
        .default_value("threads", threads);
    App::<()>::new("edge").config(config).run(async move |b: &mut Boot<()>| {
        serve(b, bound);
        Ok(())
    })
}

/// What the chassis is asked for.
pub fn serve(b: &Boot<()>, bound: impl FnOnce(SocketAddr) + Send + 'static) {
    let http = b.http("127.0.0.1:0", routes());
    http.pipeline(|pipeline| pipeline.time_limit(secs(30)));
    b.on_ready(async move {
        bound(http.bound().await);
        Ok::<_, Error>(())
    });
}

pub fn routes() -> Router {
    Router::new().route("/", get(async || HELLO))
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TokioIo<TcpStream>) -> F,
) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        #[expect(clippy::disallowed_methods, reason = "the edge without the chassis owns nothing")]
        tokio::spawn(serve(TokioIo::new(stream)));
    }
}
