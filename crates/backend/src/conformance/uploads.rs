//! Behaviours of an upload storage.

use super::UploadHarness;
use crate::uploads::{Appended, ByteStream, Checksum, PutPart, UploadRef, UploadStorage, UploadStorageError};
use bytes::Bytes;
use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;
use uuid::Uuid;

/// More than one part of an S3 multipart upload, whose parts have 5 MiB at least.
const SIZE: usize = (6 << 20) + 17;

fn content(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 249).unwrap()).collect::<Vec<u8>>().into()
}

/// A piece that arrives in chunks, and ends with an error if it `breaks`.
fn piece(bytes: &Bytes, breaks: bool) -> ByteStream {
    let mut chunks: Vec<io::Result<Bytes>> =
        bytes.chunks(700_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    if breaks {
        chunks.push(Err(io::ErrorKind::ConnectionReset.into()));
    }
    stream::iter(chunks).boxed()
}

fn checksum(bytes: &[u8]) -> Option<Checksum> {
    Some(Checksum::Sha256(Sha256::digest(bytes).into()))
}

async fn begin(storage: &dyn UploadStorage, bytes: usize) -> UploadRef {
    let id = Uuid::new_v4();
    let handle = storage.begin(id, bytes as u64).await.unwrap();
    UploadRef { id, handle, bytes: bytes as u64 }
}

/// Appends `all[from..to]`, which must be stored whole.
async fn append(storage: &dyn UploadStorage, upload: &UploadRef, all: &Bytes, from: usize, to: usize) {
    let appended = storage.append(upload, from as u64, piece(&all.slice(from..to), false), None).await.unwrap();
    assert_eq!(appended, Appended { offset: to as u64, is_broken: false });
    assert_eq!(storage.stored(upload).await.unwrap(), to as u64);
}

/// Appends what is missing, finishes, and compares the object.
async fn complete_with(harness: &dyn UploadHarness, storage: &dyn UploadStorage, upload: &UploadRef, all: &Bytes) {
    let stored = usize::try_from(storage.stored(upload).await.unwrap()).unwrap();
    append(storage, upload, all, stored, all.len()).await;
    let locator = storage.finish(upload).await.unwrap();
    assert!(harness.content(&locator).await.as_ref() == Some(all), "the object is not what was uploaded");
}

/// Pieces of any size become one object, and each is durable for another process.
pub async fn pieces_of_any_size_become_one_object(harness: &dyn UploadHarness) {
    for (size, cuts) in [(SIZE, vec![1, 3 << 20, (5 << 20) + 3]), (5 << 20, vec![]), (10, vec![3, 3])] {
        let (storage, all) = (harness.open().await, content(size));
        let upload = begin(&*storage, size).await;
        assert_eq!(storage.stored(&upload).await.unwrap(), 0);
        let mut at = 0;
        for next in cuts {
            append(&*harness.open().await, &upload, &all, at, next).await;
            at = next;
        }
        complete_with(harness, &*storage, &upload, &all).await;
    }
}

/// Zero bytes are an upload, too.
pub async fn an_empty_upload_can_be_finished(harness: &dyn UploadHarness) {
    let storage = harness.open().await;
    let upload = begin(&*storage, 0).await;
    let locator = storage.finish(&upload).await.unwrap();
    assert_eq!(harness.content(&locator).await, Some(Bytes::new()));
}

/// A client whose answer to `begin` was lost begins again and uses the second handle.
pub async fn begin_can_be_repeated(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(1000));
    let first = begin(&*storage, all.len()).await;
    let handle = storage.begin(first.id, first.bytes).await.unwrap();
    complete_with(harness, &*storage, &UploadRef { handle, ..first }, &all).await;
}

/// A piece that does not start at the stored offset is refused, and the refusal names that offset.
pub async fn a_piece_at_another_offset_is_refused(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(1000));
    let upload = begin(&*storage, all.len()).await;
    append(&*storage, &upload, &all, 0, 400).await;
    for offset in [0, 399, 401, 1000] {
        let refused = storage.append(&upload, offset, piece(&all.slice(..1), false), None).await;
        assert!(matches!(refused, Err(UploadStorageError::Offset { stored: 400 })), "{offset}: {refused:?}");
    }
    complete_with(harness, &*storage, &upload, &all).await;
}

/// A piece that exceeds the announced size is refused, and the upload can still be completed.
pub async fn a_piece_beyond_the_end_is_refused(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(SIZE));
    let upload = begin(&*storage, 5000).await;
    append(&*storage, &upload, &all, 0, 4000).await;
    for checksum in [None, checksum(&all[4000..])] {
        let refused = storage.append(&upload, 4000, piece(&all.slice(4000..), false), checksum).await;
        assert!(matches!(refused, Err(UploadStorageError::TooLong)), "{refused:?}");
        assert!((4000..=5000).contains(&storage.stored(&upload).await.unwrap()));
    }
    complete_with(harness, &*storage, &upload, &all.slice(..5000)).await;
}

/// Nothing of a piece counts whose checksum differs; the same piece with the right one is stored.
pub async fn a_wrong_checksum_stores_nothing(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(SIZE));
    let upload = begin(&*storage, SIZE).await;
    append(&*storage, &upload, &all, 0, 1000).await;
    let refused = storage.append(&upload, 1000, piece(&all.slice(1000..), false), checksum(b"else")).await;
    assert!(matches!(refused, Err(UploadStorageError::Checksum)), "{refused:?}");
    assert_eq!(storage.stored(&upload).await.unwrap(), 1000);
    let stored = storage.append(&upload, 1000, piece(&all.slice(1000..), false), checksum(&all[1000..])).await.unwrap();
    assert_eq!(stored, Appended { offset: SIZE as u64, is_broken: false });
    complete_with(harness, &*storage, &upload, &all).await;
}

/// When a stream breaks, the bytes before the break count, and the answer is the stored offset.
pub async fn a_broken_piece_keeps_what_came_before(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(SIZE));
    let upload = begin(&*storage, SIZE).await;
    let sent = 5 << 20;
    let broken = storage.append(&upload, 0, piece(&all.slice(..sent), true), None).await.unwrap();
    assert_eq!(broken, Appended { offset: sent as u64, is_broken: true });
    assert_eq!(harness.open().await.stored(&upload).await.unwrap(), sent as u64);
    complete_with(harness, &*storage, &upload, &all).await;
}

/// A piece with a checksum is stored whole or not at all, also when its stream breaks.
pub async fn a_broken_piece_with_a_checksum_stores_nothing(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(SIZE));
    let upload = begin(&*storage, SIZE).await;
    append(&*storage, &upload, &all, 0, 1000).await;
    let broken = storage.append(&upload, 1000, piece(&all.slice(1000..), true), checksum(&all[1000..])).await.unwrap();
    assert_eq!(broken, Appended { offset: 1000, is_broken: true });
    assert_eq!(storage.stored(&upload).await.unwrap(), 1000);
    complete_with(harness, &*storage, &upload, &all).await;
}

/// An incomplete upload cannot be finished; the refusal names the stored offset.
pub async fn an_incomplete_upload_is_not_finished(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(1000));
    let upload = begin(&*storage, all.len()).await;
    append(&*storage, &upload, &all, 0, 999).await;
    let refused = storage.finish(&upload).await;
    assert!(matches!(refused, Err(UploadStorageError::Offset { stored: 999 })), "{refused:?}");
    complete_with(harness, &*storage, &upload, &all).await;
}

/// A caller whose answer to `finish` was lost finishes again, perhaps in another process, and gets the same locator.
pub async fn finish_can_be_repeated(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(SIZE));
    let upload = begin(&*storage, SIZE).await;
    append(&*storage, &upload, &all, 0, SIZE).await;
    let locator = storage.finish(&upload).await.unwrap();
    assert_eq!(storage.finish(&upload).await.unwrap(), locator);
    assert_eq!(harness.open().await.finish(&upload).await.unwrap(), locator);
    assert_eq!(storage.stored(&upload).await.unwrap(), SIZE as u64);
    assert!(harness.content(&locator).await == Some(all));
}

/// An aborted upload is gone, finished or not, and aborting again is fine.
pub async fn abort_deletes_what_there_is(harness: &dyn UploadHarness) {
    let (storage, all) = (harness.open().await, content(1000));
    let open = begin(&*storage, all.len()).await;
    append(&*storage, &open, &all, 0, 500).await;
    let finished = begin(&*storage, all.len()).await;
    append(&*storage, &finished, &all, 0, 1000).await;
    let locator = storage.finish(&finished).await.unwrap();
    for upload in [&open, &finished] {
        storage.abort(upload).await.unwrap();
        harness.open().await.abort(upload).await.unwrap();
        let stored = storage.stored(upload).await;
        assert!(matches!(stored, Err(UploadStorageError::NotFound)), "{stored:?}");
    }
    assert_eq!(harness.content(&locator).await, None);
}

/// Uploads do not disturb each other.
pub async fn concurrent_uploads_do_not_mix(harness: &dyn UploadHarness) {
    let storage = harness.open().await;
    let mut running = tokio::task::JoinSet::new();
    for n in 1..=4_usize {
        let (storage, all) = (Arc::clone(&storage), content(1000 * n));
        running.spawn(async move {
            let upload = begin(&*storage, all.len()).await;
            append(&*storage, &upload, &all, 0, 10 * n).await;
            append(&*storage, &upload, &all, 10 * n, 1000 * n).await;
            (storage.finish(&upload).await.unwrap(), all)
        });
    }
    for (locator, all) in running.join_all().await {
        assert_eq!(harness.content(&locator).await, Some(all));
    }
}

/// Storage that offers direct uploads makes an object of the parts that were put, and refuses parts that do not add up to
/// the announced size; any other storage says that it cannot.
pub async fn direct_uploads_work_or_are_declined(harness: &dyn UploadHarness) {
    let (storage, all, id) = (harness.open().await, content(SIZE), Uuid::new_v4());
    let begun = storage.begin_direct(id, SIZE as u64).await;
    if !harness.capabilities().takes_direct_uploads {
        assert!(matches!(begun, Err(UploadStorageError::Unsupported)), "{begun:?}");
        return;
    }
    let begun = begun.unwrap();
    let upload = UploadRef { id, handle: begun.handle, bytes: SIZE as u64 };
    let part_bytes = usize::try_from(begun.part_bytes).unwrap();
    let num_parts = u32::try_from(SIZE.div_ceil(part_bytes)).unwrap();
    let requests = storage.sign_parts(&upload, 1, num_parts, 60_000).await.unwrap();
    let mut parts = Vec::new();
    for ((number, request), part) in (1..).zip(&requests).zip(all.chunks(part_bytes)) {
        parts.push(PutPart { number, etag: harness.put(request, Bytes::copy_from_slice(part)).await });
    }
    let larger = UploadRef { bytes: upload.bytes + 1, ..upload.clone() };
    let refused = storage.complete(&larger, &parts).await;
    assert!(matches!(refused, Err(UploadStorageError::Parts)), "{refused:?}");
    let locator = storage.complete(&upload, &parts).await.unwrap();
    assert_eq!(harness.open().await.complete(&upload, &parts).await.unwrap(), locator);
    assert!(harness.content(&locator).await == Some(all));
}
