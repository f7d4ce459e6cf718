//! Uploads as stored: the document, the write lock, and the next action due. Pure but for the record it is read from.

use serde::{Deserialize, Serialize};
use splitreel_backend::StoreError;
use splitreel_backend::records::{Record, RecordKey};
use splitreel_backend::uploads::UploadRef;
use splitreel_client::types::UploadState;
use splitreel_core::JobId;
use splitreel_core::deadline;
use splitreel_core::fair::Priority;
use uuid::Uuid;

/// Time after its expiry during which a complete upload is still turned into an object, in milliseconds. Until then
/// storage may be at fault; after that storage has dropped the parts too.
const FINISH_FOR_MS: i64 = 14 * 24 * 3_600_000;
/// Longest lock of a writer, in milliseconds.
const LONGEST_LOCK_MS: i64 = 300_000;

/// Kind of the records of uploads.
pub const UPLOAD_KIND: &str = "upload";

/// Which job to start when it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedJob {
    /// Name of the profile.
    pub profile: String,
    /// Priority class.
    pub priority: Priority,
}

/// Who writes at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteLock {
    /// Names the request.
    pub holder: Uuid,
    /// When the lock expires, milliseconds since the epoch.
    pub until_ms: i64,
}

/// An upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its name to the storage.
    pub handle: String,
    /// Size when it is complete.
    pub bytes: u64,
    /// Bytes that are stored, exact unless a writer died.
    pub offset: u64,
    /// How far it is.
    pub state: UploadState,
    /// Size of its parts, when the client puts them into storage itself.
    pub part_bytes: Option<u64>,
    /// What it is called by the client.
    pub name: String,
    /// `Upload-Metadata` as it was sent.
    pub metadata: String,
    /// The job to start.
    pub wish: Option<RequestedJob>,
    /// Who writes. One that has run out is a writer that died: ask the storage how far it came.
    pub lock: Option<WriteLock>,
    /// Where the object is.
    pub locator: Option<String>,
    /// The job that was started.
    pub job: Option<JobId>,
    /// Why none was started although one was wished for.
    pub job_error: Option<String>,
    /// When the upload expires unless it continues, milliseconds since the epoch.
    pub expires_ms: i64,
}

/// Next action on an upload that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Nothing until then.
    Wait(i64),
    /// All bytes are there: make it an object.
    Finish,
    /// It is an object, and its job waits until the tenant may have one more.
    Start,
    /// Delete the bytes, keep the note that it has expired.
    Expire,
    /// Delete everything.
    Forget,
}

impl Upload {
    /// Whether a request is writing.
    pub fn is_locked(&self, now_ms: i64) -> bool {
        self.lock.as_ref().is_some_and(|lock| !deadline::is_due(lock.until_ms, now_ms, LONGEST_LOCK_MS))
    }

    /// Expires no later than an upload of now, kept for `longest_ms`: a later expiry is from before the clock was set
    /// back.
    pub fn bound_expiry(&mut self, now_ms: i64, longest_ms: i64) {
        self.expires_ms = deadline::bounded(self.expires_ms, now_ms, longest_ms);
    }

    /// A writer died: `offset` may be too small.
    pub fn is_dirty(&self, now_ms: i64) -> bool {
        self.lock.is_some() && !self.is_locked(now_ms)
    }

    /// All of its bytes came through this service.
    pub fn is_complete(&self) -> bool {
        self.part_bytes.is_none() && self.offset == self.bytes
    }

    /// A job was asked for, and neither started nor refused.
    pub fn waits_for_job(&self) -> bool {
        self.state == UploadState::Done && self.wish.is_some() && self.job.is_none() && self.job_error.is_none()
    }

    /// Whether the upload expired before it was complete.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.state == UploadState::Expired
            || (self.state == UploadState::Open && !self.is_locked(now_ms) && self.expires_ms <= now_ms)
    }

    /// Next action of the sweep.
    pub fn next_action(&self, now_ms: i64) -> NextAction {
        match (&self.state, &self.lock) {
            (_, Some(lock)) if self.is_locked(now_ms) => NextAction::Wait(lock.until_ms),
            (UploadState::Open, _) if self.is_complete() && now_ms < self.expires_ms.saturating_add(FINISH_FOR_MS) => {
                NextAction::Finish
            }
            (UploadState::Open, _) if self.expires_ms > now_ms => NextAction::Wait(self.expires_ms),
            (UploadState::Open, _) => NextAction::Expire,
            (UploadState::Done, _) if self.waits_for_job() => NextAction::Start,
            (UploadState::Done, _) if self.expires_ms > now_ms => NextAction::Wait(self.expires_ms),
            (UploadState::Done | UploadState::Expired, _) => NextAction::Forget,
        }
    }

    /// Its name to the storage.
    pub fn reference(&self, id: Uuid) -> UploadRef {
        UploadRef { id, handle: self.handle.clone(), bytes: self.bytes }
    }
}

/// An upload with the record that holds it.
#[derive(Clone, Debug)]
pub struct StoredUpload {
    /// Name of the record.
    pub key: RecordKey,
    /// Its version.
    pub version: i64,
    /// The upload's id.
    pub id: Uuid,
    /// The upload.
    pub upload: Upload,
}

impl StoredUpload {
    /// Name of an upload's record.
    pub fn key(tenant: &str, id: Uuid) -> RecordKey {
        RecordKey { kind: UPLOAD_KIND.to_owned(), tenant: tenant.to_owned(), id: id.simple().to_string() }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn read(record: Record) -> Result<Self, StoreError> {
        let Record { key, version, doc, .. } = record;
        let corrupt = |why: String| StoreError::Corrupt { what: format!("upload {}: {why}", key.id) };
        let id = Uuid::parse_str(&key.id).map_err(|error| corrupt(error.to_string()))?;
        let upload = serde_json::from_value(doc).map_err(|error| corrupt(error.to_string()))?;
        Ok(StoredUpload { key, version, id, upload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(state: UploadState, offset: u64, lock: Option<i64>) -> Upload {
        Upload {
            handle: String::new(),
            bytes: 10,
            offset,
            state,
            part_bytes: None,
            name: "a".into(),
            metadata: String::new(),
            wish: None,
            lock: lock.map(|until_ms| WriteLock { holder: Uuid::nil(), until_ms }),
            locator: None,
            job: None,
            job_error: None,
            expires_ms: 100,
        }
    }

    #[test]
    fn each_moment_asks_for_one_thing() {
        for (state, offset, lock, now, chore) in [
            (UploadState::Open, 5, None, 50, NextAction::Wait(100)),
            (UploadState::Open, 5, None, 100, NextAction::Expire),
            (UploadState::Open, 5, Some(120), 100, NextAction::Wait(120)),
            (UploadState::Open, 5, Some(120), 120, NextAction::Expire),
            (UploadState::Open, 10, None, 50, NextAction::Finish),
            (UploadState::Open, 10, None, 500, NextAction::Finish),
            (UploadState::Open, 10, None, 100 + FINISH_FOR_MS, NextAction::Expire),
            (UploadState::Done, 10, None, 50, NextAction::Wait(100)),
            (UploadState::Done, 10, None, 500, NextAction::Forget),
            (UploadState::Expired, 5, None, 500, NextAction::Forget),
        ] {
            assert_eq!(upload(state, offset, lock).next_action(now), chore, "{state:?} {offset} {lock:?} {now}");
        }
    }

    #[test]
    fn a_dead_writer_leaves_doubt_and_a_living_one_keeps_it_alive() {
        let live = upload(UploadState::Open, 5, Some(200));
        assert!(live.is_locked(150) && !live.is_dirty(150) && !live.is_expired(150));
        assert!(!live.is_locked(200) && live.is_dirty(200) && live.is_expired(200));
        assert!(!upload(UploadState::Open, 5, None).is_dirty(50));
        assert!(upload(UploadState::Expired, 5, None).is_expired(0));
    }
}
