//! Shapes of the worker protocol for its OpenAPI document, of types in crates that do not know OpenAPI. No value of these
//! types is ever made; a test holds them against what the types serialise to. Shapes of the domain are derived by
//! `splitreel-core` under its feature `schema`.

use splitreel_core::source::SourceRef;
use splitreel_core::task::TaskKind;
use splitreel_core::{Failure, TaskId};
use utoipa::ToSchema;

/// Names the task that may be claimed.
#[derive(Clone, Debug, ToSchema)]
pub struct Ring {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// Its kind.
    pub kind: TaskKind,
}

/// A request with a signature: its holder may send it until it expires, without credentials.
#[derive(Clone, Debug, ToSchema)]
pub struct SignedRequest {
    /// HTTP method.
    pub method: String,
    /// URL with its signature.
    pub url: String,
    /// Headers that must be sent along: pairs of name and value.
    pub headers: Vec<Vec<String>>,
    /// Milliseconds since the epoch.
    pub expires_ms: i64,
}

/// A signed request that reads the pinned source in ranges.
#[derive(Clone, Debug, ToSchema)]
pub struct SourceGrant {
    /// URL with its signature.
    pub url: String,
    /// Headers that every request must carry: name and value.
    pub headers: Vec<Vec<String>>,
    /// Size of the pinned version in bytes.
    pub bytes: u64,
    /// Entity tag of the pinned version, to be sent as `If-Match`.
    pub etag: Option<String>,
    /// SHA-256 of the whole source, lower-case hex, where storage knows it.
    pub sha256: Option<String>,
    /// Milliseconds since the epoch after which storage refuses it.
    pub expires_ms: i64,
}

/// Facts about a job that its report states.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct History {
    /// The job.
    pub job: String,
    /// When the job was accepted, milliseconds since the epoch.
    pub created_ms: i64,
    /// When the assembly was claimed, milliseconds since the epoch.
    pub assembled_ms: i64,
    /// Attempts beyond the first of each task.
    pub extra_attempts: u32,
    /// Name of the profile.
    pub profile: String,
    /// Number of the plan, above 1 when the job was planned again.
    pub generation: u32,
    /// Why the job was last planned again, if ever.
    pub replanned: Option<Box<Failure>>,
}

/// The work of an attempt; `work` is the kind.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// Probe the source.
    Probe {
        /// Decode it once, whatever its container says of its frames.
        deep: bool,
    },
    /// Encode one segment, or all, of the video.
    Video {
        /// The plan, as `GET /v1/jobs/{id}/plan` answers it, with the needed segment only.
        #[schema(value_type = Object)]
        plan: serde_json::Value,
        /// Index of the segment.
        segment: u32,
    },
    /// Encode one audio track.
    Audio {
        /// The plan.
        #[schema(value_type = Object)]
        plan: serde_json::Value,
        /// Index into its audio tracks.
        index: u32,
    },
    /// Package and verify.
    Assemble {
        /// The plan.
        #[schema(value_type = Object)]
        plan: serde_json::Value,
        /// Base name of the output files.
        base: String,
        /// The stored probe result.
        #[schema(value_type = Object)]
        probe: serde_json::Value,
        /// The stored video parts, by segment.
        #[schema(value_type = Vec<Object>)]
        video: Vec<serde_json::Value>,
        /// The stored audio parts, by index.
        #[schema(value_type = Vec<Object>)]
        audio: Vec<serde_json::Value>,
        /// Facts for the report.
        history: History,
    },
}

/// Everything that one attempt needs.
#[derive(Clone, Debug, ToSchema)]
pub struct WorkOrder {
    /// The task.
    pub task: TaskId,
    /// Attempt number.
    pub attempt: u32,
    /// The lease.
    #[schema(value_type = uuid::Uuid)]
    pub lease: String,
    /// Lease length from the moment the claim was sent, in milliseconds.
    pub ttl_ms: i64,
    /// Media failures of earlier attempts: each makes the next attempt read from further back.
    pub media_failures: u32,
    /// The pinned source.
    pub source: SourceRef,
    /// A signed request that reads the source; absent when local workers open the locator directly.
    pub grant: Option<SourceGrant>,
    /// Prefix of the keys that this attempt may write; ends with `/`.
    pub key_prefix: String,
    /// The work.
    pub work: Work,
}
