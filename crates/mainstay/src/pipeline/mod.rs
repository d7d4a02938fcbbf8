//! Layers around a handler, as one ordered list that can be read.
//!
//! A layer sees the request on the way in and the response, or the error, on the way out; it may change either, answer
//! by itself, or catch the error. A handler is any `async fn(Request) -> Result<Response, Error>`: of an HTTP request,
//! a job attempt, or anything of your own.
//!
//! ```
//! use mainstay::pipeline::{Next, Pipeline};
//!
//! type Error = Box<dyn std::error::Error + Send + Sync>;
//!
//! async fn auth(token: &'static str, next: Next<&'static str, String, Error>) -> Result<String, Error> {
//!     if token != "secret" {
//!         return Err("who are you?".into()); // answered here: nothing below runs
//!     }
//!     let answer = next.run(token).await?; // errors of everything below come out here
//!     Ok(answer + "!")
//! }
//!
//! async fn handler(_token: &'static str) -> Result<String, Error> {
//!     Ok("hello".to_owned())
//! }
//!
//! # async fn example() -> Result<(), Error> {
//! let service = Pipeline::new().middleware("auth", "nobody unknown gets further", auth).handler(handler);
//! assert_eq!(service.run("secret").await?, "hello!");
//! assert_eq!(service.steps().to_string(), "1. auth: nobody unknown gets further\n");
//! # Ok(())
//! # }
//! ```
//!
//! The seam is [`tower`]: any of its layers goes in with [`Pipeline::layer`], and a pipeline is a layer for other
//! stacks. Readiness is kept: whatever waits or sheds below is asked before it is called, and what was asked is what is
//! called.
//!
//! [`crate::request::Pipeline`] is the one every HTTP request goes through; [`crate::Workers::through`] takes one for
//! job attempts.

mod middleware;
mod next;
mod service;
mod steps;

use std::borrow::Cow;

pub use middleware::{Around, Middleware};
pub use next::Next;
pub use service::{Handled, HandlerFn};
pub use steps::{Step, Steps};
use tower::Layer;
use tower::layer::util::{Identity, Stack};

/// Layers, the outermost first.
#[derive(Debug, Clone)]
#[must_use = "a pipeline does nothing until it has a handler"]
pub struct Pipeline<L = Identity> {
    layers: L,
    steps: Steps,
}

impl Pipeline {
    /// Without any layer.
    pub fn new() -> Self {
        Self { layers: Identity::new(), steps: Steps::default() }
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl<L> Pipeline<L> {
    /// Adds a tower layer inside of those before it, with the reason it is there.
    pub fn layer<M>(
        mut self,
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        layer: M,
    ) -> Pipeline<Stack<M, L>> {
        self.steps.push(Step::new(name, reason));
        Pipeline { layers: Stack::new(layer, self.layers), steps: self.steps }
    }

    /// Adds an `async fn(request, next) -> Result<response, error>` inside of the layers before it, with the reason it
    /// is there. At most two allocations a call.
    pub fn middleware<F>(
        self,
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        middleware: F,
    ) -> Pipeline<Stack<Middleware<F>, L>> {
        self.layer(name, reason, Middleware::new(middleware))
    }

    /// Puts the layers around an `async fn(request) -> Result<response, error>`.
    pub fn handler<H>(self, handler: H) -> Handled<L::Service>
    where
        L: Layer<HandlerFn<H>>,
    {
        self.service(HandlerFn::new(handler))
    }

    /// Puts the layers around a tower service.
    pub fn service<S>(self, service: S) -> Handled<L::Service>
    where
        L: Layer<S>,
    {
        Handled::new(self.layers.layer(service), self.steps)
    }

    /// The layers, in their order, each with its reason.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }
}

/// As one layer of another stack.
impl<S, L: Layer<S>> Layer<S> for Pipeline<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> L::Service {
        self.layers.layer(inner)
    }
}
