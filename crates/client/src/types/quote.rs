//! What a job will cost, before it is made.

use super::ProfileChoice;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What to quote. Without `duration_seconds` the source's length is guessed from its size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteRequest {
    /// Where the source is; its size is looked at, nothing else. Not needed when a duration is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Settings; `universal` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileChoice>,
    /// Length of the source in seconds, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Height of the source's picture in pixels, if known; 1080 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Frames per second, if known; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<f64>,
}

/// What a quote rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuoteBasis {
    /// The length was guessed from the size.
    Size,
    /// The length was given.
    Duration,
}

/// A range that the true value is likely to be in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Span {
    /// Not likely less.
    pub low: f64,
    /// Not likely more.
    pub high: f64,
}

/// A quote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quote {
    /// What it rests on.
    pub basis: QuoteBasis,
    /// The same in sentences, with every assumption.
    pub assumptions: Vec<String>,
    /// Length of the source in seconds.
    pub duration_seconds: Span,
    /// Video outputs that are expected.
    pub renditions: u32,
    /// CPU seconds of all encodes together.
    pub cpu_seconds: Span,
    /// Bytes of the presentation.
    pub output_bytes: Span,
}
