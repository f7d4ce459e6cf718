//! Postgres and RabbitMQ of one test's own, which it may kill.

use super::stack::Servers;
use crate::structure::root;
use std::process::Command;

/// A running pair; ended when dropped.
pub struct OwnServers {
    dir: tempfile::TempDir,
    pub servers: Servers,
}

impl OwnServers {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut own = OwnServers { dir, servers: Servers { database: String::new(), amqp: String::new() } };
        own.run(&["start"]);
        let printed = own.run(&["env"]);
        let value = |name: &str| {
            let found = printed.split_whitespace().find_map(|word| word.strip_prefix(&format!("{name}=")));
            found.unwrap_or_else(|| panic!("{name} is not in {printed}")).to_owned()
        };
        own.servers.database = value("SPLITREEL_TEST_DATABASE_URL");
        own.servers.amqp = value("SPLITREEL_TEST_AMQP_URL");
        own
    }

    /// A command of `scripts/services` for these servers.
    pub fn run(&self, args: &[&str]) -> String {
        let done = Command::new(root().join("scripts/services"))
            .args(args)
            .arg("--dir")
            .arg(self.dir.path().join("services"))
            .env_remove("SPLITREEL_TEST_DATABASE_URL")
            .env_remove("SPLITREEL_TEST_AMQP_URL")
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        self.run(&["stop"]);
    }
}
