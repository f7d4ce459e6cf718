//! A database of its own for each test, cloned from a migrated template and dropped with the value. Also included by
//! the unit tests of the store.

use super::{PgConfig, PgStore};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use std::path::Path;
use std::str::FromStr;
use uuid::Uuid;

/// Where the tests' server is.
const VARIABLE: &str = "SPLITREEL_TEST_DATABASE_URL";
/// Advisory lock of the process that creates the template.
const MAKING: i64 = 0x7370_6c69_7472_0100;

/// An empty, migrated database.
pub struct TestDatabase {
    server: String,
    name: String,
}

fn server() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set: `scripts/services start` starts a Postgres, `scripts/services env` says where")
    })
}

/// The URL of another database on the same server.
fn url_of(server: &str, name: &str) -> String {
    let mut url = url::Url::parse(server).expect("a database URL");
    url.set_path(name);
    url.into()
}

async fn connect(url: &str) -> PgConnection {
    PgConnectOptions::from_str(url)
        .unwrap()
        .disable_statement_logging()
        .connect()
        .await
        .unwrap_or_else(|error| panic!("{VARIABLE}: {error} (`scripts/services start` starts a Postgres)"))
}

async fn run(connection: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.unwrap();
}

/// Changes with the migrations.
fn template_name() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/postgres");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    files.iter().for_each(|file| hash.update(std::fs::read(file).unwrap()));
    let hex: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("splitreel_template_{hex}")
}

/// Makes the template unless it is there. It is marked as one when it is complete.
async fn make_template(server: &str, admin: &mut PgConnection, template: &str) {
    sqlx::query("SELECT pg_advisory_lock($1)").bind(MAKING).execute(&mut *admin).await.unwrap();
    let is_complete: Option<bool> = sqlx::query_scalar("SELECT datistemplate FROM pg_database WHERE datname = $1")
        .bind(template)
        .fetch_optional(&mut *admin)
        .await
        .unwrap();
    if is_complete != Some(true) {
        run(admin, format!("DROP DATABASE IF EXISTS {template} WITH (FORCE)")).await;
        run(admin, format!("CREATE DATABASE {template}")).await;
        PgStore::migrate(&url_of(server, template)).await.unwrap();
        run(admin, format!("ALTER DATABASE {template} IS_TEMPLATE true")).await;
    }
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(MAKING).execute(&mut *admin).await.unwrap();
}

impl TestDatabase {
    /// A migrated database.
    pub async fn new() -> Self {
        Self::made_of(&template_name()).await
    }

    /// A database without a schema.
    #[allow(dead_code, reason = "not used by every includer")]
    pub async fn empty() -> Self {
        Self::made_of("template1").await
    }

    async fn made_of(template: &str) -> Self {
        let server = server();
        let mut admin = connect(&server).await;
        if template != "template1" {
            make_template(&server, &mut admin, template).await;
        }
        let name = format!("splitreel_test_{}", Uuid::new_v4().simple());
        run(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        admin.close().await.unwrap();
        TestDatabase { server, name }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        url_of(&self.server, &self.name)
    }

    /// A store on it.
    pub async fn store(&self) -> PgStore {
        PgStore::open(&self.url(), &PgConfig { max_connections: 6, ..PgConfig::default() }).await.unwrap()
    }

    /// A plain connection to it.
    #[allow(dead_code, reason = "not used by every includer")]
    pub async fn connection(&self) -> PgConnection {
        connect(&self.url()).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A runtime of its own: this one may be blocked here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = connect(&server).await;
                run(&mut admin, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            });
        });
        if dropping.join().is_err() {
            eprintln!("database {} was not dropped", self.name);
        }
    }
}
