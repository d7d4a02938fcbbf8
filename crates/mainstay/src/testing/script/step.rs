//! One step of a script.

use std::{future::pending, sync::Arc, time::Duration};

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
            Outcome::Hang => Outcome::Hang,
            Outcome::Panic(message) => Outcome::Panic(message.clone()),
        }
    }
}
