//! Sending a source by the tus protocol 1.0.0: in pieces with checksums, again where a piece did not arrive, going on
//! where an earlier process stopped.

use crate::client::{Client, ClientError};
use crate::retry::{Outcome, pause};
use crate::routes;
use crate::types::{UploadAnswer, UploadState};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderName, LOCATION};
use sha2::{Digest, Sha256};
use std::io;
use std::time::Duration;
use uuid::Uuid;

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const VERSION: &str = "1.0.0";
const PIECE: &str = "application/offset+octet-stream";
/// Bytes of a piece: what is sent again at most.
const PIECE_BYTES: u64 = 8 << 20;
/// Longest time for a piece; with the last one the server makes the object.
const PIECE_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum number of attempts in a row for a piece.
const MAX_TRIES: u32 = 10;

/// Why an upload was given up.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The service said no, or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The source cannot be read.
    #[error("the source cannot be read")]
    Source(#[source] io::Error),
}

impl Client {
    /// `POST /v1/uploads`: an upload of `bytes` bytes. Answers its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_upload(&self, bytes: u64, filename: &str) -> Result<Uuid, ClientError> {
        let call = self
            .call(Method::POST, routes::UPLOADS, &[])?
            .header(TUS_RESUMABLE, VERSION)?
            .header(UPLOAD_LENGTH, &bytes.to_string())?
            .header(UPLOAD_METADATA, &format!("filename {}", STANDARD.encode(filename)))?
            // One that nobody hears of again expires.
            .repeatable();
        let response = self.send(call).await?;
        let place = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let id = place.rsplit('/').next().and_then(|id| Uuid::parse_str(id).ok());
        id.ok_or_else(|| ClientError::Unreadable { what: "POST /v1/uploads".into(), why: "no location".into() })
    }

    /// `PATCH /v1/uploads/{id}`: sends a piece with its checksum, once. Answers the new offset.
    ///
    /// # Errors
    /// [`ClientError`]; `offset_mismatch`, `upload_locked`, `checksum_mismatch`, `upload_expired`.
    pub async fn upload_piece(&self, id: Uuid, offset: u64, piece: Bytes) -> Result<u64, ClientError> {
        let checksum = format!("sha256 {}", STANDARD.encode(Sha256::digest(&piece)));
        let call = self
            .call(Method::PATCH, routes::UPLOAD, &[&id.to_string()])?
            .header(TUS_RESUMABLE, VERSION)?
            .header(UPLOAD_OFFSET, &offset.to_string())?
            .header(UPLOAD_CHECKSUM, &checksum)?
            .bytes(piece, PIECE)
            .timeout(PIECE_TIMEOUT)
            .once();
        let response = self.send(call).await?;
        let offset = response.headers().get(UPLOAD_OFFSET).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let what = response.url().path().to_owned();
        offset.ok_or_else(|| ClientError::Unreadable { what, why: "no offset".into() })
    }

    /// `GET /v1/uploads/{id}`: how far it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload(&self, id: Uuid) -> Result<UploadAnswer, ClientError> {
        self.answer(self.call(Method::GET, routes::UPLOAD, &[&id.to_string()])?).await
    }

    /// Sends the missing bytes of an upload of `bytes` bytes, until it is an object. `read` returns a number of bytes from
    /// an offset on; `progress` receives the offset.
    ///
    /// # Errors
    /// [`SendError`]; the bytes that arrived are kept, and the same call resumes.
    pub async fn send_upload(
        &self,
        id: Uuid,
        bytes: u64,
        mut read: impl AsyncFnMut(u64, u64) -> io::Result<Bytes>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), SendError> {
        let (mut tried, mut at) = (0, None);
        loop {
            // A piece of no bytes makes the service finish what it could not finish before.
            let step = async {
                let offset = match at.filter(|offset| *offset < bytes) {
                    Some(offset) => offset,
                    None => {
                        let upload = self.upload(id).await?;
                        if upload.state == UploadState::Done {
                            return Ok(None);
                        }
                        upload.offset
                    }
                };
                progress(offset);
                let piece = read(offset, PIECE_BYTES.min(bytes.saturating_sub(offset))).await;
                let next = self.upload_piece(id, offset, piece.map_err(SendError::Source)?).await?;
                Ok::<_, SendError>(Some(next))
            };
            match step.await {
                Ok(None) => return Ok(()),
                Ok(next) => (tried, at) = (0, next),
                Err(SendError::Client(error)) => {
                    tried += 1;
                    let outcome = match &error {
                        // Another writer, another offset, damage on the way: ask where it goes on.
                        ClientError::Problem(p) if matches!(p.status, 409 | 423 | 460) => Outcome::NoAnswer,
                        ClientError::Problem(p) => Outcome::Status(p.status, None),
                        _ => Outcome::NoAnswer,
                    };
                    let Some(pause) = pause(outcome, tried, MAX_TRIES, crate::client::chance()) else {
                        return Err(error.into());
                    };
                    tracing::debug!(%error, tried, "upload piece failed; sending it again");
                    tokio::time::sleep(pause).await;
                    at = None;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
