//! The only crate that starts ffmpeg and ffprobe: detection, confinement, probing, encoding.
//!
//! Workers use [`Toolkit`]; [`FfmpegToolkit`] implements it over single runs of [`Ffmpeg`]. Nothing here plans, packages or
//! stores: the plan defines the output, the result is plain MP4 files in a scratch directory. An exit code of 0 is not
//! proof: callers count and compare the frames of the output.

mod again;
mod content;
mod detect;
mod encode;
mod failure;
mod listen;
pub mod piece;
mod probe;
mod process;
mod programs;
mod request;
mod scratch;
mod toolkit;

pub use detect::{DetectError, Ffmpeg, ToolPaths, Version};
pub use encode::{
    ArgsError, AudioArgs, AudioFacts, AudioTuning, PacketTimes, Spelling, Written, audio_args, video_args,
};
pub use probe::ProbeOptions;
pub use process::{Access, Limits, Output, Progress, ProgressSink, Run, RunError, Sandbox, Stdout, run};
pub use request::{AudioFile, AudioRequest, Effort, Encoded, ProbeRequest, Probed, Request, VideoFiles, VideoRequest};
pub use toolkit::{ENCODED_PER_MILLE, FfmpegToolkit, Toolkit, clear_scratch};
