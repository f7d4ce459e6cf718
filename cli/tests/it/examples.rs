//! The examples do what they say, against the built program.

use crate::clips;
use crate::reel::Reel;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An example's binary, which cargo builds with the tests.
fn example(name: &str) -> Command {
    let path: PathBuf = Path::new(env!("CARGO_BIN_EXE_splitreel")).parent().unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is not built", path.display());
    Command::new(path)
}

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process and waits for the line of its output that begins like this.
fn start(command: &mut Command, line: &str) -> (Process, String, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let process = Process(child);
    let mut said = String::new();
    while !said.starts_with(line) {
        said.clear();
        assert!(out.read_line(&mut said).unwrap() > 0, "it ended before it said {line:?}");
    }
    (process, said.trim_end().to_owned(), out)
}

#[test]
fn the_engine_works_inside_another_program() {
    let reel = Reel::new();
    let out = reel.path("out");
    let done = example("embed_engine").arg(clips::cfr()).arg(&out).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(out.join("master.m3u8").is_file() && out.join("report.json").is_file());
}

#[test]
fn a_file_is_submitted_followed_and_played_and_its_end_is_received_as_a_webhook() {
    const TOKEN: &str = "a-token-of-this-test";
    const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let reel = Reel::new();
    // Webhooks go to few ports only; one of them is free, or the test cannot be.
    let port = [8080, 8443].into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let port = port.expect("port 8080 or 8443 is free");
    let mut receiver = example("webhook_receiver");
    receiver.arg(format!("127.0.0.1:{port}")).env("WEBHOOK_SECRET", KEY);
    let (_receiver, _, mut received) = start(&mut receiver, "listening on");
    let mut serve = reel.command("serve");
    serve.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--webhook-networks", "127.0.0.0/8"]);
    let (_server, said, _out) = start(serve.env("SPLITREEL_ADMIN_TOKEN", TOKEN), "splitreel serves at");
    let server = said.rsplit(' ').next().unwrap().to_owned();

    let hook = format!(r#"{{"url":"http://127.0.0.1:{port}/hook","events":["job.published"],"secret":"{KEY}"}}"#);
    let made = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::new().post(format!("{server}/v1/webhooks")).bearer_auth(TOKEN);
        request.header("content-type", "application/json").body(hook).send().await.unwrap()
    });
    assert_eq!(made.status(), 201);
    let sent =
        example("submit_and_follow").arg(&server).arg(clips::cfr()).env("SPLITREEL_TOKEN", TOKEN).output().unwrap();
    let said = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(sent.status.success(), "{said}\n{}", String::from_utf8_lossy(&sent.stderr));
    let job = said.lines().find_map(|line| line.strip_prefix("job ")).unwrap();
    assert!(said.contains("master.m3u8"), "{said}");
    let mut event = String::new();
    received.read_line(&mut event).unwrap();
    assert!(event.contains("job.published") && event.contains(job), "{event}");
}
