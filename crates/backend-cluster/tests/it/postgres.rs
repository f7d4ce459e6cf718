//! The Postgres store against the conformance suites, and what is its own: concurrency, schema versions, restarts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod concurrency;
mod database;
mod faults;
mod manifests;
mod schema;
mod stored;

use async_trait::async_trait;
use database::TestDatabase;
use splitreel_backend::conformance::{RecordsHarness, StoreHarness};
use splitreel_backend::{JobStore, Records};
use splitreel_backend_cluster::postgres::{PgConfig, PgStore};
use std::sync::Arc;

#[async_trait]
impl StoreHarness for TestDatabase {
    async fn open(&self) -> Arc<dyn JobStore> {
        Arc::new(self.store().await)
    }
}

#[async_trait]
impl RecordsHarness for TestDatabase {
    async fn open(&self) -> Arc<dyn Records> {
        Arc::new(self.store().await)
    }
}

mod store_conformance {
    splitreel_backend::store_conformance!(super::TestDatabase::new().await);
}

mod records_conformance {
    splitreel_backend::records_conformance!(super::TestDatabase::new().await);
}
