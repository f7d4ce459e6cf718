//! Events: what happened to a job, written in the transaction that made it happen.

use crate::failure::Failure;
use crate::id::{JobId, WorkerId};
use crate::task::TaskKind;
use serde::{Deserialize, Serialize};

/// One row of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Event {
    /// Position in the log, strictly increasing over all jobs.
    pub seq: i64,
    /// The job.
    #[cfg_attr(feature = "schema", schema(value_type = uuid::Uuid))]
    pub job: JobId,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

/// What happened, in the past tense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The job was accepted.
    Submitted,
    /// The plan was recorded.
    Planned {
        /// Tasks of the plan.
        num_tasks: u32,
    },
    /// An attempt started.
    Claimed {
        /// Task number.
        task: u32,
        /// Kind.
        kind: TaskKind,
        /// Index into the plan's list.
        index: u32,
        /// Attempt number.
        attempt: u32,
        /// Who.
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        worker: WorkerId,
    },
    /// A task became done.
    TaskDone {
        /// Task number.
        task: u32,
        /// Kind.
        kind: TaskKind,
        /// Index into the plan's list.
        index: u32,
        /// Attempt number.
        attempt: u32,
    },
    /// An attempt failed or its lease expired; another will start, or runs beside it already.
    TaskRetried {
        /// Task number.
        task: u32,
        /// The attempt that ended.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// Earliest start of the next attempt, milliseconds since the epoch.
        not_before_ms: i64,
    },
    /// An attempt takes too long: another was called for beside it.
    Speculated {
        /// Task number.
        task: u32,
        /// The attempt that was called for.
        attempt: u32,
    },
    /// A new plan was called for: the one before cannot be carried out.
    Replanned {
        /// Generation of the new plan.
        generation: u32,
        /// The task whose failure calls for the new plan, if one.
        task: Option<u32>,
        /// The attempt that failed, with `task`; unknown in events of older versions.
        #[serde(default)]
        attempt: Option<u32>,
        /// Why.
        failure: Failure,
    },
    /// The job failed for good.
    Failed {
        /// The task that could not be done, if one.
        task: Option<u32>,
        /// The attempt that failed, with `task`; unknown in events of older versions.
        #[serde(default)]
        attempt: Option<u32>,
        /// Why.
        failure: Failure,
    },
    /// The presentation became visible.
    Published,
    /// The user cancelled.
    Cancelled,
    /// The user retried.
    Retried,
    /// The user paused it.
    Paused,
    /// The user resumed it.
    Resumed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureCode;
    use serde_json::json;

    #[test]
    fn events_stored_without_an_attempt_are_read() {
        let failure = Failure::of(FailureCode::FfmpegFailed, "y");
        let failed = json!({"event": "failed", "task": 1, "failure": failure});
        assert_eq!(
            serde_json::from_value::<EventKind>(failed).unwrap(),
            EventKind::Failed { task: Some(1), attempt: None, failure: failure.clone() }
        );
        let replanned = json!({"event": "replanned", "generation": 2, "task": null, "failure": failure});
        assert_eq!(
            serde_json::from_value::<EventKind>(replanned).unwrap(),
            EventKind::Replanned { generation: 2, task: None, attempt: None, failure }
        );
    }
}
