//! Without the test kit, every app plays on the machine.

use mainstay_core::{GroupName, name::QueueName};

use crate::{client::Client, event::Envelope};

#[derive(Clone, Default)]
pub(crate) struct Stage(());

impl Stage {
    pub fn is_a_test(&self) -> bool {
        false
    }

    pub fn is_without_checks(&self) -> bool {
        false
    }

    #[cfg(feature = "http")]
    pub fn address<'a>(&self, listen: &'a str) -> &'a str {
        listen
    }

    pub fn cues(&self) -> Cues {
        Cues(())
    }

    pub fn offer<T>(&self, _: T) {}

    pub fn around(&self, client: Client) -> Client {
        client
    }

    pub fn works_on(&self, _: &[QueueName]) {}

    pub fn consumes(&self, _: &GroupName) {}
}

/// Everything may begin at any time.
#[derive(Clone, Default)]
pub(crate) struct Cues(());

impl Cues {
    pub fn published(&self, _: &Envelope) {}

    pub async fn turn(&self, _: &str, _: &Envelope, _: u32) -> Turn {
        Turn(())
    }

    pub async fn inline(&self, _: impl Future<Output = ()>) {}
}

pub(crate) struct Turn(());

impl Turn {
    pub fn ended<T, E>(self, _: &Result<T, E>) {}
}
