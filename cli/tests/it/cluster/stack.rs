//! A cluster of real processes on throw-away servers: Postgres and RabbitMQ of its own or from the environment, S3 in
//! this process. Decides nothing about what is run on it.

use splitreel_testkit::proxy::HttpProxy;
use splitreel_testkit::s3::{Server, ServerConfig};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const ADMIN: &str = "administrator-of-a-test";
const WORK: &str = "worker-token-of-a-test";
pub const BUCKET: &str = "work";
pub const SOURCES: &str = "sources";

/// Where a throw-away server is.
pub fn service(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: scripts/services start && eval \"$(scripts/services env)\""))
}

/// A port that nobody listens on, below those from which the kernel takes ports for outgoing connections: one that is
/// listened on again later must not be taken by such a connection meanwhile.
pub fn free_port() -> u16 {
    let candidates = (0..200).map(|_| 20_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 12_000).unwrap());
    let is_free = |port: &u16| TcpListener::bind(local(*port)).is_ok();
    candidates.into_iter().find(is_free).expect("no free port on 127.0.0.1")
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Milliseconds since the epoch, by the clock that coordinators on this machine have.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// The address of a database on the same server.
fn sibling(database: &str, name: &str) -> String {
    format!("{}/{name}", database.rsplit_once('/').unwrap().0)
}

/// Where Postgres and RabbitMQ are.
#[derive(Clone)]
pub struct Servers {
    pub database: String,
    pub amqp: String,
}

impl Servers {
    /// Those of the environment, which other tests use at the same time.
    pub fn shared() -> Self {
        Servers { database: service("SPLITREEL_TEST_DATABASE_URL"), amqp: service("SPLITREEL_TEST_AMQP_URL") }
    }
}

/// Settings of one process beside the common ones.
pub type Settings<'a> = &'a [(&'a str, String)];

fn last_lines(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}

/// A process of a role; killed when it is dropped.
pub struct Role {
    child: Child,
    log: PathBuf,
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

    /// Whether `/readyz` says yes.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.split_whitespace().nth(1) == Some("200"))
    }

    /// The samples of `/metrics`: values by name and labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.get("/metrics").unwrap();
        let samples = text.lines().filter(|line| line.starts_with("splitreel_"));
        samples.map(|line| line.rsplit_once(' ').unwrap()).map(|(s, v)| (s.to_owned(), v.parse().unwrap())).collect()
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(local(self.ops))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        last_lines(&self.log)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills it and waits until it is gone.
    pub fn kill(self) {
        drop(self);
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
    servers: Servers,
    pub api: u16,
}

impl Stack {
    pub fn start() -> Self {
        Self::on(Servers::shared())
    }

    pub fn on(servers: Servers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("t{}", uuid::Uuid::now_v7().simple());
        psql(&servers.database, &format!("CREATE DATABASE {name}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let root = dir.path().join("s3");
        std::fs::create_dir(&root).unwrap();
        let s3 = runtime.block_on(Server::start(ServerConfig::loopback(&root))).unwrap();
        s3.create_bucket(BUCKET).unwrap();
        s3.create_bucket(SOURCES).unwrap();
        let endpoint = s3.endpoint();
        Stack { dir, runtime, endpoint, s3: Some(s3), name, servers, api: free_port() }
    }

    /// The S3 server.
    pub fn s3(&self) -> &Server {
        self.s3.as_ref().unwrap()
    }

    /// A proxy before servers that can stand in for each other.
    pub fn proxy(&self, upstreams: Vec<SocketAddr>) -> HttpProxy {
        self.runtime.block_on(HttpProxy::start_before(upstreams)).unwrap()
    }

    /// The rows that a query finds.
    pub fn rows(&self, query: &str) -> Vec<serde_json::Value> {
        self.try_rows(query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The same from a database that may be down.
    pub fn try_rows(&self, query: &str) -> Result<Vec<serde_json::Value>, String> {
        let statement = format!("SELECT row_to_json(found) FROM ({query}) AS found");
        let found = try_psql(&sibling(&self.servers.database, &self.name), &statement)?;
        Ok(found.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Stores a source.
    pub fn upload(&self, key: &str, file: &Path) {
        std::fs::copy(file, self.dir.path().join("s3").join(SOURCES).join(key)).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_splitreel"));
        let keys = self.s3().config();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("DATABASE_URL", sibling(&self.servers.database, &self.name))
            .env("AMQP_URL", &self.servers.amqp)
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

    /// Starts a process of a role.
    pub fn spawn(&self, role: &str, settings: Settings<'_>) -> Role {
        let ops = free_port();
        let log = self.dir.path().join(format!("{role}-{ops}.log"));
        let mut command = self.command();
        command
            .args([role, "--ops-listen", &local(ops).to_string()])
            .env("SPLITREEL_TOKEN", WORK)
            .env("RUST_LOG", "info")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        Role { child: command.spawn().unwrap(), log, ops }
    }

    /// Starts one and waits until it is ready.
    pub fn role(&self, role: &str, settings: Settings<'_>) -> Role {
        let role = self.spawn(role, settings);
        self.until("a role is ready", || role.is_ready());
        role
    }

    pub fn coordinator(&self) -> Role {
        self.role("coordinator", &[("SPLITREEL_LISTEN", local(self.api).to_string())])
    }

    /// The directory of a worker's state.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("scratch-{name}"))
    }

    /// What a worker is started with: one slot, and its own directory.
    pub fn hands(&self, name: &str) -> Vec<(&'static str, String)> {
        let scratch = self.scratch(name).to_str().unwrap().to_owned();
        vec![
            ("SPLITREEL_WORKER_NAME", name.to_owned()),
            ("SPLITREEL_WORKERS", "1".to_owned()),
            ("SPLITREEL_SCRATCH", scratch),
        ]
    }

    pub fn worker(&self, name: &str) -> Role {
        self.role("worker", &self.hands(name))
    }

    pub fn assembler(&self) -> Role {
        self.role("assembler", &[])
    }

    /// Polls until `is` holds; the condition is another process's doing.
    #[track_caller]
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !is() {
            assert!(Instant::now() < deadline, "not within two minutes: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(10));
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
                text.push_str(&format!("--- {}\n{}\n", entry.path().display(), last_lines(&entry.path())));
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
        psql(&self.servers.database, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// What a statement answers, a line for each row.
fn try_psql(database: &str, statement: &str) -> Result<String, String> {
    let mut psql = Command::new("psql");
    psql.args(["-q", "-A", "-t", "-X", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]);
    let done = psql.output().expect("psql is needed for these tests");
    if done.status.success() {
        Ok(String::from_utf8(done.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

/// A statement for a server, outside of any test's database.
pub fn psql(database: &str, statement: &str) {
    try_psql(database, statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
}
