//! A session of the database, with its statements.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mainstay_core::{Error, ErrorKind};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};
use tokio_postgres::{
    AsyncMessage, Client, Row, Statement,
    config::SslMode,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    fault::{Trouble, words},
    options::Options,
};

/// A value on its way into a statement, with its type: a pooler may not keep what was prepared.
pub(crate) struct Param {
    value: Box<dyn ToSql + Sync + Send>,
    of: Type,
}

impl Param {
    pub(crate) fn new(value: impl ToSql + Sync + Send + 'static, of: Type) -> Param {
        Param { value: Box::new(value), of }
    }

    pub(crate) fn i64(value: u64) -> Param {
        Param::new(value as i64, Type::INT8)
    }

    pub(crate) fn i64s(values: Vec<i64>) -> Param {
        Param::new(values, Type::INT8_ARRAY)
    }

    pub(crate) fn i32(value: u32) -> Param {
        Param::new(value as i32, Type::INT4)
    }

    pub(crate) fn bytes(value: Vec<u8>) -> Param {
        Param::new(value, Type::BYTEA)
    }

    pub(crate) fn many_bytes(values: Vec<Vec<u8>>) -> Param {
        Param::new(values, Type::BYTEA_ARRAY)
    }
}

/// A statement with its values. `{s}` in the text stands for the schema.
pub(crate) struct Step {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
    /// How many rows it changes, if that is known.
    pub(crate) rows: Option<u64>,
}

/// How to get a session.
pub(crate) struct Target {
    pub(crate) options: Options,
    pub(crate) runtime: Handle,
    tls: Option<MakeRustlsConnect>,
}

impl Target {
    pub(crate) fn new(options: Options, runtime: Handle) -> Result<Target, Error> {
        let tls = match options.config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls_config(&options)?)),
        };
        Ok(Target { options, runtime, tls })
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

/// A session. Requests of many callers may be under way at once.
pub(crate) struct Link {
    client: Client,
    schema: String,
    prepare: bool,
    timeout: Duration,
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
    /// Opens a session. `told` is notified of each notification that it hears.
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
                (client, target.runtime.spawn(drive(connection, told)).abort_handle())
            }
            Some(tls) => {
                let opened = tokio::time::timeout(timeout, config.connect(tls.clone()));
                let (client, connection) = opened.await.map_err(|_| late())??;
                (client, target.runtime.spawn(drive(connection, told)).abort_handle())
            }
        };
        Ok(Link {
            client,
            schema: target.schema().to_owned(),
            prepare: target.options.prepare,
            timeout,
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

    /// Runs statements without values, as they are.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), Trouble> {
        let sql = sql.replace("{s}", &self.schema);
        self.in_time(self.client.batch_execute(&sql)).await
    }

    pub(crate) async fn query(&self, sql: &str, params: Vec<Param>) -> Result<Vec<Row>, Trouble> {
        if !self.prepare {
            let sql = sql.replace("{s}", &self.schema);
            let typed: Vec<_> =
                params.iter().map(|p| (&*p.value as &(dyn ToSql + Sync), p.of.clone())).collect();
            return self.in_time(self.client.query_typed(&sql, &typed)).await;
        }
        let statement = self.statement(sql, &params).await?;
        let values: Vec<_> = params.iter().map(|p| &*p.value as &(dyn ToSql + Sync)).collect();
        self.in_time(self.client.query(&statement, &values)).await
    }

    /// One transaction, in one round trip: proves that `epoch` still leads, then runs the steps. Answers a step that
    /// changed another number of rows than it should have.
    pub(crate) async fn transaction(&self, epoch: u64, steps: &[Step]) -> Result<Option<String>, Trouble> {
        let mut statements = Vec::new();
        if self.prepare {
            for step in steps {
                statements.push(self.statement(&step.sql, &step.params).await?);
            }
        }
        let begin = format!("begin; select {}.prove({})", self.schema, epoch as i64);
        let all = async {
            // Requests go out in the order in which they are first polled.
            let begin = self.client.batch_execute(&begin);
            let steps = futures_util::future::join_all(steps.iter().enumerate().map(|(i, step)| {
                let statement = statements.get(i);
                async move {
                    let values = step.params.iter().map(|p| &*p.value as &(dyn ToSql + Sync));
                    match statement {
                        Some(statement) => {
                            self.client.execute_raw(statement, values.collect::<Vec<_>>()).await
                        }
                        None => {
                            let sql = step.sql.replace("{s}", &self.schema);
                            let typed: Vec<_> =
                                values.zip(&step.params).map(|(value, p)| (value, p.of.clone())).collect();
                            self.client.execute_typed(&sql, &typed).await
                        }
                    }
                }
            }));
            let commit = self.client.batch_execute("commit");
            let (begun, done, committed) = futures_util::future::join3(begin, steps, commit).await;
            // The first that failed says why; those behind it only say that it did.
            begun?;
            let done = done.into_iter().collect::<Result<Vec<u64>, _>>()?;
            committed?;
            Ok(done)
        };
        let done = self.in_time(all).await?;
        let wrong =
            steps.iter().zip(done).find(|(step, rows)| step.rows.is_some_and(|wanted| wanted != *rows));
        Ok(wrong.map(|(step, rows)| format!("{rows} rows of {:?} changed by: {}", step.rows, step.sql)))
    }

    async fn statement(&self, sql: &str, params: &[Param]) -> Result<Statement, Trouble> {
        if let Some(known) = self.known().get(sql) {
            return Ok(known.clone());
        }
        let types: Vec<_> = params.iter().map(|p| p.of.clone()).collect();
        let text = sql.replace("{s}", &self.schema);
        let statement = self.in_time(self.client.prepare_typed(&text, &types)).await?;
        self.known().insert(sql.to_owned(), statement.clone());
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
        match tokio::time::timeout(self.timeout, call).await {
            Ok(done) => Ok(done?),
            Err(_) => {
                self.driver.abort();
                Err(lost(&format!("the database has not answered within {} ms", self.timeout.as_millis())))
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
    link: Option<Arc<Link>>,
}

impl Again {
    pub(crate) fn new(target: Arc<Target>) -> Again {
        Again { target, link: None }
    }

    pub(crate) async fn get(&mut self) -> Result<Arc<Link>, Trouble> {
        if let Some(link) = self.link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = Arc::new(Link::open(&self.target, None).await?);
        self.link = Some(link.clone());
        Ok(link)
    }

    pub(crate) fn drop_link(&mut self) {
        self.link = None;
    }
}
