//! Behaviours of bucket listings.

use super::BucketHarness;

async fn keys(harness: &dyn BucketHarness, prefix: &str, after: &str, limit: usize) -> Vec<String> {
    let listed = harness.open().await.list(&harness.bucket(), prefix, after, limit).await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

/// Objects come in byte order of their keys, with size and time.
pub async fn a_listing_is_in_byte_order(harness: &dyn BucketHarness) {
    for (key, content) in [("b", "22"), ("a/z", "1"), ("a-", "333"), ("B", "4444")] {
        harness.put(key, content.as_bytes()).await;
    }
    let listed = harness.open().await.list(&harness.bucket(), "", "", 10).await.unwrap();
    let found: Vec<_> = listed.iter().map(|object| (object.key.as_str(), object.bytes)).collect();
    assert_eq!(found, [("B", 4), ("a-", 3), ("a/z", 1), ("b", 2)]);
    assert!(listed.iter().all(|object| object.modified_ms > 0), "{listed:?}");
}

/// An object that was replaced by one of the same size is listed with another entity tag or time.
pub async fn a_replaced_object_is_listed_as_another_version(harness: &dyn BucketHarness) {
    harness.put("in/a", b"first").await;
    let first = harness.open().await.list(&harness.bucket(), "in/", "", 10).await.unwrap();
    assert_eq!(harness.open().await.list(&harness.bucket(), "in/", "", 10).await.unwrap(), first);
    // Stores may keep times to the second.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    harness.put("in/a", b"later").await;
    let second = harness.open().await.list(&harness.bucket(), "in/", "", 10).await.unwrap();
    assert_ne!(second, first);
}

/// Pages that start after the last key of the page before have no gaps and no repetitions.
pub async fn a_listing_is_paged_without_gaps(harness: &dyn BucketHarness) {
    let all: Vec<String> = (0..25).map(|n| format!("in/{n:02}")).collect();
    for key in &all {
        harness.put(key, b"x").await;
    }
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = keys(harness, "in/", &after, 10).await;
        let is_last = page.len() < 10;
        paged.extend(page);
        if is_last {
            break;
        }
        after.clone_from(paged.last().unwrap());
    }
    assert_eq!(paged, all);
    assert!(keys(harness, "in/", "in/24", 10).await.is_empty());
}

/// A prefix is text, not a folder.
pub async fn a_prefix_is_taken_literally(harness: &dyn BucketHarness) {
    for key in ["in/a", "in-too/b", "inner", "out/in/c"] {
        harness.put(key, b"x").await;
    }
    assert_eq!(keys(harness, "in/", "", 10).await, ["in/a"]);
    assert_eq!(keys(harness, "in", "", 10).await, ["in-too/b", "in/a", "inner"]);
    assert!(keys(harness, "none/", "", 10).await.is_empty());
}

/// A bucket that does not exist is an error that names it, never an empty listing.
pub async fn a_missing_bucket_is_an_error(harness: &dyn BucketHarness) {
    let missing = harness.open().await.list("no-such-bucket", "", "", 10).await;
    assert_eq!(missing.unwrap_err().bucket, "no-such-bucket");
}
