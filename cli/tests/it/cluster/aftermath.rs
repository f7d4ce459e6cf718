//! What must hold when everything is over: nothing lost, nothing twice, nothing left.

use super::stack::{BUCKET, Role};
use super::stage::Stage;
use crate::resume::{files_below, orphans};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Garbage is collected well within this time.
const GARBAGE_TIME: Duration = Duration::from_secs(60);

/// All values named `key`, anywhere.
fn keys_in(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(key)) = fields.get("key") {
                found.insert(key.clone());
            }
            fields.values().for_each(|v| keys_in(v, found));
        }
        Value::Array(values) => values.iter().for_each(|v| keys_in(v, found)),
        _ => {}
    }
}

impl Stage {
    fn bucket(&self) -> std::path::PathBuf {
        self.stack.dir.path().join("s3").join(BUCKET)
    }

    /// Objects that a row names: those of published presentations, and parts that a retry would build on.
    fn named(&self) -> BTreeSet<String> {
        let query = "SELECT jobs.state, kind, result FROM tasks JOIN jobs ON id = job WHERE result IS NOT NULL";
        let mut named = BTreeSet::new();
        for row in self.stack.rows(query) {
            let result: Value = serde_json::from_str(row["result"].as_str().unwrap()).unwrap();
            if row["kind"] == "assemble" {
                let mut catalogue = BTreeSet::new();
                keys_in(&result, &mut catalogue);
                for key in catalogue {
                    let files = std::fs::read(self.bucket().join(&key)).unwrap();
                    keys_in(&serde_json::from_slice(&files).unwrap(), &mut named);
                    named.insert(key);
                }
            } else if row["state"] != "published" {
                keys_in(&result, &mut named);
            }
        }
        named
    }

    fn stored(&self) -> BTreeSet<String> {
        let root = self.bucket();
        let key = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        files_below(&root).iter().map(|path| key(path)).collect()
    }

    /// Tasks of a job that were done twice or begun again after they were done, and further publications.
    pub fn twice(&self, job: &str) -> Vec<String> {
        let (mut done, mut num_published, mut found) = (BTreeSet::new(), 0, Vec::new());
        for event in self.events(job) {
            let task = event["task"].as_u64().unwrap_or_default();
            let is_again = match event["event"].as_str().unwrap() {
                "claimed" => done.contains(&task),
                "task_done" => !done.insert(task),
                "published" => {
                    num_published += 1;
                    num_published > 1
                }
                _ => false,
            };
            if is_again {
                found.push(format!("job {job}: {event}"));
            }
        }
        found
    }

    /// What storage and the job store hold beyond what they should, once all jobs have ended.
    fn strays(&self) -> Vec<String> {
        let (named, stored) = (self.named(), self.stored());
        let mut found: Vec<String> = stored.difference(&named).map(|key| format!("object {key}")).collect();
        found.extend(named.difference(&stored).map(|key| format!("no object {key}")));
        found.extend(self.stack.s3().open_uploads().unwrap().iter().map(|upload| format!("upload {upload:?}")));
        let leases = self.stack.rows("SELECT job, number FROM tasks WHERE state = 'leased' OR elder IS NOT NULL");
        found.extend(leases.iter().map(|lease| format!("lease {lease}")));
        let wakeups = self.stack.rows("SELECT job, number FROM outbox");
        found.extend(wakeups.iter().map(|wakeup| format!("wakeup {wakeup}")));
        found
    }

    /// The same when there was time to collect garbage.
    pub fn strays_in_the_end(&self) -> Vec<String> {
        let deadline = Instant::now() + GARBAGE_TIME;
        loop {
            let found = self.strays();
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends all roles, and answers the scratch files and processes that they leave. `workers` are names of all that
    /// ever ran; each is started once more, as a supervisor would, and clears up after killed processes.
    #[track_caller]
    pub fn end(&self, mut roles: Vec<Role>, workers: &[&str]) -> Vec<String> {
        roles.extend(workers.iter().map(|name| self.worker(name)));
        for role in &roles {
            role.signal(libc::SIGTERM);
        }
        for role in roles {
            assert!(role.wait().success(), "a role ended badly: {}", self.stack.logs());
        }
        let mut found = Vec::new();
        for name in workers {
            let state = self.stack.scratch(name);
            found.extend(files_below(&state).iter().map(|path| format!("file {}", path.display())));
            let left = std::fs::read_dir(state.join("scratch")).unwrap().flatten();
            found.extend(left.map(|entry| format!("directory {}", entry.path().display())));
        }
        found.extend(orphans(self.stack.dir.path()).into_iter().map(|process| format!("process {process}")));
        found
    }

    /// Holds when all jobs have ended. Ends the roles; about `workers` see [`Stage::end`].
    #[track_caller]
    pub fn leave(self, roles: Vec<Role>, workers: &[&str]) {
        let jobs = self.stack.rows("SELECT id, state, remaining FROM jobs");
        assert!(!jobs.is_empty());
        for job in &jobs {
            let is_whole = job["state"] == "published" && job["remaining"] == 0;
            assert!(is_whole || job["state"] == "failed", "{job}");
            assert_eq!(self.twice(job["id"].as_str().unwrap()), [""; 0]);
        }
        assert_eq!(self.strays_in_the_end(), [""; 0]);
        assert_eq!(self.end(roles, workers), [""; 0]);
    }
}
