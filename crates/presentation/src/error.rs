//! Why a manifest cannot be written.

use splitreel_packaging::chunks::ChunkError;
use splitreel_packaging::dash::DashError;
use splitreel_packaging::presentation::InvalidPresentation;

/// Why a manifest cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A track has no finished part yet, and the manifest cannot be exact without one. Ask again later.
    #[error("track {track} has no finished part yet")]
    NotYet {
        /// Rendition identifier of the plan.
        track: String,
    },
    /// The plan has no track of this name.
    #[error("the plan has no track {track}")]
    UnknownTrack {
        /// The name.
        track: String,
    },
    /// The rows do not make up a presentation that may be written.
    #[error("the presentation has defects: {}", .0.defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(#[from] InvalidPresentation),
    /// The MPD could not be written.
    #[error(transparent)]
    Mpd(#[from] DashError),
    /// The job is not published, so that its chunk files do not exist.
    #[error("the job is not published")]
    NotPublished,
    /// The chunk files are not those of the parts.
    #[error("the chunk files do not hold the parts")]
    ChunksDiffer,
    /// The chunk manifest could not be written.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
}
