//! Layers, and everything that can be wrong with them.

use std::io::Write;

use mainstay::config::{Loader, Source};
use mainstay::{Error, Secret};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Config {
    listen: String,
    workers: u32,
    ratio: Option<f64>,
    key: Secret<String>,
    db: Db,
    tls: Option<Tls>,
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Db {
    url: String,
    pool: u32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Tls {
    cert: String,
    port: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:80".into(),
            workers: 2,
            ratio: None,
            key: Secret::new("s3cret".into()),
            db: Db { url: "postgres://me:pw@db/x".into(), pool: 4 },
            tls: None,
            tags: vec![],
        }
    }
}

fn loader() -> Loader<Config> {
    Loader::new("shop").variables::<String, String>([])
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn problems(loader: Loader<Config>) -> Vec<String> {
    loader.load().unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = file("workers = 3\ngrace_ms = 9000\nlisten = 'file'\n[db]\npool = 5\n");
    let loaded = loader()
        .file(file.path())
        .variables([("SHOP_WORKERS", "4"), ("SHOP_DB__POOL", "6"), ("SHOP_LISTEN", "variable")])
        .flag("listen", "flag", "--listen")
        .load()
        .unwrap();
    assert_eq!((loaded.config.workers, loaded.config.db.pool), (4, 6));
    assert_eq!(loaded.config.listen, "flag");
    assert_eq!(loaded.config.db.url, "postgres://me:pw@db/x", "the rest of a table keeps its defaults");
    assert_eq!(loaded.settings.grace_ms, 9000);
    let source = |key: &str| loaded.values.iter().find(|v| v.key == key).unwrap().source.clone();
    assert_eq!(source("listen"), Source::Flag("--listen".into()));
    assert_eq!(source("db.pool"), Source::Variable("SHOP_DB__POOL".into()));
    assert_eq!(source("grace_ms"), Source::File(file.path().display().to_string(), 2));
    assert_eq!(source("db.url"), Source::Default);
}

#[test]
fn text_becomes_what_its_reader_wants() {
    let loaded = loader()
        .variables([
            ("SHOP_RATIO", "0.5"),
            ("SHOP_LISTEN", "80"),
            ("SHOP_TAGS", "a, b"),
            ("SHOP_TLS__CERT", "7"),
            ("SHOP_TLS__PORT", "443"),
            ("SHOP_DRAIN_MS", "100"),
        ])
        .load()
        .unwrap();
    assert_eq!(loaded.config.ratio, Some(0.5));
    assert_eq!(loaded.config.listen, "80", "text stays text where text is wanted");
    assert_eq!(loaded.config.tags, ["a", "b"]);
    assert_eq!(loaded.config.tls, Some(Tls { cert: "7".into(), port: 443 }));
    assert_eq!(loaded.settings.drain_ms, Some(100));
    let tags = loader().variables([("SHOP_TAGS", "['a', 'b,c']")]).load().unwrap().config.tags;
    assert_eq!(tags, ["a", "b,c"], "a list may be written as TOML");
}

#[test]
fn every_mistake_of_a_file_is_reported_whatever_kind_it_is() {
    let file = file("worker = 3\nlog_level = 'loud'\n[db]\npool = 'many'\nport = 5432\n");
    let found = problems(loader().file(file.path()));
    let name = file.path().display();
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[0], format!("worker: unknown key, did you mean `workers` ({name}:1)"));
    assert!(found[1].starts_with("db.pool: ") && found[1].ends_with(&format!("({name}:4)")), "{found:?}");
    assert_eq!(found[2], format!("db.port: unknown key ({name}:5)"));
    assert!(found[3].starts_with("log_level: ") && found[3].ends_with(&format!("({name}:2)")), "{found:?}");
    let file = self::file("workers = 3\nlog_level = 'loud'\ngrace_ms = 10\n");
    let found =
        problems(loader().file(file.path()).flag("workers", "5", "-w").rule(|config, _, problems| {
            if config.workers > 4 {
                problems.add("workers", "must be at most 4");
            }
        }));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[2].ends_with("(flag -w)"), "{found:?}");
}

#[test]
fn wrong_types_are_named_with_their_variable_or_flag() {
    let found = problems(
        loader()
            .variables([("SHOP_WORKERS", "many")])
            .flag("grace_ms", "soon", "--grace-ms")
            .flag("nope", "1", "--nope"),
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("(variable SHOP_WORKERS)"), "{found:?}");
    assert!(found[1].contains("grace_ms") && found[1].contains("(flag --grace-ms)"), "{found:?}");
    assert!(found[2].contains("unknown key"), "{found:?}");
}

#[test]
fn every_syntax_error_of_a_file_is_reported_and_a_missing_file_too() {
    let file = file("a = \nb = 1\nc = =\n");
    let found = problems(loader().file(file.path()));
    assert!(found.len() >= 2, "{found:?}");
    assert!(found.iter().any(|p| p.contains(":1)")) && found.iter().any(|p| p.contains(":3)")), "{found:?}");
    let error = Error::from(loader().file("/nowhere/shop.toml").load().unwrap_err());
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn explicit_phases_beyond_the_grace_are_refused() {
    let found =
        problems(loader().flag("grace_ms", "5000", "--grace-ms").flag("drain_ms", "6000", "--drain-ms"));
    assert!(found[0].contains("drain_ms") && found[0].contains("(flag --grace-ms)"), "{found:?}");
}

#[test]
fn unknown_variables_warn_with_the_nearest_name_and_those_of_kubernetes_do_not() {
    let loaded = loader()
        .variables([
            ("SHOP_WORKRES", "4"),
            ("SHOP_PORT", "tcp://10.0.0.1:80"),
            ("SHOP_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("SHOP_SERVICE_HOST", "10.0.0.1"),
            ("SHOP_TOKEN", "x"),
            ("OTHER_WORKERS", "9"),
        ])
        .foreign_variable("SHOP_TOKEN")
        .load()
        .unwrap();
    assert_eq!(loaded.warnings, ["unknown variable SHOP_WORKRES, did you mean SHOP_WORKERS"]);
    assert_eq!(loaded.config.workers, 2);
}

#[test]
fn the_effective_configuration_reads_back_and_shows_no_secret() {
    let loaded = loader().variables([("SHOP_KEY", "hunter2"), ("SHOP_TAGS", "x,y")]).load().unwrap();
    assert_eq!(loaded.config.key.reveal(), "hunter2");
    let text = loaded.to_toml();
    assert!(!text.contains("hunter2") && !text.contains(":pw@"), "{text}");
    assert!(text.lines().any(|l| l.starts_with("tags = [") && l.ends_with("# variable SHOP_TAGS")), "{text}");
    let file = file(&text);
    let mut again = loader().file(file.path()).load().unwrap();
    assert_eq!(again.config.tags, ["x", "y"]);
    // What follows from the grace is shown, and so it is said when it is read back.
    let settings = &mut again.settings;
    assert_eq!((settings.lame_duck_ms.take(), settings.drain_ms.take()), (Some(5000), Some(15_000)));
    assert_eq!((settings.cancel_ms.take(), settings.stop_ms.take()), (Some(2000), Some(2000)));
    assert_eq!(settings.flush_ms.take(), Some(3000));
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn defaults_survive_where_nothing_is_said_also_secret_ones() {
    let loaded = loader().load().unwrap();
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn a_wrong_secret_is_not_shown_in_its_own_complaint() {
    #[derive(Serialize, Deserialize, Default)]
    struct Pin {
        pin: Secret<u32>,
    }
    let loader = Loader::<Pin>::new("shop").variables([("SHOP_PIN", "hunter2")]);
    let text = loader.load().err().unwrap().to_string();
    assert!(text.contains("pin") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_service_may_change_the_defaults_of_the_chassis() {
    let loaded = loader().default_value("admin_listen", json!("127.0.0.1:6247")).load().unwrap();
    assert_eq!(loaded.settings.admin_listen, "127.0.0.1:6247");
}
