//! Shapes of domain types for the OpenAPI document, which the domain itself does not know. No value of these types
//! is ever made; a test holds them against what the domain types serialise to.

use utoipa::ToSchema;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $($(#[$word_doc:meta])* $word:ident),* $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, serde::Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $(#[doc = stringify!($word)] $word,)* }
    };
}

words!(
    /// State of a job.
    JobState: Probing, Planning, Running, Published, Failed, Cancelled
);
words!(
    /// State of a task.
    TaskState: Blocked, Ready, Leased, Done, Failed, Cancelled
);
words!(
    /// What a task does.
    TaskKind: Probe, Whole, Segment, Audio, Assemble
);
words!(
    /// Class among a tenant's jobs.
    Priority: Low, Normal, High
);
words!(
    /// Which budget a failure draws on.
    FailureClass: Infra, Media, Permanent, Source
);
words!(
    /// Output video codec.
    VideoCodec: H264, Hevc, Vp9, Av1, Copy
);
words!(
    /// Output audio codec.
    AudioCodec: Aac, Opus, Copy
);
words!(
    /// Pixel format policy.
    PixelFormat: Yuv420p, Auto420, Source
);
words!(
    /// Frame rate that follows the source's.
    FrameRateWord: Source, Half
);
words!(
    /// Container of media segments.
    ContainerRule: Auto, Fmp4, Mpegts
);
words!(
    /// What happened.
    EventKind: Submitted, Planned, Claimed, TaskDone, TaskRetried, Failed, Published, Cancelled, Retried, Paused,
    Resumed
);

/// A pinned source.
#[derive(Clone, Debug, ToSchema)]
pub struct SourceRef {
    /// Where it is.
    pub locator: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Which version of it.
    pub version: String,
}

/// A failed attempt.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct Failure {
    /// Which budget pays.
    pub class: FailureClass,
    /// Stable word.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The last words of ffmpeg.
    pub evidence: Option<Vec<String>>,
}

/// One row of the event log. What the event is about depends on its word.
#[derive(Clone, Debug, ToSchema)]
pub struct Event {
    /// Position in the log, strictly increasing over all jobs.
    pub seq: i64,
    /// The job.
    pub job: uuid::Uuid,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// What happened.
    pub event: EventKind,
    /// Task number.
    pub task: Option<u32>,
    /// Kind of the task.
    pub kind: Option<TaskKind>,
    /// Index into the plan's list.
    pub index: Option<u32>,
    /// Attempt number.
    pub attempt: Option<u32>,
    /// Who.
    pub worker: Option<String>,
    /// Why.
    pub failure: Option<Failure>,
    /// Earliest start of the next attempt.
    pub not_before_ms: Option<i64>,
    /// Tasks of the plan.
    pub num_tasks: Option<u32>,
}

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

/// Names a task.
#[derive(Clone, Debug, ToSchema)]
pub struct TaskId {
    /// The job.
    pub job: uuid::Uuid,
    /// Number in the job.
    pub number: u32,
}

/// How far an attempt is.
#[derive(Clone, Debug, ToSchema)]
pub struct Progress {
    /// 0 to 1000.
    pub done_per_mille: u16,
    /// Media seconds per wall second × 1000; 0 when unknown.
    pub speed_milli: u32,
    /// Frames or packets so far.
    pub frames: u64,
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

/// Named settings: source in, presentation out.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct Profile {
    /// Name: letters, digits, `-`, `_`.
    pub name: String,
    /// One plain sentence for people.
    #[schema(required = false)]
    pub description: String,
    /// Video settings.
    #[schema(required = false)]
    pub video: VideoProfile,
    /// Audio settings.
    #[schema(required = false)]
    pub audio: AudioProfile,
    /// Packaging settings.
    #[schema(required = false)]
    pub packaging: PackagingProfile,
    /// How the source is split.
    #[schema(required = false)]
    pub split: SplitProfile,
}

/// A profile by name (`name`, `name@3`), or written out.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum ProfileChoice {
    /// Its name.
    Name(String),
    /// The settings.
    Inline(Profile),
}

/// Video settings of a profile.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct VideoProfile {
    /// Codec.
    #[schema(required = false)]
    pub codec: VideoCodec,
    /// Encoder by ffmpeg's name; empty picks one for the codec.
    #[schema(required = false)]
    pub encoder: String,
    /// Encoder preset.
    #[schema(required = false)]
    pub preset: String,
    /// Seconds between keyframes.
    #[schema(required = false)]
    pub gop_seconds: f64,
    /// Pixel format.
    #[schema(required = false)]
    pub pixel_format: PixelFormat,
    /// The ladder, best first.
    #[schema(required = false)]
    pub rungs: Vec<Rung>,
    /// Allow rungs larger than the source.
    #[schema(required = false)]
    pub upscale: bool,
}

/// Height of a rung: pixels, or the word `source`.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum RungHeight {
    /// Height class in pixels.
    Pixels(u32),
    /// `source`: the source's own size.
    Named(String),
}

/// One entry of the ladder; exactly one of `crf` and `qp`.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct Rung {
    /// Height class.
    pub height: RungHeight,
    /// Constant rate factor.
    pub crf: Option<f64>,
    /// Constant quantiser.
    pub qp: Option<u32>,
    /// Cap in kbit/s; 0 follows the source's own rate.
    pub max_kbps: Option<u32>,
    /// Codec of this rung.
    pub codec: Option<VideoCodec>,
    /// Encoder of this rung by ffmpeg's name; only with `codec`.
    pub encoder: Option<String>,
    /// Preset of this rung.
    pub preset: Option<String>,
    /// Seconds between keyframes of this rung.
    pub gop_seconds: Option<f64>,
    /// Pixel format of this rung.
    pub pixel_format: Option<PixelFormat>,
    /// Frame rate of this rung.
    pub fps: Option<FrameRate>,
}

/// Frame rate of a rung: frames per second, `half` or `source`.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum FrameRate {
    /// Frames per second.
    Number(f64),
    /// `half`: every second frame; `source`: every frame.
    Named(FrameRateWord),
}

/// Audio settings of a profile.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct AudioProfile {
    /// Codec.
    #[schema(required = false)]
    pub codec: AudioCodec,
    /// kbit/s for mono and stereo; 0 = automatic.
    #[schema(required = false)]
    pub kbps: u32,
    /// Channels kept at most.
    #[schema(required = false)]
    pub max_channels: u16,
}

/// Packaging settings of a profile.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct PackagingProfile {
    /// Container of media segments.
    #[schema(required = false)]
    pub container: ContainerRule,
    /// Target seconds of a media segment.
    #[schema(required = false)]
    pub media_segment_seconds: f64,
    /// Make the progressive MP4.
    #[schema(required = false)]
    pub progressive: bool,
    /// Size of chunk-set entries in MiB, 16 to 128; 0 = no chunk set.
    #[schema(required = false)]
    pub chunk_mb: u32,
    /// Keep the single MP4 beside the chunk set.
    #[schema(required = false)]
    pub keep_full: bool,
}

/// How the source is split into segments.
#[derive(Clone, Debug, serde::Serialize, ToSchema)]
pub struct SplitProfile {
    /// Seconds per segment; 0 = auto.
    #[schema(required = false)]
    pub segment_seconds: f64,
    /// In auto mode, sources shorter than this many seconds run whole.
    #[schema(required = false)]
    pub whole_below_seconds: f64,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use splitreel_core::profile::Profile;
    use std::collections::BTreeSet;
    use utoipa::PartialSchema;

    fn shape<T: PartialSchema>() -> Value {
        serde_json::to_value(T::schema()).unwrap()
    }

    fn fields(shape: &Value) -> BTreeSet<String> {
        shape["properties"].as_object().unwrap().keys().cloned().collect()
    }

    fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_profile_has_the_fields_of_the_domain() {
        let mut profile = serde_json::to_value(Profile::built_in("universal").unwrap()).unwrap();
        assert_eq!(fields(&shape::<super::Profile>()), keys(&profile));
        assert_eq!(fields(&shape::<super::VideoProfile>()), keys(&profile["video"]));
        assert_eq!(fields(&shape::<super::AudioProfile>()), keys(&profile["audio"]));
        assert_eq!(fields(&shape::<super::PackagingProfile>()), keys(&profile["packaging"]));
        assert_eq!(fields(&shape::<super::SplitProfile>()), keys(&profile["split"]));
        let rung = &mut profile["video"]["rungs"][0];
        for field in ["qp", "codec", "encoder", "preset", "gop_seconds", "pixel_format", "fps"] {
            rung[field] = json!(null);
        }
        assert!(serde_json::from_value::<splitreel_core::profile::Rung>(rung.clone()).is_ok());
        assert_eq!(fields(&shape::<super::Rung>()), keys(rung));
    }

    /// Every word of a shape is understood by the domain type.
    fn words<S: PartialSchema, T: serde::de::DeserializeOwned>() {
        let shape = shape::<S>();
        let words = shape["enum"].as_array().unwrap();
        assert!(!words.is_empty());
        for word in words {
            assert!(serde_json::from_value::<T>(word.clone()).is_ok(), "{word}");
        }
    }

    #[test]
    fn words_are_those_of_the_domain() {
        use splitreel_core::{fair, job, profile, task};
        words::<super::JobState, job::JobState>();
        words::<super::TaskState, task::TaskState>();
        words::<super::TaskKind, task::TaskKind>();
        words::<super::Priority, fair::Priority>();
        words::<super::FailureClass, splitreel_core::FailureClass>();
        words::<super::VideoCodec, profile::VideoCodec>();
        words::<super::AudioCodec, profile::AudioCodec>();
        words::<super::PixelFormat, profile::PixelFormat>();
        words::<super::FrameRateWord, profile::FrameRateWord>();
        words::<super::ContainerRule, profile::ContainerRule>();
    }
}
