//! What went wrong with an attempt, and which budget pays for another one.

use serde::{Deserialize, Serialize};

/// Which budget a failure draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// A failed attempt, as kept on the attempt and shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which budget pays.
    pub class: FailureClass,
    /// Stable code, for example `frames_missing` or `encoder_unknown`.
    pub code: String,
    /// One sentence: what is wrong, and what to do where that is known.
    pub message: String,
    /// Bounded tail of ffmpeg's own words, empty when ffmpeg was not involved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl Failure {
    /// A failure without ffmpeg evidence.
    pub fn new(class: FailureClass, code: &str, message: impl Into<String>) -> Self {
        Failure { class, code: code.to_owned(), message: message.into(), evidence: Vec::new() }
    }

    /// A piece held other frames than the plan wanted: the container's list of them may be wrong, which one decode of
    /// the whole source would put right.
    pub fn may_be_of_the_frame_list(&self) -> bool {
        matches!(self.code.as_str(), "frames_differ" | "times_differ" | "no_keyframe")
    }

    /// Shorthand for [`FailureClass::Infra`].
    pub fn infra(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Infra, code, message)
    }

    /// Shorthand for [`FailureClass::Media`].
    pub fn media(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Media, code, message)
    }

    /// Shorthand for [`FailureClass::Permanent`].
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Permanent, code, message)
    }

    /// Shorthand for [`FailureClass::Source`].
    pub fn source(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Source, code, message)
    }

    /// The same failure with ffmpeg's last lines attached.
    #[must_use]
    pub fn with_evidence(mut self, lines: Vec<String>) -> Self {
        self.evidence = lines;
        self
    }
}
