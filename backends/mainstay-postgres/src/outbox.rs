//! What other transactions of the database want done once they have been committed.

mod drain;
mod parked;
mod row;

use mainstay_core::Error;
use tokio_postgres::GenericClient;

use crate::options::{Options, schema_name};

pub(crate) use drain::{Figures, drain};

/// The way into the store for transactions of one's own: what is handed in is done exactly once when the transaction
/// commits, and never if it does not. In SQL it is `select mainstay.enqueue('mail', 'welcome', '{"to": 7}')` and
/// `select mainstay.publish('users.created', 'created', '{"id": 7}')`.
#[derive(Clone, Debug)]
pub struct Outbox {
    schema: String,
}

impl Outbox {
    /// That of a store's schema.
    ///
    /// # Errors
    /// `Invalid`: it is not the name of one.
    pub fn new(schema: &str) -> Result<Outbox, Error> {
        Ok(Outbox { schema: schema_name(schema)? })
    }

    /// That of the store which these options open.
    pub fn of(options: &Options) -> Outbox {
        Outbox { schema: options.schema.clone() }
    }

    /// Enqueues a job when the transaction commits. `payload` and `options` are JSON texts; of options there are
    /// `priority`, `delay_ms`, `unique_key` and `id`, by which the job can be looked for (a UUID of version 7). Answers the
    /// number of the row that waits for the commit.
    ///
    /// # Errors
    /// What the database says, SQLSTATE 22023 for what makes no sense: then the transaction has failed.
    pub async fn enqueue_in(
        &self,
        transaction: &impl GenericClient,
        queue: &str,
        kind: &str,
        payload: &str,
        options: &str,
    ) -> Result<i64, tokio_postgres::Error> {
        self.call(transaction, "enqueue", [queue, kind, payload, options]).await
    }

    /// Publishes an event when the transaction commits. `data` and `options` are JSON texts; of options there are
    /// `subject` and `partition_key`.
    ///
    /// # Errors
    /// As [`Outbox::enqueue_in`].
    pub async fn publish_in(
        &self,
        transaction: &impl GenericClient,
        topic: &str,
        kind: &str,
        data: &str,
        options: &str,
    ) -> Result<i64, tokio_postgres::Error> {
        self.call(transaction, "publish", [topic, kind, data, options]).await
    }

    async fn call(
        &self,
        transaction: &impl GenericClient,
        function: &str,
        [target, kind, data, options]: [&str; 4],
    ) -> Result<i64, tokio_postgres::Error> {
        let sql = format!("select {}.{function}($1, $2, $3::text::json, $4::text::jsonb)", self.schema);
        let row = transaction.query_one(&sql, &[&target, &kind, &data, &options]).await?;
        row.try_get(0)
    }
}
