//! The only crate that starts ffmpeg and ffprobe: detection, probe, argument builder, progress, sandbox.
