//! How much work probing may do.

use splitreel_core::profile::SourceProfile;
use std::time::Duration;

/// How hard to look.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// A source with at most this many pixels (width × height × frames) is decoded once, to be certain of its frames.
    pub scan_pixels: u64,
    /// With a mild doubt about the container's list (transport streams and the like), this many times as much is.
    /// A source with a strong doubt is decoded in any case.
    pub mild_doubt_factor: u64,
    /// Wall limit of one run over the source.
    pub scan_wall: Duration,
    /// Sources with more frames are cut there.
    pub max_frames: usize,
    /// The file has holes: only headers, tables and the first packets of each track are there. Where more would have
    /// to be read, probing fails with the code [`splitreel_core::FailureCode::NeedsWhole`].
    pub is_partial: bool,
    /// What is taken from the source.
    pub source: SourceProfile,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        ProbeOptions {
            // Some 100 frames of 1080p: no more time than the rest of probing takes.
            scan_pixels: 200_000_000,
            mild_doubt_factor: 10,
            scan_wall: Duration::from_secs(20 * 60),
            max_frames: 20_000_000,
            is_partial: false,
            source: SourceProfile::default(),
        }
    }
}
