//! Schema versions: who may open what.

use super::{PgConfig, PgStore, TestDatabase};
use splitreel_backend::StoreError;
use splitreel_backend_cluster::postgres::PgOpenError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_is_refused_until_it_is_migrated() {
    let database = TestDatabase::empty().await;
    let refused = PgStore::open(&database.url(), &PgConfig::default()).await.unwrap_err();
    assert!(matches!(refused, PgOpenError::SchemaOlder { found: 0, known } if known > 0), "{refused:?}");
    assert!(refused.to_string().contains("run the migrations first"), "{refused}");
    let known = PgStore::migrate(&database.url()).await.unwrap();
    assert_eq!(PgStore::migrate(&database.url()).await.unwrap(), known, "again: nothing to do");
    let store = PgStore::open(&database.url(), &PgConfig::default()).await.unwrap();
    store.ping().await.unwrap();
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_migrate_once() {
    let database = TestDatabase::empty().await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = database.url();
        running.spawn(async move { PgStore::migrate(&url).await.unwrap() });
    }
    let versions = running.join_all().await;
    assert!(versions.windows(2).all(|w| w[0] == w[1]), "{versions:?}");
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap();
    assert_eq!(applied, versions[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_newer_or_changed_is_refused() {
    let database = TestDatabase::new().await;
    let known = PgStore::migrate(&database.url()).await.unwrap();
    let mut connection = database.connection().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ($1, 'later', true, '', 0)",
    )
    .bind(known + 1)
    .execute(&mut connection)
    .await
    .unwrap();
    let refused = PgStore::open(&database.url(), &PgConfig::default()).await.unwrap_err();
    let newer = (known + 1, known);
    let is_newer = |error: &PgOpenError| match error {
        PgOpenError::SchemaNewer { found, known } => (*found, *known) == newer,
        _ => false,
    };
    assert!(is_newer(&refused), "{refused:?}");
    let refused = PgStore::migrate(&database.url()).await.unwrap_err();
    assert!(is_newer(&refused), "{refused:?}");

    sqlx::query("DELETE FROM _sqlx_migrations WHERE version > $1").bind(known).execute(&mut connection).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET checksum = '' WHERE version = $1")
        .bind(known)
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = PgStore::migrate(&database.url()).await.unwrap_err();
    assert!(matches!(refused, PgOpenError::SchemaChanged { version } if version == known), "{refused:?}");
}

#[tokio::test]
async fn bad_settings_are_refused_before_anything_is_connected() {
    let refused = PgStore::open("mysql://nowhere", &PgConfig::default()).await.unwrap_err();
    assert!(matches!(refused, PgOpenError::Url(_)), "{refused:?}");
    let config = PgConfig { max_connections: 0, ..PgConfig::default() };
    let refused = PgStore::open("postgres://localhost/x", &config).await.unwrap_err();
    assert!(matches!(refused, PgOpenError::Config(_)), "{refused:?}");
    let config = PgConfig { connect_timeout_ms: 200, ..PgConfig::default() };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = PgStore::open(&format!("postgres://u:secret@{nobody}/x"), &config).await.unwrap_err();
    assert!(matches!(refused, PgOpenError::Store(StoreError::Unavailable(_))), "{refused:?}");
    assert!(!format!("{refused:?} {refused}").contains("secret"));
}
