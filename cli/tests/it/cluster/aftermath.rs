//! What must hold when everything is over: nothing lost, nothing twice, nothing left.

use super::stack::{BUCKET, Role};
use super::stage::Stage;
use crate::resume::{assert_no_orphans, files_below};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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

    /// A task is done once and not begun again, a job is published once or not at all.
    #[track_caller]
    pub fn assert_nothing_twice(&self, job: &str) {
        let events = self.events(job);
        let mut done: BTreeMap<u64, u64> = BTreeMap::new();
        for event in &events {
            let task = event["task"].as_u64().unwrap_or_default();
            match event["event"].as_str().unwrap() {
                "claimed" => assert!(!done.contains_key(&task), "task {task} was done and claimed again: {events:?}"),
                "task_done" => assert_eq!(done.insert(task, 1), None, "task {task} was done twice: {events:?}"),
                _ => {}
            }
        }
        assert!(events.iter().filter(|e| e["event"] == "published").count() <= 1, "{events:?}");
    }

    /// Holds when all jobs have ended. `workers` are names of all that ever ran; those that were killed are followed
    /// by one that clears up after them, as a supervisor would start it.
    #[track_caller]
    pub fn leave(self, roles: Vec<Role>, workers: &[&str]) {
        let stack = &self.stack;
        let jobs = stack.rows("SELECT id, state, remaining FROM jobs");
        assert!(!jobs.is_empty());
        for job in &jobs {
            let is_whole = job["state"] == "published" && job["remaining"] == 0;
            assert!(is_whole || job["state"] == "failed", "{job}");
            self.assert_nothing_twice(job["id"].as_str().unwrap());
        }
        let leased = stack.rows("SELECT job, number FROM tasks WHERE state = 'leased'");
        assert!(leased.is_empty(), "leases are left: {leased:?}");
        let rings = stack.rows("SELECT job, number FROM outbox");
        assert!(rings.is_empty(), "rings are left: {rings:?}");
        let mut strange = Vec::new();
        stack.until(&format!("the bucket holds what rows name, and no more: {strange:?}"), || {
            let (named, stored) = (self.named(), self.stored());
            strange = named.symmetric_difference(&stored).cloned().collect();
            strange.is_empty()
        });
        stack.until("no upload is left", || stack.s3().open_uploads().unwrap().is_empty());
        let cleaners = workers.iter().map(|name| self.worker(name));
        let roles: Vec<Role> = cleaners.collect::<Vec<_>>().into_iter().chain(roles).collect();
        for role in &roles {
            role.signal(libc::SIGTERM);
        }
        for role in roles {
            assert!(role.wait().success(), "a role ended badly: {}", stack.logs());
        }
        for name in workers {
            let left = files_below(&stack.scratch(name));
            let scratch = std::fs::read_dir(stack.scratch(name).join("scratch")).unwrap().count();
            assert!(left.is_empty() && scratch == 0, "{name} leaves {left:?}");
        }
        assert_no_orphans(stack.dir.path());
    }
}
