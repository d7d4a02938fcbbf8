//! How a store is opened.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use mainstay_core::{Error, ErrorKind, clock::Clock};
use percent_encoding::percent_decode_str;
use tokio_postgres::{Config, config::SslMode};

/// How [`crate::PostgresStore::open`] opens a store.
#[derive(Clone)]
pub struct Options {
    /// Where the database is, and who asks.
    pub config: Config,
    /// The schema that belongs to the store. Made if it is not there. Defaults to `mainstay`.
    pub schema: String,
    /// Where time and chance come from. What is read of it as wall time is moved to the database's, if
    /// [`Options::database_time`].
    pub clock: Arc<dyn Clock>,
    /// Wall time is the database's. Defaults to `true`.
    pub database_time: bool,
    /// For how long the process that leads may be silent before another takes over. It renews at a third of it. One
    /// whose session has ended is followed at once. Defaults to 3 s; at least 300 ms.
    pub lease: Duration,
    /// Be told of work by `LISTEN`. Off, for poolers in transaction mode: then it is looked for every few milliseconds.
    /// Defaults to `true`.
    pub listen: bool,
    /// Prepare statements once a session. Off, for poolers that cannot keep them. Defaults to `true`.
    pub prepare: bool,
    /// Sessions for reads. Defaults to 2.
    pub readers: usize,
    /// How long one transaction may take. Defaults to 10 s.
    pub timeout: Duration,
    /// Bring the tables up to date when the store is opened. Without, a schema that is not up to date is refused, and
    /// somebody runs `mainstay migrate`. Defaults to `true`.
    pub migrate: bool,
    /// A file with the certificates of the authorities that are trusted, instead of the system's.
    pub root_certificates: Option<PathBuf>,
    /// Bodies of the newest unfinished jobs are kept in RAM up to this many bytes. Defaults to 64 MiB.
    pub body_cache_bytes: usize,
    /// What the tables may lack, in bytes: the journal has it, and this process holds it in RAM until they have followed.
    /// At half of it they follow at once, at all of it writers wait. Defaults to 64 MiB.
    pub behind_bytes: usize,
    /// A table of the journal is emptied, and the other written, after this many bytes. Defaults to 32 MiB.
    pub journal_bytes: usize,
    /// What callers may have handed over without an answer, in bytes; more is refused as `Overloaded`. Defaults to
    /// 64 MiB.
    pub queue_bytes: usize,
    /// The store tidies up by itself. Defaults to `true`; with `false`, somebody calls
    /// [`mainstay_core::Store::maintain`] about once a second.
    pub housekeeping: bool,
    /// How long a batch may wait for its turn when it does not say so itself. Defaults to 30 s.
    pub within: Duration,
    /// Called once when the tables contradict what the engine knows. Nothing is acknowledged from then on; a server ends
    /// its process here. Must not block.
    pub on_fatal: Option<FatalHook>,
    /// What this process is called in the table `leader`. Defaults to the host and the process id.
    pub name: String,
}

/// What is called when a store can no longer be trusted.
pub type FatalHook = Arc<dyn Fn(&Error) + Send + Sync>;

impl Options {
    /// Every default, for a database.
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Options {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("process").to_owned();
        Options {
            config,
            schema: "mainstay".to_owned(),
            clock,
            database_time: true,
            lease: Duration::from_secs(3),
            listen: true,
            prepare: true,
            readers: 2,
            timeout: Duration::from_secs(10),
            migrate: true,
            root_certificates: None,
            body_cache_bytes: 64 << 20,
            behind_bytes: 64 << 20,
            journal_bytes: 32 << 20,
            queue_bytes: 64 << 20,
            housekeeping: true,
            within: Duration::from_secs(30),
            on_fatal: None,
            name: format!("{host}/{}", std::process::id()),
        }
    }

    /// From `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`: what libpq reads, and `schema`, `lease_ms`, `timeout_ms`,
    /// `readers`, `listen`, `prepare` and `migrate` (`on` or `off`), `sslmode`, `sslrootcert`; what
    /// stands behind a `%` is decoded.
    ///
    /// # Errors
    /// `Invalid`: what is wrong with the URL. It never shows the password.
    pub fn from_url(url: &str, clock: Arc<dyn Clock>) -> Result<Options, Error> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut theirs = Vec::new();
        let mut ours = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((name, value)) if OURS.contains(&name) => ours.push((name, value)),
                _ => theirs.push(pair),
            }
        }
        let rest = if theirs.is_empty() { base.to_owned() } else { format!("{base}?{}", theirs.join("&")) };
        // What the parser complains about may be the password.
        let config: Config = rest
            .parse()
            .map_err(|_| invalid("it is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        let mut options = Options::new(config, clock);
        for (name, value) in ours {
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| invalid(&format!("`{name}` is not UTF-8 behind its %")))?;
            options.set(name, &value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let number = |least: u64| match value.parse::<u64>() {
            Ok(number) if number >= least => Ok(number),
            _ => Err(invalid(&format!("`{name}` is a number, at least {least}"))),
        };
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(invalid(&format!("`{name}` is `on` or `off`"))),
        };
        match name {
            "schema" => self.schema = schema_name(value)?,
            "lease_ms" => self.lease = Duration::from_millis(number(300)?),
            "timeout_ms" => self.timeout = Duration::from_millis(number(100)?),
            "readers" => self.readers = number(1)?.min(64) as usize,
            "listen" => self.listen = switch()?,
            "prepare" => self.prepare = switch()?,
            "migrate" => self.migrate = switch()?,
            // A certificate is always held against the name, so this is what `require` does here.
            "sslmode" => drop(self.config.ssl_mode(match value {
                "disable" => SslMode::Disable,
                "prefer" => SslMode::Prefer,
                "require" | "verify-full" => SslMode::Require,
                _ => return Err(invalid("`sslmode` is `disable`, `prefer`, `require` or `verify-full`")),
            })),
            _ => self.root_certificates = Some(PathBuf::from(value)),
        }
        Ok(())
    }
}

const OURS: [&str; 9] =
    ["schema", "lease_ms", "timeout_ms", "readers", "listen", "prepare", "migrate", "sslmode", "sslrootcert"];

/// Such names need no quotes, and cannot be anything but a name.
pub(crate) fn schema_name(name: &str) -> Result<String, Error> {
    let fits = |(i, c): (usize, char)| c == '_' || c.is_ascii_lowercase() || (i > 0 && c.is_ascii_digit());
    if (1..=48).contains(&name.len()) && name.chars().enumerate().all(fits) {
        Ok(name.to_owned())
    } else {
        Err(invalid("`schema` consists of a-z, _ and, behind the first, 0-9; at most 48 characters"))
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the store's URL: {what}"))
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Config` hides the password itself.
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("schema", &self.schema)
            .field("lease", &self.lease)
            .field("listen", &self.listen)
            .field("prepare", &self.prepare)
            .field("readers", &self.readers)
            .field("timeout", &self.timeout)
            .field("migrate", &self.migrate)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mainstay_testkit::ManualClock;

    use super::*;

    #[test]
    fn a_url_says_what_libpq_reads_and_more() {
        let read = |more: &str| Options::from_url(&format!("postgres://u@h/d?{more}"), ManualClock::new());
        let options =
            read("sslrootcert=/etc/a%20b/ca.pem&sslmode=verify-full&schema=x%5fy&lease_ms=500").unwrap();
        assert_eq!(options.root_certificates, Some(PathBuf::from("/etc/a b/ca.pem")));
        assert_eq!(options.config.get_ssl_mode(), SslMode::Require);
        assert_eq!((options.schema.as_str(), options.lease), ("x_y", Duration::from_millis(500)));
        for (wrong, part) in
            [("sslmode=verify-ca", "verify-full"), ("sslrootcert=%ff", "UTF-8"), ("lease_ms=1", "300")]
        {
            let refused = read(wrong).unwrap_err().to_string();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
