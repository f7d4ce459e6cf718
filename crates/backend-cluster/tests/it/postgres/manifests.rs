//! Manifests from rows, on Postgres.

use super::database::TestDatabase;
use splitreel_testkit::manifests::check;
use splitreel_testkit::toolkit::FakeSource;

#[tokio::test(flavor = "multi_thread")]
async fn manifests_rendered_from_rows_of_a_reopened_store_are_those_that_are_published_and_previewed() {
    for number in [1, 2, 3] {
        let scratch = tempfile::tempdir().unwrap();
        check(&TestDatabase::new().await, &FakeSource::numbered(number), scratch.path()).await;
    }
}
