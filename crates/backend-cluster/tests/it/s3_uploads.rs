//! Uploads in pieces of any size, on a real S3 server and over a bad line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests: what fails panics"
)]

use crate::s3::{MIB, Place, noise};
use crate::s3_sources::send;
use bytes::Bytes;
use futures::stream;
use splitreel_backend::{BlobAdmin, BlobReader};
use splitreel_backend_cluster::s3::{S3Error, S3Upload, S3UploadError, S3Uploads};
use splitreel_testkit::proxy::{Exchange, Fault};
use std::io;
use std::time::Duration;
use uuid::Uuid;

async fn uploads(place: &Place) -> S3Uploads {
    let mut options = place.options();
    options.part_bytes = 5 << 20;
    let connection = place.connect(options).await;
    S3Uploads::new(connection.clone(), connection)
}

async fn begin(uploads: &S3Uploads, bytes: usize) -> S3Upload {
    let id = Uuid::new_v4();
    let handle = uploads.begin(id, bytes as u64).await.unwrap();
    S3Upload { id, handle, bytes: bytes as u64 }
}

/// A piece that comes in bits, and perhaps breaks off.
fn piece(
    content: &Bytes,
    from: usize,
    to: usize,
    breaks: bool,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Unpin {
    let mut bits: Vec<io::Result<Bytes>> =
        content.slice(from..to).chunks(700_001).map(|bit| Ok(Bytes::copy_from_slice(bit))).collect();
    if breaks {
        bits.push(Err(io::ErrorKind::ConnectionReset.into()));
    }
    stream::iter(bits)
}

/// What lies in the bucket for an upload: the finished object, and what is left of how far it was.
async fn left(place: &Place, upload: &S3Upload) -> (Option<Bytes>, usize) {
    let blobs = place.blobs().await;
    let key = format!("uploads/{}", upload.id.simple());
    let whole = match blobs.size(&key).await {
        Ok(size) => Some(blobs.read(&key, 0, usize::try_from(size).unwrap()).await.unwrap()),
        Err(_) => None,
    };
    (whole, blobs.list("uploads-open/").await.unwrap().len())
}

#[tokio::test]
async fn pieces_of_any_size_become_one_object() {
    let place = Place::start().await;
    let uploads = uploads(&place).await;
    for (size, cuts) in [
        (12 * MIB + 17, vec![1, 5 * MIB, 5 * MIB + 3, 11 * MIB]),
        (10 * MIB, vec![5 * MIB]),
        (3 * MIB, vec![10, MIB]),
        (0, vec![]),
    ] {
        let content = noise(size, 3);
        let upload = begin(&uploads, size).await;
        let mut at = 0;
        for next in cuts.into_iter().chain([size]) {
            let (stored, is_broken) =
                uploads.append(&upload, at as u64, piece(&content, at, next, false), false).await.unwrap();
            assert_eq!((stored, is_broken), (next as u64, false));
            assert_eq!(uploads.stored(&upload).await.unwrap(), stored);
            at = next;
        }
        let object = uploads.finish(&upload).await.unwrap();
        assert_eq!(uploads.finish(&upload).await.unwrap(), object);
        assert_eq!(uploads.stored(&upload).await.unwrap(), size as u64);
        let (whole, open) = left(&place, &upload).await;
        assert!(whole.unwrap() == content && open == 0, "{size}");
        assert!(place.server.open_uploads().unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_a_broken_piece_brought_is_kept_unless_it_is_checked() {
    let place = Place::start().await;
    let uploads = uploads(&place).await;
    let content = noise(13 * MIB, 5);
    let upload = begin(&uploads, content.len()).await;
    let broken = uploads.append(&upload, 0, piece(&content, 0, 7 * MIB, true), false).await.unwrap();
    assert_eq!(broken, (7 * MIB as u64, true));
    // A piece that is kept whole or not at all, of other bytes and over two parts: nothing of it counts.
    let wrong = noise(13 * MIB, 6);
    let dropped = uploads.append(&upload, 7 * MIB as u64, piece(&wrong, 0, 6 * MIB, true), true).await.unwrap();
    assert_eq!(dropped, (7 * MIB as u64, true));
    assert_eq!(uploads.stored(&upload).await.unwrap(), 7 * MIB as u64);
    let elsewhere = uploads.append(&upload, 5, piece(&content, 5, 6, false), false).await.unwrap_err();
    assert!(matches!(elsewhere, S3UploadError::Offset { stored } if stored == 7 * MIB as u64), "{elsewhere:?}");
    let long = uploads.append(&upload, 7 * MIB as u64, piece(&wrong, 0, 7 * MIB, false), true).await.unwrap_err();
    assert!(matches!(long, S3UploadError::TooLong), "{long:?}");
    assert!(matches!(uploads.finish(&upload).await.unwrap_err(), S3UploadError::Offset { .. }));
    let rest = piece(&content, 7 * MIB, 13 * MIB, false);
    assert_eq!(uploads.append(&upload, 7 * MIB as u64, rest, true).await.unwrap(), (13 * MIB as u64, false));
    uploads.finish(&upload).await.unwrap();
    assert!(left(&place, &upload).await.0.unwrap() == content);
}

#[tokio::test]
async fn refused_and_unconfirmed_requests_change_nothing() {
    let place = Place::start().await;
    let uploads = uploads(&place).await;
    let content = noise(11 * MIB, 7);
    let upload = begin(&uploads, content.len()).await;
    let faults = |request: &Exchange| match request.earlier {
        0 if request.method == "PUT" => Fault::ApplyThenFail { status: 500 },
        0 if request.method == "POST" => Fault::ApplyThenCut,
        0 => Fault::Refuse { status: 503, code: "SlowDown" },
        _ => Fault::None,
    };
    place.proxy.set_rule(faults);
    for (from, to) in [(0, 6 * MIB), (6 * MIB, 11 * MIB)] {
        uploads.append(&upload, from as u64, piece(&content, from, to, false), false).await.unwrap();
    }
    uploads.finish(&upload).await.unwrap();
    uploads.finish(&upload).await.unwrap();
    assert!(place.proxy.tally().total().faults >= 3);
    place.proxy.clear_rule();
    assert!(left(&place, &upload).await == (Some(content), 0));
    assert!(place.server.open_uploads().unwrap().is_empty());
}

#[tokio::test]
async fn a_storage_that_fails_within_a_piece_keeps_whole_parts_and_the_rest_comes_again() {
    let place = Place::start().await;
    let uploads = uploads(&place).await;
    let content = noise(16 * MIB, 8);
    let upload = begin(&uploads, content.len()).await;
    let is_third = |request: &Exchange| request.query.split('&').any(|pair| pair == "partNumber=3");
    place
        .proxy
        .set_rule(move |r| if is_third(r) { Fault::Refuse { status: 503, code: "SlowDown" } } else { Fault::None });
    let failed = uploads.append(&upload, 0, piece(&content, 0, 16 * MIB, false), false).await.unwrap_err();
    assert!(matches!(failed, S3UploadError::S3(S3Error::Unavailable { .. })), "{failed:?}");
    place.proxy.clear_rule();
    let stored = uploads.stored(&upload).await.unwrap();
    assert_eq!(stored, 10 * MIB as u64);
    uploads.append(&upload, stored, piece(&content, 10 * MIB, 16 * MIB, false), false).await.unwrap();
    uploads.finish(&upload).await.unwrap();
    assert!(left(&place, &upload).await.0.unwrap() == content);
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let place = Place::start().await;
    let uploads = uploads(&place).await;
    let content = noise(11 * MIB, 9);
    let upload = begin(&uploads, content.len()).await;
    uploads.append(&upload, 0, piece(&content, 0, 8 * MIB, false), false).await.unwrap();
    uploads.abort(&upload).await.unwrap();
    uploads.abort(&upload).await.unwrap();
    assert_eq!(left(&place, &upload).await, (None, 0));
    assert!(place.server.open_uploads().unwrap().is_empty());
    // A finished one too.
    let upload = begin(&uploads, MIB).await;
    uploads.append(&upload, 0, piece(&content, 0, MIB, false), false).await.unwrap();
    uploads.finish(&upload).await.unwrap();
    uploads.abort(&upload).await.unwrap();
    assert_eq!(left(&place, &upload).await, (None, 0));
}

#[tokio::test]
async fn parts_that_a_client_puts_itself_become_one_object() {
    let place = Place::start().await;
    let uploads = uploads(&place).await;
    let content = noise(20 * MIB, 10);
    let id = Uuid::new_v4();
    let (handle, part_bytes) = uploads.begin_direct(id, content.len() as u64).await.unwrap();
    let upload = S3Upload { id, handle, bytes: content.len() as u64 };
    let signed = uploads.sign_parts(&upload, 1, 2, Duration::from_secs(60)).await.unwrap();
    assert_eq!(signed.len(), 2);
    let mut parts = Vec::new();
    for ((number, request), part) in (1..).zip(&signed).zip(content.chunks(usize::try_from(part_bytes).unwrap())) {
        let answer = send(request, &[], part).await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        parts.push((number, answer.header("etag").unwrap().to_owned()));
    }
    let object = uploads.complete(&upload, &parts).await.unwrap();
    assert_eq!(uploads.complete(&upload, &parts).await.unwrap(), object);
    assert!(left(&place, &upload).await.0.unwrap() == content);
    // An upload that is too short is not a failed one.
    let id = Uuid::new_v4();
    let (handle, _) = uploads.begin_direct(id, 10).await.unwrap();
    let upload = S3Upload { id, handle, bytes: 10 };
    let short = S3Upload { bytes: 3, ..upload.clone() };
    let request = uploads.sign_parts(&short, 1, 1, Duration::from_secs(60)).await.unwrap().remove(0);
    let answer = send(&request, &[], b"abc").await;
    let parts = [(1, answer.header("etag").unwrap().to_owned())];
    assert!(matches!(uploads.complete(&upload, &parts).await.unwrap_err(), S3UploadError::Parts));
}
