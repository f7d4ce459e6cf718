//! The only crate that starts ffmpeg and ffprobe: detection, confinement, probing, encoding.
//!
//! Workers use [`Toolkit`]; [`FfmpegToolkit`] implements it. Nothing here plans, packages or stores: the plan defines the
//! output, the result is plain MP4 files in a directory of the caller. An exit code of 0 is not proof: callers count and
//! compare the frames of the output.

mod detect;
mod encode;
mod failure;
pub mod piece;
mod probe;
mod process;
mod scratch;
mod toolkit;

pub use detect::{DetectError, Ffmpeg, ToolPaths, Version};
pub use encode::{ArgsError, AudioFacts, Spelling, audio_args, video_args};
pub use probe::ProbeOptions;
pub use process::{Access, Limits, Output, Progress, ProgressSink, Run, RunError, Sandbox, Stdout, run};
pub use toolkit::{
    AudioFile, AudioRequest, Effort, FfmpegToolkit, ProbeRequest, Probed, Toolkit, VideoFiles, VideoRequest,
};
