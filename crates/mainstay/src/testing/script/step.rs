//! One step of a script.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};

use tokio::time::sleep;

use super::{Gate, UnderWay, history::Fate};

pub(super) struct Step<A, R> {
    pub waits: Vec<Wait>,
    pub outcome: Outcome<A, R>,
}

#[derive(Clone)]
pub(super) enum Wait {
    For(Duration),
    At(Gate),
}

pub(super) enum Outcome<A, R> {
    Value(R),
    Answer(Arc<dyn Fn(&A) -> R + Send + Sync>),
    Run(Arc<dyn Fn(Arc<A>) -> BoxFuture<'static, R> + Send + Sync>),
    Hang,
    Panic(String),
}

impl<A, R> Step<A, R> {
    pub async fn play(self, args: Arc<A>, mut under_way: UnderWay<A, R>) -> R {
        for wait in self.waits {
            match wait {
                Wait::For(delay) => sleep(delay).await,
                Wait::At(gate) => gate.pass().await,
            }
        }
        let value = match self.outcome {
            Outcome::Value(value) => value,
            Outcome::Answer(answer) => {
                under_way.fate = Fate::Panicked;
                answer(&args)
            }
            Outcome::Run(run) => {
                under_way.fate = Fate::Panicked;
                let running = run(args);
                // Dropped from here on it is cancelled, and has not panicked.
                under_way.fate = Fate::Cancelled;
                match AssertUnwindSafe(running).catch_unwind().await {
                    Ok(value) => value,
                    Err(panic) => {
                        under_way.fate = Fate::Panicked;
                        resume_unwind(panic)
                    }
                }
            }
            Outcome::Hang => pending().await,
            Outcome::Panic(message) => {
                under_way.fate = Fate::Panicked;
                panic!("{message}")
            }
        };
        under_way.fate = Fate::Awaited;
        value
    }
}

// Derived, both would ask the arguments to be `Clone`.
impl<A, R: Clone> Clone for Step<A, R> {
    fn clone(&self) -> Self {
        Step { waits: self.waits.clone(), outcome: self.outcome.clone() }
    }
}

impl<A, R: Clone> Clone for Outcome<A, R> {
    fn clone(&self) -> Self {
        match self {
            Outcome::Value(value) => Outcome::Value(value.clone()),
            Outcome::Answer(answer) => Outcome::Answer(answer.clone()),
            Outcome::Run(run) => Outcome::Run(run.clone()),
            Outcome::Hang => Outcome::Hang,
            Outcome::Panic(message) => Outcome::Panic(message.clone()),
        }
    }
}
