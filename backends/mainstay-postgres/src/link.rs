//! A session of the database, with its statements.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use mainstay_core::{Error, ErrorKind};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};
use tokio_postgres::{
    AsyncMessage, Client, Row, SimpleQueryMessage, Statement, config::SslMode, types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    fault::{Trouble, words},
    journal::Place,
    options::Options,
    outbox,
    pipeline::Requests,
    step::{Param, Step, can_be_sent},
};

/// How to get a session.
pub(crate) struct Target {
    pub(crate) options: Options,
    pub(crate) runtime: Handle,
    tls: Option<MakeRustlsConnect>,
    /// The highest token that this process has given. A database that lagged when it was promoted may not know of it.
    pub(crate) given: AtomicU64,
    pub(crate) outbox: outbox::Figures,
}

impl Target {
    pub(crate) fn new(options: Options, runtime: Handle) -> Result<Target, Error> {
        let tls = match options.config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls_config(&options)?)),
        };
        Ok(Target { options, runtime, tls, given: AtomicU64::new(0), outbox: outbox::Figures::default() })
    }

    pub(crate) fn schema(&self) -> &str {
        &self.options.schema
    }
}

fn tls_config(options: &Options) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    match &options.root_certificates {
        Some(path) => {
            let failed = |e: &dyn std::fmt::Display| {
                let message = format!("the certificates in {} cannot be read: {e}", path.display());
                Error::new(ErrorKind::Invalid, message)
            };
            let text = fs::read(path).map_err(|e| failed(&e))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|e| failed(&e))?;
                roots.add(certificate).map_err(|e| failed(&e))?;
            }
            if roots.is_empty() {
                return Err(failed(&"there are none"));
            }
        }
        // A machine without any can still reach servers without TLS.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|e| Error::new(ErrorKind::Invalid, format!("TLS cannot be set up: {e}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// By what a transaction proves that its process leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proof {
    /// That of a group: the leader's row is locked, and the group before it is there. A database that lacks that is another
    /// one by now, a stand-by that was promoted before it had all: there nobody leads by this epoch.
    Group { epoch: u64, last: Option<Place> },
    /// That of the tables: they are where they were left. The leader's row is looked at, and not locked, so that groups go
    /// on meanwhile.
    Tables { epoch: u64, left_at: u64 },
}

impl Proof {
    fn mark(self) -> String {
        let (Proof::Group { epoch, .. } | Proof::Tables { epoch, .. }) = self;
        epoch.to_string()
    }

    /// The same to the server; who looks at what is sent sees whose it is.
    fn end(self) -> &'static str {
        match self {
            Proof::Group { .. } => "commit",
            Proof::Tables { .. } => "end transaction",
        }
    }

    fn begin(self) -> String {
        match self {
            Proof::Group { epoch, last: None } => format!("begin; select {{s}}.prove({})", epoch as i64),
            Proof::Group { epoch, last: Some(Place { lsn, table }) } => format!(
                "begin; select {{s}}.prove(case when exists (select 1 from {{s}}.journal_{table} where lsn = {lsn}) \
                 then {} else -1 end)",
                epoch as i64
            ),
            // Each of its looks must see what is there by then, whatever the server's default is.
            Proof::Tables { epoch, left_at } => format!(
                "begin isolation level read committed; select {{s}}.prove_tables({}, {})",
                epoch as i64, left_at as i64
            ),
        }
    }
}

/// A session. Requests of many callers may be under way at once.
pub(crate) struct Link {
    client: Client,
    schema: String,
    prepare: bool,
    timeout: Duration,
    lease: Duration,
    statements: Mutex<HashMap<String, Statement>>,
    driver: AbortHandle,
}

impl Drop for Link {
    /// A session that is let go of ends, whatever is under way.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Opens a session; its connection lives on the runtime that runs this. `told` is notified of each notification that it
    /// hears.
    pub(crate) async fn open(target: &Target, told: Option<Arc<Notify>>) -> Result<Link, Trouble> {
        let timeout = target.options.timeout;
        let late = || lost("the database does not answer");
        let mut config = target.options.config.clone();
        if config.get_application_name().is_none() {
            config.application_name("mainstay");
        }
        // Half-open connections are noticed by the deadline of each call; this is for sessions that only listen.
        config.keepalives_idle(Duration::from_secs(15)).connect_timeout(timeout);
        let (client, driver) = match &target.tls {
            None => {
                let opened = tokio::time::timeout(timeout, config.connect(tokio_postgres::NoTls));
                let (client, connection) = opened.await.map_err(|_| late())??;
                (client, Handle::current().spawn(drive(connection, told)).abort_handle())
            }
            Some(tls) => {
                let opened = tokio::time::timeout(timeout, config.connect(tls.clone()));
                let (client, connection) = opened.await.map_err(|_| late())??;
                (client, Handle::current().spawn(drive(connection, told)).abort_handle())
            }
        };
        Ok(Link {
            client,
            schema: target.schema().to_owned(),
            prepare: target.options.prepare,
            timeout,
            lease: target.options.lease,
            statements: Mutex::default(),
            driver,
        })
    }

    /// What is listened to for new rows of a table.
    pub(crate) fn channel(&self, table: &str) -> String {
        format!("{}_{table}", self.schema)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements without values, as they are. Answers how many rows came back.
    pub(crate) async fn run(&self, sql: &str) -> Result<usize, Trouble> {
        self.run_long(sql, self.timeout).await
    }

    /// The same, for what may take longer than others do. Who calls sees to it that the server gives up first.
    pub(crate) async fn run_long(&self, sql: &str, at_most: Duration) -> Result<usize, Trouble> {
        let sql = sql.replace("{s}", &self.schema);
        let messages = self.within(at_most, self.client.simple_query(&sql)).await?;
        Ok(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count())
    }

    /// The same; answers what they answer, as text.
    pub(crate) async fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Trouble> {
        let sql = sql.replace("{s}", &self.schema);
        self.in_time(self.client.simple_query(&sql)).await
    }

    pub(crate) async fn query(&self, sql: &str, params: Vec<Param>) -> Result<Vec<Row>, Trouble> {
        can_be_sent(&params).map_err(Trouble::NotSent)?;
        if !self.prepare {
            let sql = sql.replace("{s}", &self.schema);
            let typed: Vec<_> = params.iter().map(|p| (p as &(dyn ToSql + Sync), p.of.clone())).collect();
            return self.in_time(self.client.query_typed(&sql, &typed)).await;
        }
        let statement = self.statement(sql, &sql.replace("{s}", &self.schema), &params).await?;
        let values: Vec<_> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        self.in_time(self.client.query(&statement, &values)).await
    }

    /// One transaction, in one round trip: proves that this process still leads, then runs the steps. Answers a step that
    /// changed another number of rows than it should have.
    ///
    /// All of it goes out at once, so a step runs whatever became of what was sent before it. Each therefore asks for the
    /// setting that only a beginning which proved the epoch has made, and only until its transaction ends: if the beginning
    /// failed, there is no transaction, and every step does nothing. The commit goes out when every step has, in order.
    ///
    /// The server ends a session that is silent within a transaction for as long as a lease: a process that was frozen
    /// there would keep the leader's row locked, and nobody could take over.
    pub(crate) async fn transaction(&self, proof: Proof, steps: &[Step]) -> Result<Option<String>, Trouble> {
        let mark = proof.mark();
        let mut texts = Vec::with_capacity(steps.len());
        for step in steps {
            can_be_sent(&step.params).map_err(Trouble::NotSent)?;
            if !step.sql.contains("{p}") {
                let message =
                    format!("a bug: a step would run without a proof that its process leads: {}", step.sql);
                return Err(Trouble::NotSent(Error::new(ErrorKind::Untrusted, message)));
            }
            let proof = format!("current_setting('mainstay.proved', true) = ${}", step.params.len() + 1);
            texts.push(step.sql.replace("{s}", &self.schema).replace("{p}", &proof));
        }
        let (begin, end) = (proof.begin(), proof.end());
        let proof = Param::text(&mark);
        let mut statements = Vec::new();
        if self.prepare {
            for (step, text) in steps.iter().zip(&texts) {
                statements.push(self.statement(&step.sql, text, step.params.iter().chain([&proof])).await?);
            }
        }
        let client = &self.client;
        let begin = format!(
            "{}, set_config('mainstay.proved', '{mark}', true), \
             set_config('idle_in_transaction_session_timeout', '{}', true)",
            begin.replace("{s}", &self.schema),
            self.lease.as_millis()
        );
        let all = async {
            let mut requests = Requests::default();
            let sent = async {
                requests.send(async { client.batch_execute(&begin).await.map(|()| 0) }).await?;
                for (i, step) in steps.iter().enumerate() {
                    let values = step.params.iter().chain([&proof]);
                    match statements.get(i) {
                        Some(statement) => {
                            let values: Vec<_> = values.map(|p| p as &(dyn ToSql + Sync)).collect();
                            requests.send(client.execute_raw(statement, values)).await?;
                        }
                        None => {
                            let values: Vec<_> =
                                values.map(|p| (p as &(dyn ToSql + Sync), p.of.clone())).collect();
                            let text = &texts[i];
                            requests.send(async move { client.execute_typed(text, &values).await }).await?;
                        }
                    }
                }
                requests.send(async { client.batch_execute(end).await.map(|()| 0) }).await
            };
            if let Err(e) = sent.await {
                // A part of a transaction must not wait here for the commit of the next.
                self.driver.abort();
                return Err(e);
            }
            requests.answers().await
        };
        let done = self.in_time(all).await?;
        let steps = steps.iter().zip(done.iter().skip(1));
        let wrong = steps.into_iter().find(|(step, rows)| step.rows.is_some_and(|wanted| wanted != **rows));
        Ok(wrong.map(|(step, rows)| format!("{rows} rows of {:?} changed by: {}", step.rows, step.sql)))
    }

    async fn statement(
        &self,
        key: &str,
        text: &str,
        params: impl IntoIterator<Item = &Param>,
    ) -> Result<Statement, Trouble> {
        if let Some(known) = self.known().get(key) {
            return Ok(known.clone());
        }
        let types: Vec<_> = params.into_iter().map(|p| p.of.clone()).collect();
        let statement = self.in_time(self.client.prepare_typed(text, &types)).await?;
        self.known().insert(key.to_owned(), statement.clone());
        Ok(statement)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that has not answered in time is not used again: nobody knows where it is.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Trouble> {
        self.within(self.timeout, call).await
    }

    async fn within<T>(
        &self,
        at_most: Duration,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout(at_most, call).await {
            Ok(done) => Ok(done?),
            Err(_) => {
                self.driver.abort();
                Err(lost(&format!("the database has not answered within {} ms", at_most.as_millis())))
            }
        }
    }
}

pub(crate) fn lost(what: &str) -> Trouble {
    Trouble::Lost(Error::new(ErrorKind::Unavailable, format!("{what}; it is tried again")))
}

/// The life of a session's connection.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, told: Option<Arc<Notify>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(_))) => {
                if let Some(told) = &told {
                    told.notify_one();
                }
            }
            Some(Ok(AsyncMessage::Notice(notice))) => tracing::debug!(%notice, "the database says"),
            Some(Ok(_)) => {}
            // Whoever waits for an answer hears of it.
            Some(Err(e)) => {
                tracing::debug!(error = words(&e), "a session of the store ended");
                break;
            }
            None => break,
        }
    }
    // Who only listens looks for itself.
    if let Some(told) = told {
        told.notify_one();
    }
}

/// A session that is opened anew when it has ended.
pub(crate) struct Again {
    target: Arc<Target>,
    told: Option<Arc<Notify>>,
    link: Option<Arc<Link>>,
}

impl Again {
    pub(crate) fn new(target: Arc<Target>) -> Again {
        Again { target, told: None, link: None }
    }

    /// Tells when a session has ended that was not let go of.
    pub(crate) fn telling(target: Arc<Target>, told: Arc<Notify>) -> Again {
        Again { target, told: Some(told), link: None }
    }

    /// There is a session, as far as anybody knows.
    pub(crate) fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.is_closed())
    }

    pub(crate) async fn get(&mut self) -> Result<Arc<Link>, Trouble> {
        if let Some(link) = self.link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = Arc::new(Link::open(&self.target, self.told.clone()).await?);
        self.link = Some(link.clone());
        Ok(link)
    }

    pub(crate) fn drop_link(&mut self) {
        self.link = None;
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
