//! The stores against each other: walks of random operations over memory, SQLite and Postgres.

use super::stack::{psql, service};
use splitreel_backend::JobStore;
use splitreel_backend::conformance::model::{self, Effects};
use splitreel_backend_cluster::postgres::{PgConfig, PgStore};
use splitreel_backend_embedded::SqliteStore;

async fn walk(seed: u64) -> Effects {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("t{}", uuid::Uuid::now_v7().simple());
    let server = service("SPLITREEL_TEST_DATABASE_URL");
    psql(&server, &format!("CREATE DATABASE {name}"));
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    PgStore::migrate(&url).await.unwrap();
    let postgres = PgStore::open(&url, &PgConfig { max_connections: 2, ..PgConfig::default() }).await.unwrap();
    let sqlite = SqliteStore::open(directory.path().join("state.db")).await.unwrap();
    let effects = model::run(&[&sqlite as &dyn JobStore, &postgres], seed, 1_500).await;
    postgres.close().await;
    psql(&server, &format!("DROP DATABASE {name} WITH (FORCE)"));
    effects
}

/// Side by side: 10,500 operations; every answer, and every 25 operations each row and event of the three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_operations_leave_memory_sqlite_and_postgres_in_equal_states() {
    let running: tokio::task::JoinSet<Effects> = (21..28).map(walk).collect();
    let mut effects = Effects::default();
    running.join_all().await.into_iter().for_each(|walk| effects.add(walk));
    effects.assert_eventful();
}
