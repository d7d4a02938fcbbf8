//! The library's first example, run as its user would.

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::PATIENCE;
use crate::process::example;

#[tokio::test]
async fn the_readme_example_takes_a_request_to_a_mail_and_stops_cleanly() {
    let mut child = Command::new(example("shop"))
        .env("SHOP_LISTEN", "127.0.0.1:0")
        .env("SHOP_ADMIN_LISTEN", "off")
        .env("SHOP_LOG_FORMAT", "json")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = timeout(PATIENCE, log.next_line())
            .await
            .unwrap()
            .unwrap()
            .expect("a line that names the address");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(address) = line.get("address").and_then(|address| address.as_str()) {
            break address.to_owned();
        }
    };

    let body = r#"{"id":7,"email":"ada@example.org"}"#;
    let request = http::Request::post("/signup")
        .header("host", &address)
        .header("content-type", "application/json")
        .body(body.to_owned())
        .unwrap();
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let answer = async {
        tokio::select! { answer = sender.send_request(request) => answer, _ = connection => panic!("cut") }
    };
    assert_eq!(answer.await.unwrap().status(), 202);

    let line = timeout(PATIENCE, out.next_line()).await.unwrap().unwrap();
    assert_eq!(line.as_deref(), Some("mail for user 7 sent to ada@example.org"));

    let pid = rustix::process::Pid::from_raw(child.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(0));
}
