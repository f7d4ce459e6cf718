//! The blob seam on the work bucket.

use super::body::Reading;
use super::connection::S3Connection;
use super::failure::{S3Error, failed};
use super::head::look;
use super::locator::S3Locator;
use super::multipart::{self, Making};
use super::parts::Origin;
use super::sources::list_page;
use async_trait::async_trait;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use splitreel_backend::blob::{BlobAdmin, BlobError, BlobReader, PartWriter, Piece, check_key, check_prefix};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// Keys per request to delete many (S3 API reference, DeleteObjects).
const DELETE_BATCH: usize = 1000;

/// Blobs in the work bucket, below the connection's key prefix.
#[derive(Clone, Debug)]
pub struct S3Blobs {
    connection: S3Connection,
}

impl S3Blobs {
    /// The blobs of a connection's work bucket.
    pub fn new(connection: S3Connection) -> Self {
        S3Blobs { connection }
    }

    /// The object that holds a blob.
    ///
    /// # Errors
    /// [`BlobError::BadKey`].
    pub fn object(&self, key: &str) -> Result<S3Locator, BlobError> {
        check_key(key)?;
        let options = self.connection.options();
        Ok(S3Locator { bucket: options.bucket.clone(), key: format!("{}{key}", options.key_prefix) })
    }

    /// The connection.
    pub fn connection(&self) -> &S3Connection {
        &self.connection
    }

    /// Deletes blobs, many by one request; deleting what is not there is fine.
    ///
    /// # Errors
    /// [`BlobError`]; some of the blobs may be deleted.
    pub async fn delete_many(&self, keys: &[String]) -> Result<(), BlobError> {
        let objects = keys.iter().map(|key| self.object(key)).collect::<Result<Vec<_>, _>>()?;
        for batch in objects.chunks(DELETE_BATCH) {
            match Box::pin(self.delete_batch(batch)).await {
                Ok(()) => {}
                // Some servers insist on digests that others do not know: one by one works everywhere.
                Err(error) => {
                    tracing::debug!(%error, "deleting one by one");
                    for object in batch {
                        multipart::remove(&self.connection, object).await.map_err(|e| self.told("", e))?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn delete_batch(&self, batch: &[S3Locator]) -> Result<(), S3Error> {
        let Some(first) = batch.first() else { return Ok(()) };
        let mut delete = Delete::builder().quiet(true);
        for object in batch {
            let id = ObjectIdentifier::builder().key(&object.key).build();
            delete = delete.objects(id.map_err(|error| S3Error::other("delete", object, error.to_string()))?);
        }
        let delete = delete.build().map_err(|error| S3Error::other("delete", first, error.to_string()))?;
        let request = self.connection.client().delete_objects().bucket(&first.bucket).delete(delete);
        let answer = request.send().await.map_err(failed("delete", first))?;
        match answer.errors().first() {
            None => Ok(()),
            Some(error) => Err(S3Error::other("delete", first, error.code().unwrap_or("refused"))),
        }
    }

    /// Aborts uploads below a prefix of blob keys (empty, or ending in `/`) that began longer ago than `older_than`:
    /// those of processes that died. Answers how many.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn abort_uploads(&self, prefix: &str, older_than: Duration) -> Result<usize, BlobError> {
        check_prefix(prefix)?;
        let options = self.connection.options();
        let full = format!("{}{prefix}", options.key_prefix);
        let aborted = multipart::abort_all(&self.connection, &options.bucket, &full, older_than).await;
        aborted.map_err(|error| self.told(prefix, error))
    }

    fn told(&self, key: &str, error: S3Error) -> BlobError {
        error.into_blob(key, &self.connection.options().key_prefix)
    }

    async fn make(&self, key: &str, origins: Vec<Origin>, file: Option<File>) -> Result<u64, BlobError> {
        let making = Making {
            connection: self.connection.clone(),
            object: self.object(key)?,
            content_type: None,
            origins: origins.into(),
            file: file.map(Arc::new),
        };
        Box::pin(making.run()).await.map_err(|error| self.told(key, error))
    }

    async fn download(&self, object: &S3Locator, file: File) -> Result<(), S3Error> {
        let failed = |error| S3Error::io("export", object, error);
        let mut file = tokio::fs::File::from_std(file);
        let mut reading = Reading::new(&self.connection, object, 0, u64::MAX);
        while let Some(piece) = reading.piece().await? {
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)
    }
}

/// An I/O error of a local file in an operation on a blob.
fn local(key: &str) -> impl Fn(io::Error) -> BlobError {
    move |source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobError::NoSpace { key: key.to_owned() },
        _ => BlobError::Unavailable { key: key.to_owned(), source },
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

/// A file beside the target that is deleted unless it gets the target's name.
struct Beside {
    path: PathBuf,
    is_kept: bool,
}

impl Beside {
    fn create(target: &Path) -> io::Result<(Self, File)> {
        let path = target.with_file_name(format!(".splitreel-{}.part", Uuid::new_v4()));
        let file = File::create_new(&path)?;
        Ok((Beside { path, is_kept: false }, file))
    }

    /// Gives the file its name unless that is taken.
    fn name(mut self, target: &Path) -> io::Result<()> {
        match std::fs::hard_link(&self.path, target) {
            // File systems without links.
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !std::fs::exists(target)? => {
                std::fs::rename(&self.path, target)?;
                self.is_kept = true;
                Ok(())
            }
            outcome => outcome,
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[async_trait]
impl BlobReader for S3Blobs {
    async fn read(&self, key: &str, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        if len == 0 || offset > i64::MAX.unsigned_abs() {
            return self.size(key).await.map(|_| Bytes::new());
        }
        let object = self.object(key)?;
        let mut reading = Reading::new(&self.connection, &object, offset, offset.saturating_add(len as u64));
        reading.all().await.map_err(|error| self.told(key, error))
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        let object = self.object(key)?;
        let found = look(&self.connection, &object, None).await.map_err(|error| self.told(key, error))?;
        Ok(found.bytes)
    }

    async fn export(&self, key: &str, target: &Path) -> Result<(), BlobError> {
        let object = self.object(key)?;
        let wanted = target.to_owned();
        let beside = blocking(move || {
            if std::fs::exists(&wanted)? {
                return Err(ErrorKind::AlreadyExists.into());
            }
            Beside::create(&wanted)
        });
        let (beside, file) = beside.await.map_err(local(key))?;
        self.download(&object, file).await.map_err(|error| self.told(key, error))?;
        let target = target.to_owned();
        blocking(move || beside.name(&target)).await.map_err(local(key))
    }
}

#[async_trait]
impl PartWriter for S3Blobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        let object = self.object(key)?;
        multipart::put(&self.connection, &object, bytes, None).await.map_err(|error| self.told(key, error))
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<(), BlobError> {
        let object = self.object(key)?;
        let path = path.to_owned();
        let threshold = self.connection.options().multipart_from_bytes;
        let opened = blocking(move || {
            let file = File::open(&path)?;
            let bytes = file.metadata()?.len();
            let content = if bytes < threshold { Some(std::fs::read(&path)?) } else { None };
            Ok((file, bytes, content))
        });
        let (file, bytes, content) = opened.await.map_err(local(key))?;
        match content {
            Some(content) => multipart::put(&self.connection, &object, content.into(), None)
                .await
                .map_err(|error| self.told(key, error)),
            None => self.make(key, vec![Origin::File { bytes }], Some(file)).await.map(|_| ()),
        }
    }
}

#[async_trait]
impl BlobAdmin for S3Blobs {
    async fn compose(&self, key: &str, pieces: &[Piece]) -> Result<u64, BlobError> {
        let origins = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Bytes(bytes) => Ok(Origin::Bytes(bytes.clone())),
                Piece::Object { key, bytes } => Ok(Origin::Object { from: self.object(key)?, bytes: *bytes }),
            })
            .collect::<Result<Vec<_>, BlobError>>()?;
        self.make(key, origins, None).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        check_prefix(prefix)?;
        let options = self.connection.options();
        let full = format!("{}{prefix}", options.key_prefix);
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = list_page(&self.connection, &options.bucket, &full, after.as_deref(), None).await;
            let page = page.map_err(|error| self.told(prefix, error))?;
            let last = page.listed.last().map(|listed| listed.key.clone());
            // What has no key of ours in a shared bucket is not ours.
            let ours = page.listed.into_iter().filter_map(|listed| {
                let key = listed.key.strip_prefix(&options.key_prefix)?;
                check_key(key).is_ok().then(|| key.to_owned())
            });
            keys.extend(ours);
            if !page.has_more || last.is_none() || last <= after {
                break;
            }
            after = last;
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        let object = self.object(key)?;
        multipart::remove(&self.connection, &object).await.map_err(|error| self.told(key, error))
    }
}
