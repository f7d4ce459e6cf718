//! A stack with proxies before the coordinators and before storage, and traps that stop a request of a chosen step.

use super::same_bytes::{run_alone, short_segments};
use super::stack::{Role, SOURCES, Servers, Settings, Stack, free_port, local};
use crate::clips;
use crate::reel::hashes;
use serde_json::Value;
use splitreel_testkit::proxy::{Exchange, Fault, Gate, HttpProxy};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of an attempt, by the request that makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A job is made.
    Submit,
    /// A wakeup becomes a lease.
    Claim,
    /// Bytes of the source are read.
    Fetch,
    /// Rights to store objects are asked for: the encode is over.
    Grants,
    /// An object is stored.
    Upload,
    /// A part of a large object is stored.
    Piece,
    /// An object is read.
    Read,
    /// Success is reported.
    Complete,
}

impl Step {
    /// The step that a request makes.
    pub fn of(request: &Exchange) -> Option<Step> {
        let (method, path) = (request.method.as_str(), request.path.as_str());
        match (method, path) {
            ("POST", "/v1/jobs") => Some(Step::Submit),
            ("POST", "/v1/work/claim") => Some(Step::Claim),
            ("POST", _) if path.starts_with("/v1/work/") && path.ends_with("/objects") => Some(Step::Grants),
            ("POST", _) if path.starts_with("/v1/work/") && path.ends_with("/complete") => Some(Step::Complete),
            ("GET", _) if path.starts_with("/sources/") => Some(Step::Fetch),
            ("GET", _) if path.starts_with("/work/jobs/") => Some(Step::Read),
            ("PUT", _) if path.starts_with("/work/jobs/") && request.has_query("partNumber") => Some(Step::Piece),
            ("PUT", _) if path.starts_with("/work/jobs/") => Some(Step::Upload),
            _ => None,
        }
    }
}

/// Where requests are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// On their way: nothing has been done.
    Request,
    /// It is done, and nobody knows.
    Answer,
}

/// Stops requests of a step.
pub struct Trap<'a> {
    proxy: &'a HttpProxy,
    pub gate: Gate,
}

impl<'a> Trap<'a> {
    /// Spares the first requests of a step and stops the following ones, until `most` are there.
    pub fn set(proxy: &'a HttpProxy, step: Step, held: Held, spared: u64, most: u64) -> Self {
        let (gate, seen) = (Gate::default(), AtomicU64::new(0));
        let stopped = gate.clone();
        let fate = match held {
            Held::Request => Fault::Hold(gate.clone()),
            Held::Answer => Fault::HoldAnswer(gate.clone()),
        };
        proxy.set_rule(move |request| {
            let is_due = Step::of(request) == Some(step)
                && seen.fetch_add(1, Ordering::SeqCst) >= spared
                && stopped.num_seen() < most;
            if is_due { fate.clone() } else { Fault::None }
        });
        Trap { proxy, gate }
    }

    /// Waits until something is stopped.
    #[track_caller]
    pub fn wait(&self, stage: &Stage) {
        stage.stack.until("the step is reached", || self.gate.num_seen() > 0);
    }

    /// What was stopped never arrives; what comes passes.
    pub fn lose(self) {
        self.proxy.clear_rule();
        self.gate.cut();
    }
}

/// Coordinators behind one address, storage behind another, and a source.
pub struct Stage {
    /// Before the coordinators.
    pub api: HttpProxy,
    /// Before storage, as workers see it.
    pub s3: HttpProxy,
    ports: [u16; 2],
    profile: String,
    source: String,
    /// What `splitreel run` makes of the source.
    quiet: BTreeMap<String, String>,
    pub stack: Stack,
}

impl Stage {
    pub fn new() -> Self {
        Self::on(Servers::shared(), clips::short())
    }

    pub fn on(servers: Servers, clip: PathBuf) -> Self {
        let stack = Stack::on(servers);
        let profile = short_segments(&stack);
        Self::with(stack, &clip, profile)
    }

    pub fn with(stack: Stack, clip: &Path, profile: String) -> Self {
        let quiet = run_alone(&stack, clip, &profile, "quiet");
        assert!(quiet.len() > 5, "{quiet:?}");
        let source = clip.file_name().unwrap().to_str().unwrap().to_owned();
        stack.upload(&source, clip);
        let ports = [free_port(), free_port()];
        let api = stack.proxy(ports.map(local).to_vec());
        let s3 = stack.proxy(vec![stack.s3().address()]);
        Stage { api, s3, ports, profile, source, quiet, stack }
    }

    /// What coordinators are started with: garbage is collected after a second.
    pub fn coordinating(&self, number: usize) -> Vec<(&'static str, String)> {
        vec![
            ("SPLITREEL_LISTEN", local(self.ports[number]).to_string()),
            ("SPLITREEL_S3_PUBLIC_ENDPOINT", self.s3.endpoint()),
            ("SPLITREEL_GARBAGE_SECONDS", "1".to_owned()),
        ]
    }

    /// One of two coordinators.
    pub fn coordinator(&self, number: usize) -> Role {
        self.stack.role("coordinator", &self.coordinating(number))
    }

    /// A proxy of one process's own before the coordinators.
    pub fn own_api(&self) -> HttpProxy {
        self.stack.proxy(self.ports.map(local).to_vec())
    }

    pub fn worker(&self, name: &str) -> Role {
        self.worker_over(name, &self.api)
    }

    pub fn worker_over(&self, name: &str, api: &HttpProxy) -> Role {
        let mut settings = self.stack.hands(name);
        settings.push(("SPLITREEL_SERVER", api.endpoint()));
        self.stack.role("worker", &settings)
    }

    pub fn assembler(&self) -> Role {
        self.assembler_over(&[("SPLITREEL_SERVER", self.api.endpoint())])
    }

    pub fn assembler_over(&self, settings: Settings<'_>) -> Role {
        self.stack.role("assembler", settings)
    }

    /// Puts another file in the place of the source.
    pub fn replace_source(&self, with: &Path) {
        self.stack.upload(&self.source, with);
    }

    /// A command that talks to the coordinators.
    pub fn ask(&self, args: &[&str]) -> std::process::Output {
        self.stack.ask(&[args, &["--server", &self.api.endpoint()]].concat())
    }

    /// Makes a job of the source.
    pub fn submit(&self) -> String {
        let key = uuid::Uuid::now_v7().to_string();
        self.try_submit(&key).unwrap_or_else(|error| panic!("{error}\n{}", self.stack.logs()))
    }

    /// Makes the one job of a key.
    pub fn try_submit(&self, key: &str) -> Result<String, String> {
        let source = format!("s3://{SOURCES}/{}", self.source);
        let done = self.ask(&["submit", &source, "--profile", &self.profile, "--key", key]);
        if done.status.success() {
            Ok(String::from_utf8(done.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into_owned())
        }
    }

    /// Waits until a job has ended in this state.
    #[track_caller]
    pub fn ended(&self, job: &str, state: &str) {
        let query = format!("SELECT state, failure FROM jobs WHERE id = '{job}' AND ended_ms IS NOT NULL");
        let mut found = Vec::new();
        self.stack.until("the job ends", || {
            found = self.stack.rows(&query);
            !found.is_empty()
        });
        assert_eq!(found[0]["state"], state, "{found:?}\n{}", self.stack.logs());
    }

    /// Waits for a job, and compares its output with that of the quiet run.
    #[track_caller]
    pub fn published(&self, job: &str) {
        self.ended(job, "published");
        assert_eq!(self.differing(job), [""; 0], "job {job} is not as the quiet run");
    }

    /// Files of a published job that are not as in the quiet run.
    pub fn differing(&self, job: &str) -> Vec<String> {
        let out = self.stack.dir.path().join(job);
        let done = self.ask(&["fetch", job, "-o", out.to_str().unwrap()]);
        assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), self.stack.logs());
        let made = hashes(&out);
        std::fs::remove_dir_all(&out).unwrap();
        let names: BTreeSet<&String> = made.keys().chain(self.quiet.keys()).collect();
        names.into_iter().filter(|name| made.get(*name) != self.quiet.get(*name)).cloned().collect()
    }

    /// What happened to a job, oldest first, with its time in `at_ms`.
    pub fn events(&self, job: &str) -> Vec<Value> {
        let log = |table: &str, order: &str, place: u8| {
            format!("SELECT {place} AS place, {order} AS number, at_ms, what FROM {table} WHERE job = '{job}'")
        };
        let query = format!("{} UNION ALL {} ORDER BY 1, 2", log("events", "seq", 0), log("arrivals", "id", 1));
        let found = self.stack.rows(&query).into_iter().map(|row| {
            let mut event: Value = serde_json::from_str(row["what"].as_str().unwrap()).unwrap();
            event["at_ms"] = row["at_ms"].clone();
            event
        });
        found.collect()
    }

    /// Tasks of a job that are not done; `None` before it is planned.
    pub fn open_tasks(&self, job: &str) -> Option<Vec<Value>> {
        let tasks = self.stack.rows(&format!("SELECT number, state, lease_worker FROM tasks WHERE job = '{job}'"));
        (tasks.len() > 1).then(|| tasks.into_iter().filter(|task| task["state"] != "done").collect())
    }
}
