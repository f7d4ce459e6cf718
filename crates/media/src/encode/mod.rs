//! Encoding: pure argument builders, and the runner that starts ffmpeg with them. Checks no output: the caller parses
//! the files and compares them with the plan.

mod audio_args;
mod encoder;
mod facts;
mod graph;
mod input;
mod runner;
mod stamps;
mod video_args;

pub(crate) use audio_args::is_packed;
pub use audio_args::{AudioArgs, AudioTuning, PacketTimes, audio_args};
pub use facts::AudioFacts;
pub(crate) use facts::formats;
pub(crate) use graph::shrink;
pub(crate) use input::Seeking;
pub use input::Spelling;
pub(crate) use input::{PULLED_BACK_US, WELL_BEFORE_US, decoder_options, has_seek_room, input_options, seconds};
pub(crate) use runner::{EncodedAudio, Places, encode_audio, encode_video};
pub(crate) use stamps::sound_filter;
pub use video_args::{Written, video_args};
pub(crate) use video_args::{reference_args, references};

use splitreel_core::{Failure, FailureCode};

/// Reason why no arguments can be built from a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// The plan has no such segment or track.
    #[error("the plan has no {what} {index}")]
    NoSuchTask {
        /// `video segment` or `audio track`.
        what: &'static str,
        /// The number asked for.
        index: u32,
    },
    /// An encoder without an argument builder.
    #[error("encoder {name:?} is not supported")]
    UnknownEncoder {
        /// Its name.
        name: String,
    },
    /// A kind of media that no encoder makes.
    #[error("no encoder makes {kind} tracks")]
    UnknownMedia {
        /// The kind.
        kind: &'static str,
    },
    /// A segment has more planned keyframes than a command line holds.
    #[error("{count} planned keyframes do not fit on a command line")]
    TooManyKeyframes {
        /// How many.
        count: usize,
    },
}

impl From<ArgsError> for Failure {
    fn from(error: ArgsError) -> Self {
        match &error {
            ArgsError::UnknownEncoder { name } => Failure::of(
                FailureCode::EncoderUnknown,
                format!(
                    "encoder {name:?} is not supported: use libx264, libx265, libvpx-vp9, libsvtav1 or libaom-av1, as far as `ffmpeg -encoders` lists them"
                ),
            ),
            ArgsError::NoSuchTask { .. } | ArgsError::UnknownMedia { .. } => {
                Failure::of(FailureCode::PlanMismatch, error.to_string())
            }
            ArgsError::TooManyKeyframes { .. } => Failure::of(
                FailureCode::TooManyKeyframes,
                format!("{error}: use longer media segments or shorter segments"),
            ),
        }
    }
}
