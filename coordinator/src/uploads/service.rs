//! Uploads of all tenants: write locks and offsets, completion, and expiry. The record decides; the storage holds the
//! bytes.

use super::error::UploadError;
use super::ledger::{NextAction, RequestedJob, StoredUpload, UPLOAD_KIND, Upload, WriteLock};
use crate::accept::{Accept, Source, StartError, Started, Target};
use crate::documents::put_document;
use splitreel_backend::grants::{GrantError, SignedRequest};
use splitreel_backend::records::{Expect, RecordFilter};
use splitreel_backend::uploads::{ByteStream, Checksum, PutPart, UploadStorage, UploadStorageError};
use splitreel_backend::{Records, StoreError, World};
use splitreel_client::types::UploadState;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Uploads that a sweep looks at in one go.
const BATCH: usize = 100;
/// What failed for no fault of the upload, or waits for its job, is looked at again after this time.
const AGAIN_MS: i64 = 30_000;

/// Settings of uploads.
#[derive(Clone, Debug)]
pub struct UploadsConfig {
    /// Largest upload, bytes.
    pub max_bytes: u64,
    /// Most uploads that are kept for a tenant at a time.
    pub max_kept: usize,
    /// An incomplete upload expires this long after its last piece, in milliseconds.
    pub expire_ms: i64,
    /// Retention of a complete upload, in milliseconds; at least until its job has ended.
    pub keep_ms: i64,
    /// Lock length, in milliseconds: a writer that does not renew it in time counts as dead.
    pub lock_ms: i64,
    /// Idle timeout: a client that sends nothing for this long is disconnected.
    pub idle: Duration,
    /// Lifetime of a signed request that puts a part, in milliseconds.
    pub part_ttl_ms: i64,
    /// How often to sweep.
    pub tick: Duration,
}

impl Default for UploadsConfig {
    fn default() -> Self {
        UploadsConfig {
            max_bytes: 1 << 40,
            max_kept: 1000,
            expire_ms: 24 * 3_600_000,
            keep_ms: 7 * 24 * 3_600_000,
            lock_ms: 30_000,
            idle: Duration::from_secs(30),
            part_ttl_ms: 3_600_000,
            tick: Duration::from_secs(10),
        }
    }
}

/// An upload to be made.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// Its size.
    pub bytes: u64,
    /// What the client calls it.
    pub name: String,
    /// `Upload-Metadata` as it was sent.
    pub metadata: String,
    /// The job to start when it is done.
    pub wish: Option<RequestedJob>,
    /// The client puts the parts into storage itself.
    pub is_direct: bool,
}

/// The uploads: cheap to clone.
#[derive(Clone)]
pub struct Uploads {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn UploadStorage>,
    records: Arc<dyn Records>,
    accept: Accept,
    world: World,
    config: UploadsConfig,
}

impl Uploads {
    /// Uploads over the given seams.
    pub fn new(
        storage: Arc<dyn UploadStorage>,
        records: Arc<dyn Records>,
        accept: Accept,
        world: World,
        config: UploadsConfig,
    ) -> Self {
        Uploads { inner: Arc::new(Inner { storage, records, accept, world, config }) }
    }

    /// The settings.
    pub fn config(&self) -> &UploadsConfig {
        &self.inner.config
    }

    /// Makes an upload.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn create(&self, tenant: &str, new: NewUpload) -> Result<StoredUpload, UploadError> {
        let config = &self.inner.config;
        if new.bytes > config.max_bytes {
            return Err(UploadError::TooLarge { max: config.max_bytes });
        }
        if let Some(wish) = &new.wish {
            self.inner.accept.directory().profiles.resolve(tenant, &wish.profile).await?;
        }
        let filter = RecordFilter {
            kind: UPLOAD_KIND.to_owned(),
            tenant: Some(tenant.to_owned()),
            limit: config.max_kept,
            ..RecordFilter::default()
        };
        if self.inner.records.list(filter).await?.len() >= config.max_kept {
            return Err(UploadError::TooMany { max: config.max_kept });
        }
        let id = self.inner.world.ids.fresh();
        let (handle, part_bytes) = if new.is_direct {
            let started = self.inner.storage.begin_direct(id, new.bytes).await?;
            (started.handle, Some(started.part_bytes))
        } else {
            (self.inner.storage.begin(id, new.bytes).await?, None)
        };
        let upload = Upload {
            handle,
            bytes: new.bytes,
            offset: 0,
            state: UploadState::Open,
            part_bytes,
            name: new.name,
            metadata: new.metadata,
            wish: new.wish,
            lock: None,
            locator: None,
            job: None,
            job_error: None,
            expires_ms: self.now().saturating_add(config.expire_ms),
        };
        let mut kept = StoredUpload { key: StoredUpload::key(tenant, id), version: 0, id, upload };
        if let Err(error) = self.write(&mut kept, Expect::Absent).await {
            // Without a record the sweep does not find it.
            if let Err(error) = self.inner.storage.abort(&kept.upload.reference(id)).await {
                tracing::info!(%error, upload = %id, "could not delete the storage of an upload that was not recorded");
            }
            return Err(error);
        }
        if kept.upload.bytes == 0 && part_bytes.is_none() {
            self.finish(&mut kept).await?;
        }
        Ok(kept)
    }

    /// One upload, with the offset that it really has.
    ///
    /// # Errors
    /// [`UploadError`]; an expired upload differs from one that never existed.
    pub async fn get(&self, tenant: &str, id: Uuid) -> Result<StoredUpload, UploadError> {
        let record = self.inner.records.get(&StoredUpload::key(tenant, id)).await?.ok_or(UploadError::NotFound)?;
        let mut kept = StoredUpload::read(record)?;
        let now = self.now();
        if kept.upload.is_expired(now) {
            return Err(UploadError::Expired);
        }
        if kept.upload.state == UploadState::Open && kept.upload.is_dirty(now) && kept.upload.part_bytes.is_none() {
            kept.upload.offset = self.inner.storage.stored(&kept.upload.reference(id)).await?;
        }
        Ok(kept)
    }

    /// A tenant's finished upload as the source of a job. `None`: there is no such upload, or it is not finished.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn finished(&self, tenant: &str, upload: &str) -> Result<Option<Source>, StoreError> {
        let Ok(id) = Uuid::parse_str(upload) else { return Ok(None) };
        match self.get(tenant, id).await {
            Ok(StoredUpload { upload: Upload { locator, name, .. }, .. }) => {
                Ok(locator.map(|locator| Source::Stored { locator, name }))
            }
            Err(UploadError::NotFound | UploadError::Expired) => Ok(None),
            Err(UploadError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Unavailable(Box::new(error))),
        }
    }

    /// Stores a piece at the end of an upload. `length`: size of the piece, if it is known before. With the last
    /// byte the upload is made an object, and its job is started; a piece of no bytes repeats that if it failed.
    ///
    /// Do not cancel: run it in a task of its own, so that what a broken connection brought is kept.
    ///
    /// # Errors
    /// [`UploadError`]; [`Uploads::get`] returns the stored offset.
    pub async fn append(
        &self,
        tenant: &str,
        id: Uuid,
        offset: u64,
        length: Option<u64>,
        piece: ByteStream,
        checksum: Option<Checksum>,
    ) -> Result<StoredUpload, UploadError> {
        let mut kept = self.get(tenant, id).await?;
        if kept.upload.part_bytes.is_some() {
            return Err(UploadError::Kind { why: "its parts are put into storage directly" });
        }
        if kept.upload.is_locked(self.now()) {
            return Err(UploadError::Locked);
        }
        if kept.upload.offset != offset {
            return Err(UploadError::Offset { offset: kept.upload.offset });
        }
        let bytes = kept.upload.bytes;
        if length.is_some_and(|length| offset.saturating_add(length) > bytes) {
            return Err(UploadError::TooLarge { max: bytes });
        }
        if kept.upload.state == UploadState::Done {
            return Ok(kept);
        }
        let lock = self.lock(&mut kept).await?;
        let stored = self.store(&mut kept, lock, offset, piece, checksum).await;
        match stored {
            Ok(appended) => {
                kept.upload.offset = appended;
                kept.upload.lock = None;
                kept.upload.expires_ms = self.now().saturating_add(self.inner.config.expire_ms);
                let expect = Expect::Version(kept.version);
                self.write(&mut kept, expect).await?;
            }
            Err(UploadError::Locked) => return Err(UploadError::Locked),
            Err(error) => {
                // Keep the lock but expire it: the next writer reads the stored offset.
                kept.upload.lock = Some(WriteLock { holder: lock, until_ms: self.now() });
                let expect = Expect::Version(kept.version);
                self.write(&mut kept, expect).await?;
                return Err(match error {
                    UploadError::Storage(UploadStorageError::TooLong) => UploadError::TooLarge { max: bytes },
                    error => error,
                });
            }
        }
        if kept.upload.offset == kept.upload.bytes {
            self.finish(&mut kept).await?;
        }
        Ok(kept)
    }

    /// Writes to the storage while the lock is renewed. Answers the new offset.
    async fn store(
        &self,
        kept: &mut StoredUpload,
        lock: Uuid,
        offset: u64,
        piece: ByteStream,
        checksum: Option<Checksum>,
    ) -> Result<u64, UploadError> {
        let reference = kept.upload.reference(kept.id);
        let append = self.inner.storage.append(&reference, offset, piece, checksum);
        tokio::pin!(append);
        let third = (self.inner.config.lock_ms / 3).max(1);
        let mut held_until = self.now().saturating_add(self.inner.config.lock_ms);
        loop {
            let pause = third.min(held_until.saturating_sub(self.now()));
            tokio::select! {
                appended = &mut append => return Ok(appended?.offset),
                () = tokio::time::sleep(Duration::from_millis(u64::try_from(pause).unwrap_or(0))) => {
                    let until_ms = self.now().saturating_add(self.inner.config.lock_ms);
                    kept.upload.lock = Some(WriteLock { holder: lock, until_ms });
                    let expect = Expect::Version(kept.version);
                    match self.write(kept, expect).await {
                        Ok(()) => held_until = until_ms,
                        // It may yet answer before the lock runs out. After that another may write, or does.
                        Err(UploadError::Store(_)) if self.now() < held_until => {}
                        Err(UploadError::Store(_)) => return Err(UploadError::Locked),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Signed requests that put parts of a direct upload.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn sign_parts(
        &self,
        tenant: &str,
        id: Uuid,
        first: u32,
        count: u32,
    ) -> Result<(StoredUpload, Vec<SignedRequest>), UploadError> {
        let kept = self.get(tenant, id).await?;
        let part_bytes = direct_part_bytes(&kept.upload)?;
        let last = u32::try_from(kept.upload.bytes.div_ceil(part_bytes.max(1)).max(1)).unwrap_or(u32::MAX);
        let count = count.min(last.saturating_add(1).saturating_sub(first));
        if first == 0 || count == 0 {
            return Ok((kept, Vec::new()));
        }
        let reference = kept.upload.reference(id);
        let ttl_ms = self.inner.config.part_ttl_ms;
        let parts = self.inner.storage.sign_parts(&reference, first, count, ttl_ms).await?;
        Ok((kept, parts))
    }

    /// Makes the parts of a direct upload an object, and starts its job.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn complete(&self, tenant: &str, id: Uuid, parts: &[PutPart]) -> Result<StoredUpload, UploadError> {
        let mut kept = self.get(tenant, id).await?;
        direct_part_bytes(&kept.upload)?;
        if kept.upload.state == UploadState::Done {
            return Ok(kept);
        }
        if kept.upload.is_locked(self.now()) {
            return Err(UploadError::Locked);
        }
        let lock = self.lock(&mut kept).await?;
        let done = self.complete_locked(&mut kept, parts).await;
        if done.is_err() {
            kept.upload.lock = Some(WriteLock { holder: lock, until_ms: self.now() });
            let expect = Expect::Version(kept.version);
            self.write(&mut kept, expect).await?;
        }
        done.map(|()| kept)
    }

    async fn complete_locked(&self, kept: &mut StoredUpload, parts: &[PutPart]) -> Result<(), UploadError> {
        let locator = self.inner.storage.complete(&kept.upload.reference(kept.id), parts).await?;
        let source = self.inner.accept.pin(&locator).await.map_err(StartError::from)?;
        if source.bytes != kept.upload.bytes {
            return Err(UploadError::Parts);
        }
        kept.upload.offset = source.bytes;
        self.conclude(kept, locator).await
    }

    /// Deletes an upload with its bytes. Its job, if any, may fail for it.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn remove(&self, tenant: &str, id: Uuid) -> Result<(), UploadError> {
        let kept = self.get(tenant, id).await?;
        if kept.upload.is_locked(self.now()) {
            return Err(UploadError::Locked);
        }
        // The record goes last: until then the sweep finishes what a crash left.
        self.inner.storage.abort(&kept.upload.reference(id)).await?;
        let gone = self.inner.records.delete(&kept.key, Expect::Version(kept.version)).await?;
        gone.map_err(|_| UploadError::Locked)
    }

    /// Sweeps until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "upload maintenance pass failed; will retry");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.inner.config.tick) => {}
            }
        }
    }

    /// Performs the next action of each upload that is due: finishes complete ones, expires abandoned ones, deletes old
    /// ones. Several coordinators may. Returns the number of due uploads.
    ///
    /// # Errors
    /// When the record store fails. What storage does not do is tried again later.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let due = self.inner.records.due(UPLOAD_KIND, self.now(), BATCH).await?;
        let num_due = due.len();
        for record in due {
            let key = record.key.clone();
            match StoredUpload::read(record) {
                Ok(mut kept) => {
                    if let Err(error) = self.tidy(&mut kept).await {
                        tracing::warn!(%error, upload = %key.id, "upload maintenance failed");
                        let expect = Expect::Version(kept.version);
                        let _ = self.put(&mut kept, expect, self.now().saturating_add(AGAIN_MS)).await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "upload record is corrupt; deleted");
                    let _ = self.inner.records.delete(&key, Expect::Any).await?;
                }
            }
        }
        Ok(num_due)
    }

    async fn tidy(&self, kept: &mut StoredUpload) -> Result<(), UploadError> {
        let now = self.now();
        if kept.upload.state == UploadState::Open && kept.upload.is_dirty(now) && kept.upload.part_bytes.is_none() {
            kept.upload.offset = match self.inner.storage.stored(&kept.upload.reference(kept.id)).await {
                // Its bytes are deleted, for example by a removal that was cut off: it expires like an empty upload.
                Err(UploadStorageError::NotFound) => 0,
                stored => stored?,
            };
        }
        let expect = Expect::Version(kept.version);
        kept.upload.bound_expiry(now, self.inner.config.expire_ms.max(self.inner.config.keep_ms));
        match kept.upload.next_action(now) {
            NextAction::Wait(until_ms) => self.put(kept, expect, until_ms).await,
            NextAction::Finish => self.finish(kept).await,
            NextAction::Start => match kept.upload.locator.clone() {
                Some(locator) => self.conclude(kept, locator).await,
                None => self.finish(kept).await,
            },
            NextAction::Expire => {
                // No request may continue the upload once its bytes are being deleted.
                kept.upload.state = UploadState::Expired;
                kept.upload.lock = None;
                self.put(kept, expect, now.saturating_add(self.inner.config.expire_ms)).await?;
                Ok(self.inner.storage.abort(&kept.upload.reference(kept.id)).await?)
            }
            NextAction::Forget => {
                if let Some(job) = kept.upload.job
                    && self.inner.accept.is_open(job).await?
                {
                    return self.put(kept, expect, now.saturating_add(self.inner.config.expire_ms)).await;
                }
                self.inner.storage.abort(&kept.upload.reference(kept.id)).await?;
                let _ = self.inner.records.delete(&kept.key, expect).await?;
                Ok(())
            }
        }
    }

    async fn finish(&self, kept: &mut StoredUpload) -> Result<(), UploadError> {
        let locator = self.inner.storage.finish(&kept.upload.reference(kept.id)).await?;
        self.conclude(kept, locator).await
    }

    /// Starts the job that was wished for and notes that the upload is an object. The job has the upload's id for
    /// its key: whatever happens in between, there is one.
    async fn conclude(&self, kept: &mut StoredUpload, locator: String) -> Result<(), UploadError> {
        match self.start(kept, &locator).await {
            Ok(started) => kept.upload.job = started.and_then(Started::job),
            Err(error) if error.is_temporary() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, upload = %kept.id, "starting the job of an upload failed permanently");
                kept.upload.job_error = Some(error.to_string());
            }
        }
        kept.upload.locator = Some(locator);
        kept.upload.state = UploadState::Done;
        kept.upload.lock = None;
        kept.upload.expires_ms = self.now().saturating_add(self.inner.config.keep_ms);
        let due =
            if kept.upload.waits_for_job() { self.now().saturating_add(AGAIN_MS) } else { kept.upload.expires_ms };
        let expect = Expect::Version(kept.version);
        self.put(kept, expect, due).await
    }

    async fn start(&self, kept: &StoredUpload, locator: &str) -> Result<Option<Started>, StartError> {
        let Some(wish) = &kept.upload.wish else { return Ok(None) };
        let source = self.inner.accept.pin(locator).await?;
        if source.bytes == 0 {
            let why = "it is empty".to_owned();
            return Err(GrantError::Unusable { what: "the upload".to_owned(), why }.into());
        }
        let target = Target {
            tenant: kept.key.tenant.clone(),
            profile: wish.profile.clone(),
            output: None,
            priority: wish.priority,
        };
        let id = kept.id.to_string();
        self.inner.accept.start(source, &["upload", &id], &kept.upload.name, &target).await.map(Some)
    }

    async fn lock(&self, kept: &mut StoredUpload) -> Result<Uuid, UploadError> {
        let holder = self.inner.world.ids.fresh();
        let until_ms = self.now().saturating_add(self.inner.config.lock_ms);
        kept.upload.lock = Some(WriteLock { holder, until_ms });
        let expect = Expect::Version(kept.version);
        self.write(kept, expect).await?;
        Ok(holder)
    }

    async fn write(&self, kept: &mut StoredUpload, expect: Expect) -> Result<(), UploadError> {
        let due = match &kept.upload.lock {
            Some(lock) => lock.until_ms.max(kept.upload.expires_ms),
            // Complete but not yet an object: the sweep must look soon.
            None if kept.upload.is_complete() => self.now().saturating_add(AGAIN_MS),
            None => kept.upload.expires_ms,
        };
        self.put(kept, expect, due).await
    }

    async fn put(&self, kept: &mut StoredUpload, expect: Expect, due_ms: i64) -> Result<(), UploadError> {
        let records = self.inner.records.as_ref();
        let written = put_document(records, &kept.key, expect, &kept.upload, Some(due_ms), self.now()).await?;
        kept.version = written.map_err(|_| UploadError::Locked)?;
        Ok(())
    }

    pub(super) fn now(&self) -> i64 {
        self.inner.world.clock.now_ms()
    }
}

/// Part size of a direct upload, or what to do with one that is not.
fn direct_part_bytes(upload: &Upload) -> Result<u64, UploadError> {
    upload.part_bytes.ok_or(UploadError::Kind { why: "it is sent through this service by the tus protocol" })
}
