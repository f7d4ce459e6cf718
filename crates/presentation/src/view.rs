//! One manifest of a presentation, in one form, as text.
//!
//! | manifest | [`Form::Planned`] needs | [`Form::Preview`] needs | [`Form::Final`] needs |
//! |---|---|---|---|
//! | media playlist of a video track | the plan | the first segment and every audio track | all parts |
//! | media playlist of an audio track | the part of that track | the same | all parts |
//! | multivariant playlist, MPD | one part of every track, for its codec string | the same | all parts |
//! | chunk manifest | never there | never there | the catalogue |
//!
//! A codec string is read from the encoder's own header: profile, tier and constraint flags depend on the encoder and
//! its preset, not on the plan alone.

use crate::chunks;
use crate::error::ManifestError;
use crate::model::model;
use crate::rows::Rows;
use splitreel_core::MediaKind;
use splitreel_packaging::chunks::{CHUNK_MANIFEST_NAME, chunk_folder};
use splitreel_packaging::presentation::{Form, MPD_NAME, MULTIVARIANT_NAME, media_playlist_path};
use splitreel_packaging::{dash, hls};

/// Name of one manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestName<'a> {
    /// HLS multivariant playlist.
    Multivariant,
    /// HLS media playlist of a track.
    Media {
        /// Kind of media of the track.
        kind: MediaKind,
        /// Rendition identifier of the plan.
        track: &'a str,
    },
    /// MPEG-DASH MPD.
    Mpd,
    /// Manifest of the chunk set whose files have this base name.
    Chunks {
        /// Base name.
        base: &'a str,
    },
}

impl<'a> ManifestName<'a> {
    /// The manifest that lies at a path of the presentation of a plan; `None` when there is none.
    pub fn at(path: &str, rows: &Rows<'a>) -> Option<Self> {
        match path {
            MULTIVARIANT_NAME => Some(Self::Multivariant),
            MPD_NAME => Some(Self::Mpd),
            _ => {
                let media = rows.tracks().into_iter().map(|track| Self::Media { kind: track.kind, track: track.id });
                let chunks = rows.published.map(|(base, _)| Self::Chunks { base });
                media.chain(chunks).find(|name| name.path() == path)
            }
        }
    }

    /// Path relative to the presentation's root.
    pub fn path(self) -> String {
        match self {
            Self::Multivariant => MULTIVARIANT_NAME.to_owned(),
            Self::Media { kind, track } => media_playlist_path(kind, track),
            Self::Mpd => MPD_NAME.to_owned(),
            Self::Chunks { base } => format!("{}/{CHUNK_MANIFEST_NAME}", chunk_folder(base).unwrap_or_default()),
        }
    }
}

/// A manifest and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Path relative to the presentation's root.
    pub path: String,
    /// UTF-8 text.
    pub text: String,
}

/// One manifest of a presentation. The same rows give the same bytes.
///
/// # Errors
/// [`ManifestError`]; [`ManifestError::NotYet`] while the rows do not suffice.
pub fn manifest(rows: &Rows<'_>, name: ManifestName<'_>, form: Form) -> Result<String, ManifestError> {
    ready(rows, name, form)?;
    let model = model(rows, form);
    let checked = model.check(form)?;
    match name {
        ManifestName::Multivariant => Ok(hls::multivariant_playlist(&checked)),
        ManifestName::Mpd => Ok(dash::mpd(&checked)?),
        ManifestName::Media { kind, track } => {
            let found = model.tracks.iter().find(|t| t.format.kind() == kind && t.id == track);
            let found = found.ok_or_else(|| ManifestError::UnknownTrack { track: track.to_owned() })?;
            Ok(hls::media_playlist(&checked, found))
        }
        ManifestName::Chunks { .. } => {
            let (base, catalogue) =
                rows.published.filter(|_| form == Form::Final).ok_or(ManifestError::NotPublished)?;
            chunks::published_manifest(rows, base, catalogue)?.ok_or(ManifestError::ChunksDiffer)
        }
    }
}

/// All manifests but that of the chunk set, in the order in which a directory should be written, so that a reader who sees one
/// can already read what it names: MPD, media playlists, multivariant playlist.
///
/// # Errors
/// [`ManifestError`].
pub fn manifests(rows: &Rows<'_>, form: Form) -> Result<Vec<Manifest>, ManifestError> {
    ready(rows, ManifestName::Multivariant, form)?;
    let model = model(rows, form);
    let checked = model.check(form)?;
    let mpd = Manifest { path: MPD_NAME.to_owned(), text: dash::mpd(&checked)? };
    let playlists = hls::playlists(&checked).into_iter();
    let playlists = playlists.map(|playlist| Manifest { path: playlist.path, text: playlist.text });
    Ok([mpd].into_iter().chain(playlists).collect())
}

/// Whether the rows suffice for a manifest.
fn ready(rows: &Rows<'_>, name: ManifestName<'_>, form: Form) -> Result<(), ManifestError> {
    let missing = match (form, name) {
        (Form::Planned, ManifestName::Media { kind: MediaKind::Video, .. }) => None,
        (Form::Planned, ManifestName::Media { track, .. }) => {
            rows.tracks().into_iter().find(|t| t.id == track && t.init.is_none()).map(|t| t.id)
        }
        (Form::Planned, _) => rows.tracks().into_iter().find(|t| t.init.is_none()).map(|t| t.id),
        (Form::Preview, _) => rows.missing_for_preview(),
        (Form::Final, _) => None,
    };
    missing.map_or(Ok(()), |track| Err(ManifestError::NotYet { track: track.to_owned() }))
}
