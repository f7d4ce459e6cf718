//! The model that every manifest is written from, its paths and its exact clock arithmetic.
//!
//! Owns the data types (`model`), the layout of files (`paths`), the groups that players choose from (`groups`), the
//! check that makes a model safe to write (`check`) and the bit rates measured from it (`bitrate`). Must not know any
//! manifest syntax and must not touch media bytes, files or clocks.

pub mod bitrate;
pub mod check;
mod groups;
mod model;
mod paths;

pub use check::{Checked, Defect, Form, InvalidPresentation};
pub(crate) use groups::{default_audio, menu_names, sample_entry_code, switching_sets};
pub use model::{
    AudioFormat, MediaFormat, MediaSegment, MediaTrack, Presentation, TargetDuration, VideoFormat, micros,
};
pub(crate) use paths::{CHUNK_FOLDER_END, percent_encode, relative_uri};
pub use paths::{
    CHUNK_MANIFEST_NAME, MEDIA_PLAYLIST_NAME, MPD_NAME, MULTIVARIANT_NAME, REPORT_NAME, init_path,
    is_presentation_folder, is_presentation_path, is_safe_path, media_playlist_path, segment_path,
};

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
