//! The programs of the READMEs, run as their user would.

use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Answer, PATIENCE, Raw, get};
use crate::process::example;

struct Program {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    api: SocketAddr,
    _reader: JoinSet<()>,
}

impl Program {
    /// Starts an example whose app is called `shop`; answers when it listens.
    async fn start(name: &str) -> Self {
        let mut child = Command::new(example(name))
            .env("SHOP_LISTEN", "127.0.0.1:0")
            .env("SHOP_ADMIN_LISTEN", "off")
            .env("SHOP_LOG_FORMAT", "json")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = log.next_line().await.unwrap().expect("a line that names the address");
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                if let Some(address) = line.get("address").and_then(|address| address.as_str()) {
                    return address.parse().unwrap();
                }
            }
        };
        let api = timeout(PATIENCE, listening).await.expect("it listens in time");
        // Read to its end, so that nothing it says can fill the pipe.
        let mut reader = JoinSet::new();
        reader.spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { child, out, api, _reader: reader }
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let mut client = Raw::open(self.api).await;
        let length = body.len();
        let head = "host: x\r\ncontent-type: application/json\r\n";
        client.send(&format!("POST {path} HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{body}")).await;
        client.answer().await.expect("an answer")
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.out.next_line()).await.expect("a line in time").unwrap().expect("a line")
    }

    /// Ctrl-C, and the exit code.
    async fn stop(mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }
}

#[tokio::test]
async fn the_project_readme_takes_a_request_to_a_mail_and_stops_cleanly() {
    let mut program = Program::start("shop").await;
    let answer = program.post("/signup", r#"{"id":7,"email":"ada@example.org"}"#).await;
    assert_eq!(answer.status, 202);
    assert_eq!(program.line().await, "mail sent to ada@example.org");
    assert_eq!(program.stop().await, Some(0));
}

#[tokio::test]
async fn the_crate_readme_signs_up_finds_welcomes_and_stops_cleanly() {
    let mut program = Program::start("readme").await;
    let user = r#"{"id":7,"email":"ada@example.org"}"#;
    assert_eq!(program.post("/users", user).await.status, 201);
    assert_eq!(program.line().await, "welcome, ada@example.org");
    let found = get(program.api, "/users/7").await;
    assert_eq!((found.status, found.body.as_str()), (200, user));
    assert_eq!(get(program.api, "/users/8").await.status, 404);
    assert_eq!(program.stop().await, Some(0));
}
