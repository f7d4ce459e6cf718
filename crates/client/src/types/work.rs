//! What workers and assemblers say and are told.

use crate::schema;
use serde::{Deserialize, Serialize};
use splitreel_backend::doorbell::Wakeup;
use splitreel_backend::grants::SignedRequest;
use splitreel_backend::lease::WorkOrder;
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, JobId, LeaseId, WorkerId};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What this program understands of this protocol between coordinator and workers. Raised when a coordinator or a worker
/// says something that those before it would misunderstand; not when one is told more, which they may leave out.
pub const PROTOCOL: u32 = 2;

/// Asks for the lease that a wakeup announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The wakeup.
    #[schema(value_type = schema::Ring)]
    #[serde(rename = "ring")]
    pub wakeup: Wakeup,
    /// Who asks.
    #[schema(value_type = String)]
    pub worker: WorkerId,
    /// A fresh random UUID that becomes the lease; a claim that is repeated with it has the same answer.
    #[schema(value_type = uuid::Uuid)]
    pub lease: LeaseId,
    /// Its [`PROTOCOL`].
    #[serde(default)]
    pub protocol: u32,
}

/// The lease, the order, and the rights that go with it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Claimed {
    /// What to do, with the right to read the pinned source.
    #[schema(value_type = schema::WorkOrder)]
    pub order: WorkOrder,
    /// Proves to every coordinator that the order's key prefix was given to this caller.
    pub ticket: String,
}

/// Keeps a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// How far the attempt is.
    #[schema(value_type = schema::Progress)]
    pub progress: Progress,
}

/// The lease is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Renewed {
    /// Its remaining length in milliseconds.
    pub remaining_ms: i64,
}

/// Reports success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// What was made.
    #[schema(value_type = Object)]
    pub result: TaskResult,
}

/// Reports failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Why.
    #[schema(value_type = schema::Failure)]
    pub failure: Failure,
}

/// An object that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectToStore {
    /// Full key, below the order's prefix.
    pub key: String,
    /// Exact size.
    pub bytes: u64,
}

/// Asks for rights to store objects below the lease's prefix.
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

/// Asks for rights to read objects of the job.
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

/// The rights, in the order that they were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectGrants {
    /// One request for each object.
    #[schema(value_type = Vec<schema::SignedRequest>)]
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
    /// Its [`PROTOCOL`]; one that is older than the coordinator accepts is told to drain.
    #[serde(default)]
    pub protocol: u32,
    /// Attempts at the same time.
    pub slots: u32,
    /// Labels it was started with; at most 64.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it can do: encoders and the like; at most 256.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// What the coordinator says on a control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// The stream stands. Sent at least every few seconds: silence means that it is broken.
    Ping,
    /// A job has ended: renew at once what is held of it, and be told so.
    JobEnded {
        /// The job.
        #[schema(value_type = uuid::Uuid)]
        job: JobId,
    },
    /// Take no more work, finish what is there, end.
    Drain {
        /// Because a newer program is needed here.
        #[serde(default)]
        is_outdated: bool,
    },
}
