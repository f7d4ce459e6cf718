//! Behaviours of the grant seam: pinning of sources, and presigned requests.

use super::GrantHarness;
use crate::grants::GrantError;
use bytes::Bytes;

const TTL_MS: i64 = 60_000;
const KEY: &str = "jobs/0f/1/1-a/part.m4s";

/// A pin names the size, and is the same as long as the source is.
pub async fn a_pin_names_size_and_version(harness: &dyn GrantHarness) {
    let (grants, locator) = (harness.open().await, harness.write_source("film.mkv", b"0123456789").await);
    let pinned = grants.pin(&locator).await.unwrap();
    assert_eq!(pinned.bytes, 10);
    assert!(!pinned.version.is_empty());
    assert_eq!(harness.open().await.pin(&locator).await.unwrap(), pinned);
}

/// A source that was replaced, also by one of the same size, has another pin.
pub async fn a_changed_source_has_another_pin(harness: &dyn GrantHarness) {
    let (grants, locator) = (harness.open().await, harness.write_source("film.mkv", b"0123456789").await);
    let first = grants.pin(&locator).await.unwrap();
    assert_eq!(harness.write_source("film.mkv", b"9876543210").await, locator);
    let second = grants.pin(&locator).await.unwrap();
    assert_eq!((second.bytes, second.version == first.version), (10, false));
    harness.write_source("film.mkv", b"longer than before").await;
    assert_eq!(grants.pin(&locator).await.unwrap().bytes, 18);
}

/// A source that vanished, or never was, is not found.
pub async fn a_vanished_source_is_not_found(harness: &dyn GrantHarness) {
    let (grants, locator) = (harness.open().await, harness.write_source("film.mkv", b"x").await);
    grants.pin(&locator).await.unwrap();
    harness.remove_source("film.mkv").await;
    let missing = grants.pin(&locator).await;
    assert!(matches!(missing, Err(GrantError::NotFound { .. })), "{missing:?}");
}

/// Locators of another form, and places that the deployment does not read, are refused for good.
pub async fn a_source_elsewhere_is_refused(harness: &dyn GrantHarness) {
    let grants = harness.open().await;
    for locator in ["film.mkv", "", "https://host/film.mkv", &harness.elsewhere().await] {
        let refused = grants.pin(locator).await;
        let is_final = matches!(refused, Err(GrantError::NotFound { .. } | GrantError::Unusable { .. }));
        assert!(is_final, "{locator:?}: {refused:?}");
    }
}

/// A presigned request reads the pinned version of a source and no other. Without signing, there is none.
pub async fn a_presigned_request_reads_the_pinned_version(harness: &dyn GrantHarness) {
    let (grants, locator) = (harness.open().await, harness.write_source("film.mkv", b"0123456789").await);
    let pinned = grants.pin(&locator).await.unwrap();
    let request = grants.read_source(&pinned, TTL_MS).await.unwrap();
    let Some(request) = request else {
        assert!(!harness.capabilities().signs, "a backend that signs gave no request");
        return;
    };
    assert!(harness.capabilities().signs);
    assert_eq!(harness.send(&request, Bytes::new()).await, (200, Bytes::from_static(b"0123456789")));
    harness.write_source("film.mkv", b"9876543210").await;
    assert_eq!(harness.send(&request, Bytes::new()).await.0, 412, "the source is another one now");
    harness.remove_source("film.mkv").await;
    assert_eq!(harness.send(&request, Bytes::new()).await.0, 404);
}

/// Presigned requests write one object of the announced size and read it back. Without signing, there are none.
pub async fn presigned_requests_write_and_read_one_object(harness: &dyn GrantHarness) {
    let grants = harness.open().await;
    let written = grants.write_object(KEY, 5, TTL_MS).await.unwrap();
    let read = grants.read_object(KEY, TTL_MS).await.unwrap();
    assert_eq!((written.is_some(), read.is_some()), (harness.capabilities().signs, harness.capabilities().signs));
    let (Some(write), Some(read)) = (written, read) else { return };
    assert_eq!(harness.send(&read, Bytes::new()).await.0, 404);
    assert_eq!(harness.send(&write, Bytes::from_static(b"hello")).await.0, 200);
    assert_eq!(harness.send(&read, Bytes::new()).await, (200, Bytes::from_static(b"hello")));
    let bad = grants.write_object("../elsewhere", 5, TTL_MS).await;
    assert!(matches!(bad, Err(GrantError::Unusable { .. })), "{bad:?}");
}
