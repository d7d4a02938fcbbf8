use clap::CommandFactory;

use super::*;

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("mainstay").chain(line.iter().copied()))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_makes_sense_is_read() {
    const ID: &str = "019aae51-4f2b-7c3d-8e4f-0123456789ab";
    for line in [
        &["serve", "--store", "memory:", "--listen", "127.0.0.1:0"][..],
        &["jobs", "enqueue", "mail", "send"],
        &["jobs", "enqueue", "mail", "send", "{}", "--priority", "0", "--tag", "a", "--tag", "b", "--wait"],
        &["jobs", "enqueue", "mail", "send", "-", "--run-at", "2026-11-22T10:00:00+01:00", "--id", ID],
        &["jobs", "enqueue", "mail", "send", "-1"],
        &["jobs", "enqueue", "mail", "--bulk", "-"],
        &["jobs", "list", "--state", "dead", "--limit", "1000", "--output", "json"],
        &["--server", "http://h:1", "jobs", "show", ID],
        &["jobs", "retry", ID, ID],
        &["jobs", "dead", "requeue", "mail", "--all", "--dry-run"],
        &["jobs", "dead", "delete", "mail", "--id", ID, "--id", ID],
        &["queues", "purge", "mail", "--yes"],
        &["queues", "set", "mail", "{\"max_depth\":1}"],
        &["schedules", "put", "nightly", "0 3 * * *", "chores", "clean", "{}", "--timezone", "Europe/Berlin"],
        &[
            "schedules",
            "put",
            "nightly",
            "0 3 * * *",
            "chores",
            "--job",
            "{\"kind\":\"k\"}",
            "--catch-up",
            "all",
        ],
        &["schedules", "list", "--limit", "5"],
        &["schedules", "trigger", "nightly"],
        &["workers", "list", "--output", "json"],
        &["top", "--once", "--interval-ms", "200"],
        &["worker", "run", "--queue", "a", "--queue", "b", "--", "sh", "-c", "cat --x"],
        &["token", "create", "--name", "ci", "--scope", "jobs:work=mail", "--scope", "read"],
        &["token", "revoke", "ci", "--store", "sqlite:x.db"],
        &["config", "--config", "x.toml"],
        &["healthcheck"],
        &["completions", "bash"],
        &["drain"],
    ] {
        assert!(parse(line).is_ok(), "{line:?}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    const ID: &str = "019aae51-4f2b-7c3d-8e4f-0123456789ab";
    for line in [
        &["jobs", "enqueue", "mail"][..],
        &["jobs", "enqueue", "mail", "send", "--delay-ms", "1", "--run-at", "2026-11-22T10:00:00Z"],
        &["jobs", "enqueue", "mail", "send", "--run-at", "2026-11-22T10:00:00"],
        &["jobs", "enqueue", "mail", "send", "--bulk", "-"],
        &["jobs", "enqueue", "mail", "send", "--unique-for-ms", "1"],
        &["jobs", "list", "--state", "done"],
        &["jobs", "list", "--limit", "0"],
        &["jobs", "show", "1"],
        &["jobs", "retry"],
        &["jobs", "dead", "requeue", "mail"],
        &["jobs", "dead", "requeue", "mail", "--all", "--id", ID],
        &["queues", "purge", "mail"],
        &["schedules", "put", "nightly", "0 3 * * *", "chores"],
        &["schedules", "put", "nightly", "0 3 * * *", "chores", "k", "--job", "{}"],
        &["schedules", "put", "nightly", "0 3 * * *", "chores", "k", "--catch-up", "some"],
        &["schedules", "delete"],
        &["top", "--interval-ms", "0"],
        &["worker", "run", "--", "cat"],
        &["worker", "run", "--queue", "a"],
        &["worker", "run", "--queue", "a", "cat"],
        &["worker", "run", "--queue", "a b", "--", "cat"],
        &["worker", "run", "--queue", "a", "--lease-ms", "999", "--", "cat"],
        &["worker", "run", "--queue", "a", "--concurrency", "0", "--", "cat"],
        &["token", "create", "--name", "ci"],
        &["token", "create", "--name", "ci", "--scope", "fly"],
        &["jobs", "list", "--output", "yaml"],
    ] {
        let error = parse(line).expect_err(&line.join(" "));
        assert_eq!(error.exit_code(), 2, "{line:?}");
    }
}

#[test]
fn the_variables_of_the_command_line_are_known_to_serve() {
    let given = session::VARIABLES.map(|name| (name, "x"));
    let loaded = config::loader(&serve::ServeArgs::default()).variables(given).load().unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
}
