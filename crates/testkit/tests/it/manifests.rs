//! Manifests from rows, on the in-memory store.

use async_trait::async_trait;
use splitreel_backend::JobStore;
use splitreel_backend::conformance::StoreHarness;
use splitreel_backend::memory::MemoryStore;
use splitreel_testkit::manifests::check;
use splitreel_testkit::toolkit::FakeSource;
use std::sync::Arc;

/// A store that lives as long as the test.
struct InMemory(Arc<MemoryStore>);

#[async_trait]
impl StoreHarness for InMemory {
    async fn open(&self) -> Arc<dyn JobStore> {
        Arc::clone(&self.0) as Arc<_>
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_rendered_from_rows_are_those_that_are_published_and_previewed() {
    for number in [1, 2, 3, 4, 5] {
        let scratch = tempfile::tempdir().unwrap();
        let harness = InMemory(Arc::new(MemoryStore::new()));
        check(&harness, &FakeSource::numbered(number), scratch.path()).await;
    }
}
