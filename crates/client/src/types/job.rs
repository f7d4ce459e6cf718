//! Jobs: what is asked for, and how it goes.

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use splitreel_core::JobId;
use splitreel_core::event::Event;
use splitreel_core::fair::Priority;
use splitreel_core::job::JobState;
use splitreel_core::profile::Profile;
use splitreel_core::source::SourceRef;
use splitreel_core::{Failure, FailureClass};
use std::fmt;
use utoipa::ToSchema;

/// A profile by name, or written out.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ProfileChoice {
    /// `name` (the newest version) or `name@3`.
    Name(String),
    /// The settings themselves.
    Inline(Box<Profile>),
}

impl<'de> Deserialize<'de> for ProfileChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// By hand: an untagged enum would not say which field of a profile is wrong.
        struct ByShape;

        impl<'de> Visitor<'de> for ByShape {
            type Value = ProfileChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a profile, or a profile")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<ProfileChoice, E> {
                Ok(ProfileChoice::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProfileChoice, A::Error> {
                let profile = Profile::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ProfileChoice::Inline(Box::new(profile)))
            }
        }

        deserializer.deserialize_any(ByShape)
    }
}

/// A job to be made. Exactly one of `source` and `upload` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobCreate {
    /// Where the source is: `s3://bucket/key`, or a path where the installation allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A finished upload, by its identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// Settings; `universal` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileChoice>,
    /// Class among the tenant's jobs.
    #[serde(default)]
    pub priority: Priority,
    /// Base name of output files; made from the source's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Decode the whole source once to list its frames, whatever the container says of them.
    #[serde(default)]
    pub deep_probe: bool,
    /// Number of the programme (service) of a multiplex, in place of the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programme: Option<u32>,
}

/// Why something failed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// Which budget it drew on.
    pub class: FailureClass,
    /// Stable word.
    pub code: String,
    /// One sentence: what is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The last words of ffmpeg, where it was involved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        FailureView {
            class: failure.class,
            code: failure.code.to_string(),
            message: failure.message.clone(),
            hint: failure.hint().to_owned(),
            evidence: failure.evidence.clone(),
        }
    }
}

/// Number of tasks by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskCounts {
    /// May start, or wait for their back-off.
    pub ready: u32,
    /// Run now.
    pub leased: u32,
    /// Done.
    pub done: u32,
    /// Failed or cancelled.
    pub ended: u32,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobProgress {
    /// 0 to 100, weighted by the tasks' expected cost; in lists, and for jobs of very many tasks, by their number.
    pub percent: f64,
    /// Media seconds per wall second of all running attempts together, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
    /// Seconds to go at the pace so far; absent while nothing can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
    /// Tasks that are not done.
    pub remaining: u32,
    /// Tasks by state; absent in lists and for jobs of very many tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskCounts>,
}

/// Why nothing of a job runs at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// `paused`, `planning`, `back_off`, `no_workers` or `queued`.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// When it may go on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Identifier.
    #[schema(value_type = uuid::Uuid)]
    pub id: JobId,
    /// Whose it is.
    pub tenant: String,
    /// State.
    pub state: JobState,
    /// No new attempt starts while it is set.
    pub is_paused: bool,
    /// Class among the tenant's jobs.
    pub priority: Priority,
    /// The pinned source.
    pub source: SourceRef,
    /// Name of the profile.
    pub profile: String,
    /// Base name of output files.
    pub base: String,
    /// How far it is.
    pub progress: JobProgress,
    /// Why nothing of it runs, if so; only where one job is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Where the presentation is copied to, if anywhere; only where one job is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputView>,
    /// Number of the plan: 0 until there is one, above 1 when the job was planned again.
    #[serde(default)]
    pub generation: u32,
    /// Why the job was last planned again, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replanned: Option<FailureView>,
    /// Hash of the plan, once planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    /// When it was accepted.
    pub created_ms: i64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
}

/// A copy of a presentation in another place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputView {
    /// The folder, or where it lies.
    pub location: String,
    /// Everything is there.
    pub is_done: bool,
    /// It was tried for too long and is not tried any more.
    pub is_given_up: bool,
    /// Why the last try failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A page of jobs, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A page of the event log, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The events.
    pub events: Vec<Event>,
    /// The `after` of the next page: also when this one is empty.
    pub next: i64,
}
