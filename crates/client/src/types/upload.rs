//! Uploads: how far they are.

use serde::{Deserialize, Serialize};
use splitreel_core::JobId;
use utoipa::ToSchema;
use uuid::Uuid;

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// Bytes are missing.
    Open,
    /// It is an object.
    Done,
    /// Nobody went on with it in time; its bytes are deleted.
    Expired,
}

/// An upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadAnswer {
    /// Its name; a job may name it as its source.
    pub id: Uuid,
    /// Size when it is complete.
    pub bytes: u64,
    /// Bytes that are stored; always 0 for a direct upload that is open.
    pub offset: u64,
    /// How far it is.
    pub state: UploadState,
    /// What the client calls it.
    pub name: String,
    /// The job that was started with it.
    #[schema(value_type = Option<String>)]
    pub job: Option<JobId>,
    /// Why no job was started although one was asked for.
    pub job_error: Option<String>,
    /// When it is given up, or deleted once complete, milliseconds since the epoch.
    pub expires_ms: i64,
}
