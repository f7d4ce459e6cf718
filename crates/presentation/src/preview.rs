//! The preview of a running job, for a directory: manifests of the full planned length whose missing media segments are
//! marked as gaps, and the objects that they name.

use crate::error::ManifestError;
use crate::rows::Rows;
use crate::view::{Manifest, manifests};
use splitreel_core::part::PresentationFile;
use splitreel_packaging::presentation::Form;

/// A preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Stored media objects under the paths that the manifests name.
    pub media: Vec<PresentationFile>,
    /// The manifests, in the order in which they should be written.
    pub manifests: Vec<Manifest>,
}

impl Preview {
    /// The preview of the rows; `None` until it can be played: the first segment of the video and every audio track
    /// are finished.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn of(rows: &Rows<'_>) -> Result<Option<Self>, ManifestError> {
        if rows.missing_for_preview().is_some() {
            return Ok(None);
        }
        let media = rows.tracks().iter().flat_map(|track| track.files().collect::<Vec<_>>()).collect();
        Ok(Some(Preview { media, manifests: manifests(rows, Form::Preview)? }))
    }
}
