//! A cluster of real processes on throw-away servers: Postgres and RabbitMQ from the environment, S3 in this process.

use splitreel_testkit::s3::{Server, ServerConfig};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ADMIN: &str = "administrator-of-a-test";
const WORK: &str = "worker-token-of-a-test";
pub const BUCKET: &str = "work";
pub const SOURCES: &str = "sources";

fn service(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: scripts/services start && eval \"$(scripts/services env)\""))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split_whitespace().nth(1) == Some("200"))
}

/// A process of a role; killed when it is dropped.
pub struct Role {
    child: Child,
    pub ops: u16,
}

impl Role {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal by number.
    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved; the child was not waited for, so its id is its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Waits for the end.
    pub fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything but the roles.
pub struct Stack {
    pub dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    s3: Option<Server>,
    endpoint: String,
    name: String,
    pub api: u16,
}

impl Stack {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("t{}", uuid::Uuid::now_v7().simple());
        psql(&format!("CREATE DATABASE {name}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let root = dir.path().join("s3");
        std::fs::create_dir(&root).unwrap();
        let s3 = runtime.block_on(Server::start(ServerConfig::loopback(&root))).unwrap();
        s3.create_bucket(BUCKET).unwrap();
        s3.create_bucket(SOURCES).unwrap();
        let endpoint = s3.endpoint();
        Stack { dir, runtime, endpoint, s3: Some(s3), name, api: free_port() }
    }

    /// Stores a source.
    pub fn upload(&self, key: &str, file: &Path) {
        std::fs::copy(file, self.dir.path().join("s3").join(SOURCES).join(key)).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_splitreel"));
        let database = service("SPLITREEL_TEST_DATABASE_URL");
        let (server, _) = database.rsplit_once('/').unwrap();
        let keys = self.s3.as_ref().unwrap().config();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("DATABASE_URL", format!("{server}/{}", self.name))
            .env("AMQP_URL", service("SPLITREEL_TEST_AMQP_URL"))
            .env("SPLITREEL_QUEUE_PREFIX", &self.name)
            .env("AWS_ENDPOINT_URL_S3", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &keys.secret_key)
            .env("SPLITREEL_S3_BUCKET", BUCKET)
            .env("SPLITREEL_SIGNING_KEY", "a signing key for tests, 32 bytes or more")
            .env("SPLITREEL_ADMIN_TOKEN", ADMIN)
            .env("SPLITREEL_WORK_TOKEN", WORK)
            .env("SPLITREEL_SERVER", format!("http://127.0.0.1:{}", self.api))
            .stdin(Stdio::null());
        command
    }

    fn role(&self, role: &str, more: &[&str]) -> Role {
        let ops = free_port();
        let mut command = self.command();
        let log = std::fs::File::create(self.dir.path().join(format!("{role}-{ops}.log"))).unwrap();
        command
            .arg(role)
            .args(["--ops-listen", &format!("127.0.0.1:{ops}")])
            .args(more)
            .env("SPLITREEL_TOKEN", WORK)
            .env("RUST_LOG", "info")
            .stdout(Stdio::null())
            .stderr(log);
        Role { child: command.spawn().unwrap(), ops }
    }

    pub fn coordinator(&self) -> Role {
        let role = self.role("coordinator", &["--listen", &format!("127.0.0.1:{}", self.api)]);
        self.until_ready(&role);
        role
    }

    pub fn worker(&self, name: &str) -> Role {
        let scratch = self.dir.path().join(format!("scratch-{name}"));
        let role = self.role("worker", &["--name", name, "--slots", "1", "--scratch", scratch.to_str().unwrap()]);
        self.until_ready(&role);
        role
    }

    pub fn assembler(&self) -> Role {
        let role = self.role("assembler", &[]);
        self.until_ready(&role);
        role
    }

    /// Asks `/readyz` until it says yes.
    fn until_ready(&self, role: &Role) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_ready(role.ops) {
            assert!(Instant::now() < deadline, "a role does not get ready: {}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command of the command line, as the administrator.
    pub fn ask(&self, args: &[&str]) -> Output {
        self.command().env("SPLITREEL_TOKEN", ADMIN).args(args).output().unwrap()
    }

    /// Submits a source and waits for the end of its job. Answers the job.
    pub fn transcode(&self, key: &str, profile: Option<&str>) -> String {
        let source = format!("s3://{SOURCES}/{key}");
        let mut args = vec!["submit", source.as_str(), "--wait"];
        if let Some(profile) = profile {
            args.extend(["--profile", profile]);
        }
        let done = self.ask(&args);
        assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), self.logs());
        String::from_utf8_lossy(&done.stdout).split_whitespace().next().unwrap().to_owned()
    }

    /// Downloads a presentation.
    pub fn fetch(&self, job: &str, to: &Path) {
        let done = self.ask(&["fetch", job, "-o", to.to_str().unwrap()]);
        assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), self.logs());
    }

    /// The last lines of every role's log.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.iter().skip(lines.len().saturating_sub(15)).copied().collect::<Vec<_>>().join("\n");
                text.push_str(&format!("--- {}\n{last}\n", entry.path().display()));
            }
        }
        text
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(s3) = self.s3.take() {
            self.runtime.block_on(s3.stop());
        }
        psql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

fn psql(statement: &str) {
    let url = service("SPLITREEL_TEST_DATABASE_URL");
    let done = Command::new("psql").args(["-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", statement]).output();
    let done = done.expect("psql is needed for these tests");
    assert!(done.status.success(), "{statement}: {}", String::from_utf8_lossy(&done.stderr));
}
