//! Closed sets of label values. What is not in a set cannot be recorded, so the number of series stays bounded.

use splitreel_core::failure::FailureClass;
use splitreel_core::job::JobState;
use splitreel_core::task::{Refusal, TaskKind};

/// An enum, the words of its variants, and all of them as a list.
macro_rules! closed {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// The words of every value, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word,)+];

            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }
    };
}

closed! {
    /// Process that records a metric.
    Role {
        /// API, dispatch, leases.
        Coordinator = "coordinator",
        /// Probes and encodes.
        Worker = "worker",
        /// Packages and publishes.
        Assembler = "assembler",
    }
}

closed! {
    /// What a submit came to.
    Submission {
        /// A new job.
        Created = "created",
        /// The same request with the same key: the job that exists.
        Existing = "existing",
        /// The key was used with another request.
        KeyReused = "key_reused",
        /// Not valid, not allowed or over quota.
        Refused = "refused",
    }
}

closed! {
    /// How an attempt ended.
    AttemptOutcome {
        /// Its result was accepted.
        Completed = "completed",
        /// Machine, network or storage failed.
        Infra = "infra",
        /// It failed on this media.
        Media = "media",
        /// No attempt can succeed.
        Permanent = "permanent",
        /// The source cannot be used.
        Source = "source",
        /// Its report was refused.
        Refused = "refused",
        /// Stopped without a report: lease lost, job cancelled, process asked to end.
        Dropped = "dropped",
    }
}

impl From<FailureClass> for AttemptOutcome {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Infra => Self::Infra,
            FailureClass::Media => Self::Media,
            FailureClass::Permanent => Self::Permanent,
            FailureClass::Source => Self::Source,
        }
    }
}

closed! {
    /// Which queue is served.
    Queue {
        /// Probe, whole, segment, audio.
        Work = "work",
        /// Assemble.
        Assemble = "assemble",
    }
}

closed! {
    /// Request of a worker.
    Report {
        /// May I have this task?
        Claim = "claim",
        /// I am still at it.
        Renew = "renew",
        /// It is done.
        Complete = "complete",
        /// It failed.
        Fail = "fail",
    }
}

closed! {
    /// Why a report was refused.
    RefusedFor {
        /// Not ready, another attempt, or not due.
        NotClaimable = "not_claimable",
        /// The lease was taken back.
        LeaseLost = "lease_lost",
        /// The job has ended.
        Cancelled = "cancelled",
    }
}

impl From<Refusal> for RefusedFor {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotClaimable => Self::NotClaimable,
            Refusal::LeaseLost => Self::LeaseLost,
            Refusal::Cancelled => Self::Cancelled,
        }
    }
}

closed! {
    /// Where an outbox row stands.
    OutboxState {
        /// Not yet notified.
        Unsent = "unsent",
        /// Rung, not yet claimed.
        Sent = "sent",
    }
}

closed! {
    /// What became of a published wakeup.
    PublishOutcome {
        /// The broker has it.
        Confirmed = "confirmed",
        /// No queue took it.
        Returned = "returned",
        /// The broker refused it.
        Nacked = "nacked",
        /// No confirm in time.
        TimedOut = "timed_out",
        /// No connection, or it broke.
        Failed = "failed",
    }
}

closed! {
    /// The loops of a coordinator.
    Pass {
        /// Plans of probed jobs.
        Plan = "plan",
        /// Outbox rows for ready tasks.
        Dispatch = "dispatch",
        /// Outbox to broker.
        Relay = "relay",
        /// Expired leases.
        Reap = "reap",
        /// Outbox rows whose message may be lost.
        Sweep = "sweep",
        /// Objects that no row names.
        Garbage = "garbage",
        /// Speculative attempts for stragglers.
        Speculate = "speculate",
        /// Bucket prefixes that are polled.
        Poll = "poll",
        /// Outgoing webhooks.
        Webhooks = "webhooks",
        /// The gauges of this catalogue.
        Measure = "measure",
    }
}

closed! {
    /// Whether something worked.
    Outcome {
        /// It did.
        Ok = "ok",
        /// It did not.
        Failed = "failed",
    }
}

closed! {
    /// How an ffmpeg or ffprobe process ended.
    Exit {
        /// Exit code 0.
        Ok = "ok",
        /// Another exit code.
        Error = "error",
        /// A signal that nobody of us sent.
        Signal = "signal",
        /// Stopped because it took too long, made no progress or wrote too much.
        Limit = "limit",
        /// Stopped because its result is not wanted any more.
        Cancelled = "cancelled",
        /// It could not be started.
        NotStarted = "not_started",
    }
}

closed! {
    /// What was asked of the object store.
    S3Operation {
        /// Metadata of an object.
        Head = "head",
        /// An object, or a range of it.
        Get = "get",
        /// A whole object.
        Put = "put",
        /// One or more deletions.
        Delete = "delete",
        /// A page of a listing.
        List = "list",
        /// A server-side copy of a whole object.
        Copy = "copy",
        /// A multipart upload begins.
        CreateMultipart = "create_multipart",
        /// One part of it.
        UploadPart = "upload_part",
        /// One part, copied on the server.
        UploadPartCopy = "upload_part_copy",
        /// A multipart upload becomes an object.
        CompleteMultipart = "complete_multipart",
        /// A multipart upload is given up.
        AbortMultipart = "abort_multipart",
        /// A page of open multipart uploads.
        ListMultipart = "list_multipart",
    }
}

closed! {
    /// What the object store answered.
    S3Outcome {
        /// Done.
        Ok = "ok",
        /// No such object.
        NotFound = "not_found",
        /// It is there already, or it is another version.
        Precondition = "precondition",
        /// Not allowed.
        Denied = "denied",
        /// Slow down.
        Throttled = "throttled",
        /// Another 5xx.
        ServerError = "server_error",
        /// No answer in time.
        TimedOut = "timed_out",
        /// Anything else: no connection, a broken body.
        Failed = "failed",
    }
}

impl S3Outcome {
    /// What a status says.
    pub const fn of_status(status: u16) -> Self {
        match status {
            404 => Self::NotFound,
            304 | 409 | 412 => Self::Precondition,
            401 | 403 => Self::Denied,
            429 | 503 => Self::Throttled,
            500..=599 => Self::ServerError,
            100..=399 => Self::Ok,
            _ => Self::Failed,
        }
    }
}

closed! {
    /// What became of one try to deliver a webhook.
    WebhookOutcome {
        /// Answered with 2xx.
        Accepted = "accepted",
        /// Not accepted; it will be tried again.
        Retried = "retried",
        /// Not accepted for too long, or answered with 410.
        GaveUp = "gave_up",
        /// The address is not one that may be called.
        Blocked = "blocked",
    }
}

closed! {
    /// Where a trigger event came from.
    TriggerSource {
        /// A document posted by a store or a topic.
        Http = "http",
        /// A message on an AMQP queue.
        Amqp = "amqp",
        /// The poller found an object.
        Poller = "poller",
        /// The watch folder found a file.
        WatchFolder = "watch_folder",
        /// An upload that was watched until it rested.
        Held = "held",
    }
}

closed! {
    /// What a trigger event came to.
    TriggerOutcome {
        /// A new job.
        Started = "started",
        /// Its job existed.
        Replayed = "replayed",
        /// No rule matched, it is about output, or the object is gone.
        Ignored = "ignored",
        /// It is watched until it rests.
        Held = "held",
        /// Not authentic, or not understood.
        Rejected = "rejected",
        /// It could not be looked at now.
        Failed = "failed",
    }
}

closed! {
    /// Methods of HTTP requests.
    Method {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// POST
        Post = "POST",
        /// PUT
        Put = "PUT",
        /// PATCH
        Patch = "PATCH",
        /// DELETE
        Delete = "DELETE",
        /// OPTIONS
        Options = "OPTIONS",
        /// Anything else a client may invent.
        Other = "other",
    }
}

impl Method {
    /// The method as a label.
    pub fn of(method: &axum::http::Method) -> Self {
        Self::ALL.iter().copied().find(|known| known.as_str() == method.as_str()).unwrap_or(Self::Other)
    }
}

/// Words of the states in which a job is open.
pub const OPEN_STATES: &[&str] = &[JobState::Probing.as_str(), JobState::Planning.as_str(), JobState::Running.as_str()];
/// Words of the states in which a job has ended.
pub const ENDED_STATES: &[&str] =
    &[JobState::Published.as_str(), JobState::Failed.as_str(), JobState::Cancelled.as_str()];
/// Words of [`TaskKind`].
pub const TASK_KINDS: &[&str] = &[
    TaskKind::Probe.as_str(),
    TaskKind::Whole.as_str(),
    TaskKind::Segment.as_str(),
    TaskKind::Audio.as_str(),
    TaskKind::Assemble.as_str(),
];
/// Words of the [`FailureClass`]es after which there is another attempt.
pub const RETRIED_CLASSES: &[&str] = &[FailureClass::Infra.as_str(), FailureClass::Media.as_str()];
