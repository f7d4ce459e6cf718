//! What went wrong with an attempt, and which budget pays for another one. Codes come from one table, from which
//! messages, metrics and `docs/failures.md` take them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which budget a failure draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The machine, network or storage failed, not the media: short back-off, large budget.
    Infra,
    /// This attempt on this media failed (crash, mismatch): another worker, few attempts, long back-off.
    Media,
    /// No attempt can succeed: the job fails at once.
    Permanent,
    /// The source itself cannot be used (empty, encrypted, nothing decodable). Ends the job at once.
    Source,
}

impl FailureClass {
    /// The word used in SQL, API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureClass::Infra => "infra",
            FailureClass::Media => "media",
            FailureClass::Permanent => "permanent",
            FailureClass::Source => "source",
        }
    }

    /// What to do about a failure of which no more than its class is known.
    pub const fn hint(self) -> &'static str {
        match self {
            FailureClass::Infra => "machines, network or storage failed: retry the job once they are back",
            FailureClass::Media => "look at the evidence; a retry starts with fresh budgets and another worker",
            FailureClass::Permanent => "no attempt can succeed as it is: change the request, then make a new job",
            FailureClass::Source => "the source itself cannot be used: check or replace it, then make a new job",
        }
    }
}

macro_rules! codes {
    ($($name:ident $word:literal $class:ident $sentence:literal $hint:expr;)*) => {
        /// Kind of a failure, by a word that never changes its meaning.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum FailureCode {
            $(#[doc = $sentence] $name,)*
            /// A word that this version does not know: rows and reports of newer versions keep theirs.
            Unknown(String),
        }

        impl FailureCode {
            /// Every known code, in the order of the table.
            pub const ALL: &'static [FailureCode] = &[$(FailureCode::$name,)*];
            /// The words of [`FailureCode::label`].
            pub const LABELS: &'static [&'static str] = &[$($word,)* OTHER];

            /// The word in rows, reports and messages.
            pub fn as_str(&self) -> &str {
                match self {
                    $(FailureCode::$name => $word,)*
                    FailureCode::Unknown(word) => word,
                }
            }

            /// The word in metrics: one of a closed set.
            pub const fn label(&self) -> &'static str {
                match self {
                    $(FailureCode::$name => $word,)*
                    FailureCode::Unknown(_) => OTHER,
                }
            }

            /// The class that failures of this code have; `None` for unknown codes.
            pub const fn class(&self) -> Option<FailureClass> {
                match self {
                    $(FailureCode::$name => Some(FailureClass::$class),)*
                    FailureCode::Unknown(_) => None,
                }
            }

            /// One sentence, the same each time; empty for unknown codes.
            pub const fn sentence(&self) -> &'static str {
                match self {
                    $(FailureCode::$name => $sentence,)*
                    FailureCode::Unknown(_) => "",
                }
            }

            /// What to do, where more is known than the hint of the class says.
            pub const fn own_hint(&self) -> Option<&'static str> {
                match self {
                    $(FailureCode::$name => $hint,)*
                    FailureCode::Unknown(_) => None,
                }
            }
        }

        impl From<&str> for FailureCode {
            fn from(word: &str) -> Self {
                match word {
                    $($word => FailureCode::$name,)*
                    other => FailureCode::Unknown(other.to_owned()),
                }
            }
        }
    };
}

/// Metric label of codes that this version does not know.
const OTHER: &str = "other";
/// The piece held other frames than the plan lists. The same words for the attempt that leads to a new plan and for the
/// one that ends the job.
const OTHER_FRAMES: Option<&str> = Some(
    "the job is planned again once, from decoded frames; if it still fails, check or remux the source, then make a new job",
);
/// The file ends too early.
const UPLOAD_AGAIN: Option<&str> = Some("the upload or recording is incomplete: upload the source again");
/// A directory for scratch files is full or unusable.
const FREE_SPACE: Option<&str> = Some("free disk space or choose another scratch directory, then retry the job");

codes! {
    Cancelled "cancelled" Infra "The attempt was cancelled." None;
    HandedBack "handed_back" Infra "The process was asked to stop and returned the task." None;
    LeaseExpired "lease_expired" Infra "The worker did not renew its lease in time." None;
    WorkerLost "worker_lost" Infra "The worker is gone." None;
    WorkerThread "worker_thread" Infra "A thread of the worker failed." None;
    Scratch "scratch" Infra "Scratch files could not be read or written." FREE_SPACE;
    ScratchUnusable "scratch_unusable" Infra "The scratch directory is not usable." FREE_SPACE;
    NoSpace "no_space" Infra "No disk space is left." FREE_SPACE;
    IoError "io_error" Infra "ffmpeg could not read or write a file." None;
    OutOfMemory "out_of_memory" Infra "ffmpeg could not get memory or threads." Some("run fewer slots on this machine or give it more memory, then retry the job");
    FfmpegNotStarted "ffmpeg_not_started" Infra "ffmpeg could not be started." Some("check the installation with `splitreel doctor` on the worker");
    FfmpegKilled "ffmpeg_killed" Infra "ffmpeg was ended by a signal." Some("check whether the machine ran out of memory, then retry the job");
    Storage "storage" Infra "The object store did not answer or refused." None;
    PlanOutdated "plan_outdated" Infra "The plan was made by an older version; the job is planned again." None;
    Compose "compose" Infra "The object store could not join the parts of the MP4." None;
    PartDamaged "part_damaged" Infra "A stored part is not what its worker wrote." None;
    PartNotVisible "part_not_visible" Infra "A stored part cannot be read yet." None;
    NoGrant "no_grant" Infra "The URL of the source could not be signed." None;
    GrantExpired "grant_expired" Infra "The signed URL of the source has expired." None;
    NeedsWhole "needs_whole" Infra "A part of the source is not enough." None;
    RangeUnsupported "range_unsupported" Infra "The server of the source does not answer range requests." None;
    SourceAnswer "source_answer" Infra "The server of the source answered with other bytes than requested." None;
    SourceCheck "source_check" Infra "The version of the source could not be checked." None;
    SourceDamaged "source_damaged" Infra "The source arrived damaged." None;
    SourceRefused "source_refused" Infra "The server of the source refused the request." None;
    SourceUnavailable "source_unavailable" Infra "The server of the source does not answer." None;
    SourceUnreadable "source_unreadable" Infra "The file of the source could not be read." None;
    FfmpegFailed "ffmpeg_failed" Media "ffmpeg failed." None;
    TimeLimit "time_limit" Media "ffmpeg exceeded its time limit." None;
    OutputTooLarge "output_too_large" Media "ffmpeg's output exceeded its limit." None;
    OutputUnreadable "output_unreadable" Media "The encoder's output cannot be read." None;
    Renditions "renditions" Media "The encoder made another number of renditions than planned." None;
    NoAudio "no_audio" Media "The encoder made no audio." None;
    SamplesDiffer "samples_differ" Media "The encoder made other audio samples than the source has." None;
    FramesDiffer "frames_differ" Media "The encoder made another number of frames than the source has." OTHER_FRAMES;
    TimesDiffer "times_differ" Media "The times of the encoded frames differ from the source's." OTHER_FRAMES;
    NoKeyframe "no_keyframe" Media "A media segment does not start with a keyframe." OTHER_FRAMES;
    PicturesDiffer "pictures_differ" Media "The encoded pictures do not show what the source shows." None;
    OpenGop "open_gop" Media "A media segment holds frames of another one." None;
    SamplesLeft "samples_left" Media "Some samples belong to no media segment." None;
    Timescale "timescale" Media "The encoder's output has another timescale than planned." None;
    Timing "timing" Media "The times of the encoder's output cannot be kept." None;
    Fragment "fragment" Media "The encoder's output does not fit into a media segment." None;
    Priming "priming" Media "The encoder's output has too much priming." None;
    Packets "packets" Media "The encoder's output has fewer packets than its cut needs." None;
    Codec "codec" Media "The codec of the encoder's output cannot be described." None;
    Init "init" Media "No header can be made for the encoder's output." None;
    BadKey "bad_key" Permanent "The object store does not accept the name of an object." None;
    ContainerUnavailable "container_unavailable" Permanent "The container cannot be written yet." Some("choose another container in the profile, then make a new job");
    EncoderUnknown "encoder_unknown" Permanent "ffmpeg has no such encoder." Some("install an ffmpeg that has the encoder or choose another one; `splitreel doctor` lists what is there");
    NoProbe "no_probe" Permanent "The result of probing is missing." None;
    Packaging "packaging" Permanent "The parts cannot be packaged." None;
    PartsDiffer "parts_differ" Permanent "The stored parts are not those of the plan." None;
    Plan "plan" Permanent "The plan has no such segment or track." None;
    PlanMismatch "plan_mismatch" Permanent "The plan has no such segment or track for ffmpeg." None;
    ProfileInvalid "profile_invalid" Permanent "The profile has mistakes." Some("correct the profile, then make a new job");
    SourceInfo "source_info" Permanent "The result of probing cannot be stored or read." None;
    TooManyKeyframes "too_many_keyframes" Permanent "A segment has too many keyframes." Some("use longer media segments or shorter segments, then make a new job");
    WrongRole "wrong_role" Permanent "The task reached a process of another role." None;
    CopyUnsupported "copy_unsupported" Source "The source's streams cannot be copied into fMP4." Some("use a profile that re-encodes, then make a new job");
    DolbyVisionOnly "dolby_vision_only" Source "The video is Dolby Vision without a base layer that other players show." Some("copy it with the profile passthrough, or use a source with an HDR10 or HLG base layer, then make a new job");
    EmptyFile "empty_file" Source "The file is empty." UPLOAD_AGAIN;
    Encrypted "encrypted" Source "The media is encrypted." Some("use a copy without encryption, then make a new job");
    IsDirectory "is_directory" Source "The source is a directory." None;
    IsPlaylist "is_playlist" Source "The source is a playlist, not media." Some("name the media file itself, then make a new job");
    NoDecodableStream "no_decodable_stream" Source "No stream of the source can be decoded." None;
    NoProgramme "no_programme" Source "The source has no such programme." Some("ask for one of the source's programmes, or leave the choice open");
    NoFrames "no_frames" Source "The video track has no frames." None;
    NotAFile "not_a_file" Source "The source is not a regular file." None;
    NotFound "not_found" Source "The source does not exist." None;
    NotMedia "not_media" Source "The source is not media." None;
    NotReadable "not_readable" Source "The file cannot be read." Some("check the permissions of the file, then make a new job");
    NothingDecodable "nothing_decodable" Source "The source has no video and no audio to use." None;
    SourceChanged "source_changed" Source "The source changed after the job was submitted." Some("make a new job for the source as it is now");
    SourceNotFound "source_not_found" Source "The source does not exist." None;
    SourceUnusable "source_unusable" Source "The source cannot be used." None;
    Timebase "timebase" Source "The source's time base is too fine to be kept exactly." None;
    Truncated "truncated" Source "The source ends before its media." UPLOAD_AGAIN;
    UnsupportedContainer "unsupported_container" Source "The container of the source is not supported." Some("repack the source into mp4 or mkv, then make a new job");
    UnsupportedCodec "unsupported_codec" Source "ffmpeg has no decoder for the source's codec." Some("convert the source first, or install an ffmpeg that decodes it");
}

impl FailureCode {
    /// What to do about a failure of this code.
    pub fn hint(&self) -> &'static str {
        self.own_hint().or(self.class().map(FailureClass::hint)).unwrap_or("")
    }
}

impl From<String> for FailureCode {
    fn from(word: String) -> Self {
        Self::from(word.as_str())
    }
}

impl From<FailureCode> for String {
    fn from(code: FailureCode) -> Self {
        code.as_str().to_owned()
    }
}

impl PartialEq<&str> for FailureCode {
    fn eq(&self, word: &&str) -> bool {
        self.as_str() == *word
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed attempt, as kept on the attempt and shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failure {
    /// Which budget pays.
    pub class: FailureClass,
    /// Stable code, for example `frames_differ` or `encoder_unknown`.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub code: FailureCode,
    /// One sentence: what is wrong, and what to do where that is known.
    pub message: String,
    /// Bounded tail of ffmpeg's own words, empty when ffmpeg was not involved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl Failure {
    /// A failure of a known code, without ffmpeg evidence. An unknown code counts as permanent.
    pub fn of(code: FailureCode, message: impl Into<String>) -> Self {
        Self::with_class(code.class().unwrap_or(FailureClass::Permanent), code, message)
    }

    /// A failure whose class is not that of its code: reports of other versions, fakes of tests.
    pub fn with_class(class: FailureClass, code: FailureCode, message: impl Into<String>) -> Self {
        Failure { class, code, message: message.into(), evidence: Vec::new() }
    }

    /// What to do: by the code, or by the class where that is not the code's.
    pub fn hint(&self) -> &'static str {
        let is_as_usual = self.code.class() == Some(self.class);
        self.code.own_hint().filter(|_| is_as_usual).unwrap_or(self.class.hint())
    }

    /// Why a job is planned again whose plan has an older format version.
    pub fn outdated_plan(version: u32) -> Self {
        Self::of(
            FailureCode::PlanOutdated,
            format!("the plan has format version {version}, which this version of splitreel does not read"),
        )
    }

    /// A piece held other frames than the plan wanted: the container's list of them may be wrong, which one decode of
    /// the whole source would put right.
    pub fn may_be_of_the_frame_list(&self) -> bool {
        matches!(self.code, FailureCode::FramesDiffer | FailureCode::TimesDiffer | FailureCode::NoKeyframe)
    }

    /// The same failure with ffmpeg's last lines attached.
    #[must_use]
    pub fn with_evidence(mut self, lines: Vec<String>) -> Self {
        self.evidence = lines;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_a_word_of_its_own_with_a_sentence_and_a_hint() {
        let words: BTreeSet<&str> = FailureCode::ALL.iter().map(FailureCode::as_str).collect();
        assert_eq!(words.len(), FailureCode::ALL.len());
        for code in FailureCode::ALL {
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
            assert_eq!(FailureCode::from(code.as_str()), *code);
            assert!(code.sentence().ends_with('.') && !code.hint().is_empty(), "{code}");
            assert!(FailureCode::LABELS.contains(&code.label()), "{code}");
        }
    }

    #[test]
    fn rows_of_other_versions_keep_their_words() {
        let stored = r#"{"class":"media","code":"melted","message":"m"}"#;
        let failure: Failure = serde_json::from_str(stored).unwrap();
        assert_eq!(failure.code, FailureCode::Unknown("melted".into()));
        assert_eq!((failure.code.label(), failure.hint()), ("other", FailureClass::Media.hint()));
        assert_eq!(serde_json::to_string(&failure).unwrap(), stored);
        let known: Failure = serde_json::from_str(&stored.replace("melted", "frames_differ")).unwrap();
        assert!(known.may_be_of_the_frame_list() && known.code == FailureCode::FramesDiffer);
    }
}
