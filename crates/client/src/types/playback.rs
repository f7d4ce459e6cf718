//! Files of a published presentation, and links that play without a token.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One file of a presentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Path in the presentation.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, lower-case hex.
    pub sha256: String,
    /// Media type.
    pub content_type: String,
}

/// All files of a presentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileList {
    /// By path.
    pub files: Vec<FileView>,
    /// Hash over paths and contents.
    pub hash: String,
}

/// A playback link to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlaybackCreate {
    /// How long it lasts in seconds, 1 to 604800; 3600 when absent.
    pub ttl_seconds: Option<u32>,
}

/// A signed link below which the files of a presentation can be read until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlaybackGrant {
    /// The link, with a `/` at its end: a path where the server knows no public address of its own. Relative names in
    /// manifests resolve below it.
    pub base: String,
    /// The HLS multivariant playlist, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hls: Option<String>,
    /// The DASH manifest, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dash: Option<String>,
    /// The progressive MP4, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mp4: Option<String>,
    /// When it expires.
    pub expires_ms: i64,
}
