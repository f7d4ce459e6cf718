//! Messages between the coordinator and workers or assemblers.

use serde::{Deserialize, Serialize};
use splitreel_backend::doorbell::Wakeup;
use splitreel_backend::grants::SignedRequest;
use splitreel_backend::lease::WorkOrder;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, JobId, LeaseId, WorkerId};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Version of the protocol between coordinator and workers. Raised for messages that older programs would misunderstand,
/// not for new members, which older programs ignore.
pub const PROTOCOL: u32 = 2;

/// What stands in front of the names of filters among a worker's capabilities.
pub const FILTER_WORD: &str = "filter:";

/// Requests the lease that a wakeup announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The wakeup.
    #[serde(rename = "ring")]
    pub wakeup: Wakeup,
    /// The worker.
    #[schema(value_type = String)]
    pub worker: WorkerId,
    /// A fresh random UUID that becomes the lease; a claim that is repeated with it has the same answer.
    #[schema(value_type = uuid::Uuid)]
    pub lease: LeaseId,
    /// The worker's [`PROTOCOL`].
    #[serde(default)]
    pub protocol: u32,
}

/// The lease: its order and its ticket.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Claimed {
    /// What to do, with a signed request to read the pinned source.
    pub order: WorkOrder,
    /// Proves to every coordinator that the order's key prefix belongs to this caller.
    pub ticket: String,
}

/// Renews a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// Progress of the attempt.
    pub progress: Progress,
}

/// A renewed lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Renewed {
    /// Its remaining length in milliseconds.
    pub remaining_ms: i64,
}

/// Reports success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// The result.
    #[schema(value_type = Object)]
    pub result: TaskResult,
}

/// Reports failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Why.
    pub failure: Failure,
}

/// An object to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectToStore {
    /// Full key, below the order's prefix.
    pub key: String,
    /// Exact size.
    pub bytes: u64,
}

/// Asks for signed requests to store objects below the lease's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectsToStore {
    /// The attempt that the lease is of.
    pub attempt: u32,
    /// From the claim.
    pub ticket: String,
    /// At most 1000.
    pub objects: Vec<ObjectToStore>,
}

/// Asks for signed requests to read objects of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectsToRead {
    /// The attempt that the lease is of.
    pub attempt: u32,
    /// From the claim.
    pub ticket: String,
    /// Full keys of objects of the same job; at most 1000.
    pub keys: Vec<String>,
}

/// Signed requests, in the order of the objects asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectGrants {
    /// One request for each object.
    pub grants: Vec<SignedRequest>,
}

/// Announces a worker; the answer is its control stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Name of the process incarnation, 1 to 200 characters.
    pub worker: String,
    /// Version of its program, for people; at most 100 characters.
    #[serde(default)]
    pub version: String,
    /// The worker's [`PROTOCOL`]; a worker older than the coordinator accepts is asked to drain.
    #[serde(default)]
    pub protocol: u32,
    /// Maximum number of concurrent attempts.
    pub slots: u32,
    /// Labels of the worker; at most 64.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Capabilities: names of encoders, and names of filters behind [`FILTER_WORD`]; at most 256.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// A message of the coordinator on a control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// A sign of life, sent every few seconds: silence means that the stream is broken.
    Ping,
    /// A job has ended: renewing its leases at once brings the refusals.
    JobEnded {
        /// The job.
        #[schema(value_type = uuid::Uuid)]
        job: JobId,
    },
    /// Take no more work, finish the running attempts, exit.
    Drain {
        /// The worker's program is too old for this coordinator.
        #[serde(default)]
        is_outdated: bool,
    },
}
