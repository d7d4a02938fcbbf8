//! `mainstay lock run` where a person runs it: in the foreground of a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::server::TestServer;

const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal with a command in its foreground.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<String>,
    shown: String,
}

impl Terminal {
    /// Runs `mainstay lock run nightly … -- sh -c SCRIPT`, the leader of a session whose terminal this is.
    fn run(server: &TestServer, more: &[&str], script: &str) -> Terminal {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // A session's leader that opens a terminal has it from then on.
        let on_it = format!("exec \"$@\" <>{name} >&0 2>&0");
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", &on_it, "sh", env!("CARGO_BIN_EXE_mainstay"), "lock", "run", "nightly"]);
        command.args(more).args(["--", "sh", "-c", script]);
        command
            .env("MAINSTAY_SERVER", format!("http://{}", server.api))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let child = command.spawn().unwrap();
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().unwrap();
        let (shows, screen) = sync_channel(1_024);
        std::thread::spawn(move || {
            let mut piece = [0; 1_024];
            // An error when nobody has the terminal open any more.
            while let Ok(count @ 1..) = output.read(&mut piece) {
                if shows.send(String::from_utf8_lossy(&piece[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, shown: String::new() }
    }

    fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this is on the screen.
    async fn shows(&mut self, text: &str) {
        while !self.shown.contains(text) {
            match tokio::task::block_in_place(|| self.screen.recv_timeout(PATIENCE)) {
                Ok(more) => self.shown.push_str(&more),
                Err(error) => panic!("no `{text}` but {:?}: {error}", self.shown),
            }
        }
    }

    /// Its exit code, and all that was on the screen.
    async fn ended(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        // The reader ends when nobody has the terminal open any more.
        tokio::task::block_in_place(|| {
            while let Ok(more) = self.screen.recv_timeout(PATIENCE) {
                self.shown.push_str(&more);
            }
        });
        (status.code(), self.shown)
    }
}

async fn is_free(server: &TestServer) {
    server.get("/v1/locks/nightly").await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_reads_what_is_typed() {
    let server = TestServer::start().await;
    let mut terminal = Terminal::run(&server, &[], "echo your name; read name; echo hello $name");
    terminal.shows("your name").await;
    terminal.type_in("ada\n");
    terminal.shows("hello ada").await;
    let (code, shown) = terminal.ended().await;
    assert_eq!(code, Some(0), "{shown}");
    is_free(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_reaches_the_command_once_and_the_lock_is_given_back_when_it_has_ended() {
    let server = TestServer::start().await;
    // Ended by a signal that is passed on: one that was passed on before has arrived by then.
    let script = "trap 'echo heard; n=$((n+1))' INT; trap 'end=1' USR1; n=0; end=0; echo begun; \
                  while [ $end -eq 0 ]; do sleep 0.01; done; echo times $n; exit 5";
    let mut terminal = Terminal::run(&server, &["--ttl", "1s"], script);
    terminal.shows("begun").await;
    terminal.type_in("\x03");
    terminal.shows("heard").await;
    assert_eq!(server.get("/v1/locks/nightly").await.is(200)["holders"].as_array().unwrap().len(), 1);
    let lock_run = Pid::from_raw(terminal.child.id().unwrap() as i32).unwrap();
    kill_process(lock_run, Signal::USR1).unwrap();
    terminal.shows("times 1").await;
    let (code, shown) = terminal.ended().await;
    assert_eq!(code, Some(5), "the command's own: {shown}");
    is_free(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_ctrl_c_ends_is_130_and_the_lock_is_given_back() {
    let server = TestServer::start().await;
    let mut terminal = Terminal::run(&server, &[], "echo begun; exec sleep 60");
    terminal.shows("begun").await;
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended().await;
    assert_eq!(code, Some(130), "{shown}");
    is_free(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_while_the_lock_is_waited_for_leaves_the_line() {
    let server = TestServer::start().await;
    server.post("/v1/locks/nightly/acquire", json!({ "owner": "somebody" })).await.is(200);
    let mut terminal = Terminal::run(&server, &["--wait"], "echo ran");
    terminal.shows("held by somebody; waiting").await;
    server.get_until("/v1/locks/nightly", |lock| lock["waiters"][0]["position"] == 1).await;
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended().await;
    assert_eq!((code, shown.contains("ran")), (Some(130), false), "{shown}");
    assert_eq!(server.get("/v1/locks/nightly").await.is(200)["waiters"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lock_ends_a_command_at_a_terminal() {
    let server = TestServer::start().await;
    let mut terminal = Terminal::run(&server, &["--ttl", "1s"], "echo begun; exec sleep 60");
    terminal.shows("begun").await;
    server.delete("/v1/locks/nightly").await;
    let (code, shown) = terminal.ended().await;
    assert_eq!(code, Some(76), "{shown}");
    assert!(shown.contains("nightly is lost"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_was_stopped_for_longer_than_its_lock_lives_does_not_go_on() {
    let server = TestServer::start().await;
    let mut terminal = Terminal::run(&server, &["--ttl", "1s"], "echo begun; exec sleep 60");
    terminal.shows("begun").await;
    // As Ctrl-Z and `fg` do it: all of it is one group.
    let group = Pid::from_raw(terminal.child.id().unwrap() as i32).unwrap();
    kill_process_group(group, Signal::STOP).unwrap();
    let expired = async {
        while server.get("/v1/locks/nightly").await.status != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, expired).await.expect("it expires");
    kill_process_group(group, Signal::CONT).unwrap();
    let (code, shown) = terminal.ended().await;
    assert_eq!(code, Some(76), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_is_closed_ends_the_command_and_gives_the_lock_back() {
    let server = TestServer::start().await;
    let mut terminal = Terminal::run(&server, &[], "echo begun; exec sleep 60");
    terminal.shows("begun").await;
    // The other end is in the reader's thread, too.
    let Terminal { mut child, keyboard, screen, .. } = terminal;
    hang_up(&keyboard);
    drop((keyboard, screen));
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(129));
    is_free(&server).await;
}

/// What the kernel sends to the foreground when a terminal is gone.
fn hang_up(terminal: &File) {
    let front = rustix::termios::tcgetpgrp(terminal).unwrap();
    kill_process_group(front, Signal::HUP).unwrap();
}
