//! A store in front of another.

use std::{path::Path, time::Duration};

use async_trait::async_trait;

use super::{
    Batch, Budget, Capabilities, Interest, Key, Maintained, Page, Query, Record, Slice, Store, Wake,
};
use crate::{
    error::Error,
    event::{LogBudget, LogSlice, Position},
    op::{Committed, Failure},
    time::Now,
    topic::TopicFilter,
};

/// Does what the store behind it does, but for what it overrides: a store that watches, holds back, or fails on
/// purpose. Whoever is one is a [`Store`].
#[async_trait]
pub trait Over: Send + Sync + 'static {
    /// The store behind it.
    fn below(&self) -> &dyn Store;

    /// [`Store::submit`].
    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        self.below().submit(batch).await
    }

    /// [`Store::get`].
    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.below().get(key).await
    }

    /// [`Store::list`].
    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        self.below().list(query, page).await
    }

    /// [`Store::read_log`].
    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        self.below().read_log(filters, from, budget).await
    }

    /// [`Store::wait`].
    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        self.below().wait(on, at_most).await
    }

    /// [`Store::close`].
    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        self.below().close(at_most).await
    }
}

#[async_trait]
impl<T: Over> Store for T {
    fn capabilities(&self) -> &Capabilities {
        self.below().capabilities()
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        Over::submit(self, batch).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        Over::get(self, key).await
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        Over::list(self, query, page).await
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        Over::read_log(self, filters, from, budget).await
    }

    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        Over::wait(self, on, at_most).await
    }

    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        self.below().maintain(budget).await
    }

    async fn now(&self) -> Result<Now, Error> {
        self.below().now().await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.below().ping().await
    }

    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        Over::close(self, at_most).await
    }

    async fn backup(&self, into: &Path) -> Result<(), Error> {
        self.below().backup(into).await
    }

    fn stats(&self) -> Vec<(&'static str, f64)> {
        self.below().stats()
    }
}
