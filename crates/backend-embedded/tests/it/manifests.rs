//! Manifests from rows, on SQLite.

use super::Directory;
use splitreel_testkit::manifests::check;
use splitreel_testkit::toolkit::FakeSource;

#[tokio::test(flavor = "multi_thread")]
async fn manifests_rendered_from_rows_of_a_reopened_store_are_those_that_are_published_and_previewed() {
    for number in [1, 2, 3] {
        let directory = Directory::new();
        check(&directory, &FakeSource::numbered(number), &directory.0.path().join("scratch")).await;
    }
}
