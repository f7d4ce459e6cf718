//! The lease seam: how workers and assemblers talk to the coordinator. In process or over HTTP.

use crate::doorbell::Wakeup;
pub use crate::store::LeaseError;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use splitreel_core::digest::sha256_hex;
use splitreel_core::part::{AudioPart, ProbeResult, TaskResult, VideoPart};
use splitreel_core::plan::Plan;
use splitreel_core::profile::SourceProfile;
use splitreel_core::source::SourceRef;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use std::sync::Arc;

/// Everything that one attempt needs. What is not in it, a worker does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WorkOrder {
    /// The task.
    pub task: TaskId,
    /// Attempt number.
    pub attempt: u32,
    /// The lease: the fence of the attempt.
    #[cfg_attr(feature = "schema", schema(value_type = uuid::Uuid))]
    pub lease: LeaseId,
    /// Lease length from the moment the claim was sent, in milliseconds.
    pub ttl_ms: i64,
    /// Media failures of earlier attempts: each makes the next attempt read from further back.
    pub media_failures: u32,
    /// The pinned source.
    pub source: SourceRef,
    /// Signed request to read the source over HTTP; absent when local workers open the locator directly.
    #[serde(default)]
    pub grant: Option<SourceGrant>,
    /// Blob keys of this attempt start with this (it ends with `/`): the only place it may write.
    pub key_prefix: String,
    /// What to do.
    pub work: Work,
}

/// The right to read one version of a source over HTTP, in ranges (RFC 9110 §14), for an attempt's time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SourceGrant {
    /// URL with its signature: a secret.
    pub url: String,
    /// Headers that every request must carry, by lower-case name.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Size of the pinned version in bytes.
    pub bytes: u64,
    /// Entity tag of the pinned version, quotes included; sent as `If-Match` (RFC 9110 §13.1.1).
    #[serde(default)]
    pub etag: Option<String>,
    /// SHA-256 of the whole source, lower-case hex, where the storage knows it.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Milliseconds since the epoch after which storage refuses it.
    pub expires_ms: i64,
}

impl std::fmt::Debug for SourceGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query and the headers hold signatures.
        let place = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("SourceGrant")
            .field("url", &place)
            .field("bytes", &self.bytes)
            .field("etag", &self.etag)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// Probe the source.
    Probe {
        /// Decode it once, whatever its container says of its frames.
        deep: bool,
        /// What is taken from the source.
        #[serde(default)]
        source: SourceProfile,
    },
    /// Encode one segment (or all) of the video.
    Video {
        /// The plan, as `GET /v1/jobs/{id}/plan` answers it, with the needed segment only.
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        plan: Arc<Plan>,
        /// Index into its segments.
        segment: u32,
    },
    /// Encode one audio track.
    Audio {
        /// The plan, as `GET /v1/jobs/{id}/plan` answers it.
        #[cfg_attr(feature = "schema", schema(value_type = Object))]
        plan: Arc<Plan>,
        /// Index into its audio list.
        index: u32,
    },
    /// Package, verify, hand over for publishing.
    Assemble(Arc<Assembly>),
}

/// Everything that an assembly is made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Assembly {
    /// The plan.
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub plan: Arc<Plan>,
    /// Base name of output files.
    pub base: String,
    /// What was probed.
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub probe: ProbeResult,
    /// Video parts by segment.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<Object>))]
    pub video: Vec<VideoPart>,
    /// Audio parts by index.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<Object>))]
    pub audio: Vec<AudioPart>,
    /// Facts about the run, for the report only.
    pub history: History,
}

/// Facts about how a job went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct History {
    /// The job.
    pub job: String,
    /// When the job was accepted, milliseconds since the epoch.
    pub created_ms: i64,
    /// When the assembly was claimed, milliseconds since the epoch by the coordinator's clock.
    pub assembled_ms: i64,
    /// Attempts per task number beyond the first.
    pub extra_attempts: u32,
    /// Profile name.
    pub profile: String,
    /// Number of the plan: above 1 when the job was planned again.
    #[serde(default)]
    pub generation: u32,
    /// Why the job was last planned again, if ever.
    #[serde(default)]
    pub replanned: Option<Failure>,
    /// The source; `None` from coordinators of earlier versions.
    #[serde(default)]
    pub source: Option<SourceName>,
}

/// A source, without the folders that it lies in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SourceName {
    /// The last part of its locator.
    pub name: String,
    /// SHA-256 of its locator, hex: the same for every version of the file.
    pub locator_sha256: String,
}

impl SourceName {
    /// The name of the source at a locator.
    pub fn of(locator: &str) -> Self {
        let name = locator.rsplit('/').next().unwrap_or(locator).to_owned();
        SourceName { name, locator_sha256: sha256_hex(locator.as_bytes()) }
    }
}

/// The coordinator as workers and assemblers see it. All calls are safe to repeat.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Turns a wakeup into a work order, for exactly one caller. `lease` is fresh and random, named by the caller:
    /// who repeats an unanswered claim with it gets the same order.
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError>;
    /// Keeps the lease; answers its remaining length in milliseconds.
    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError>;
    /// Reports success. Completion of an assemble task publishes.
    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError>;
    /// Reports failure.
    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError>;
    /// Waits until there is news for the holder of a lease, which it hears with its next renewal: its job was
    /// cancelled, or its lease shortened. For ever where nobody brings news. Cancel-safe.
    async fn nudged(&self, _lease: LeaseId) {
        std::future::pending().await
    }
}
