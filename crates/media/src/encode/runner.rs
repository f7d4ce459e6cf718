//! Hands the arguments to ffmpeg and maps its ending to the domain.

use super::{AudioFacts, Spelling, audio_args, video_args};
use crate::detect::Ffmpeg;
use crate::failure::{Context, from_run, unknown_encoder};
use crate::process::{Access, Limits, Output, ProgressSink, Run, Stdout, run};
use crate::scratch::{NeutralName, file_url};
use splitreel_core::plan::Plan;
use splitreel_core::profile::AudioCodec;
use splitreel_core::{Failure, FailureCode};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Where an encode reads and writes.
pub(crate) struct Places<'a> {
    pub(crate) source: &'a Path,
    pub(crate) out_dir: &'a Path,
    pub(crate) scratch: &'a Path,
}

/// Encodes one segment; one file per rendition, in the plan's order.
pub(crate) async fn encode_video(
    ffmpeg: &Ffmpeg,
    plan: &Plan,
    (index, look_back): (u32, u32),
    places: &Places<'_>,
    limits: Limits,
    progress: ProgressSink,
    cancel: CancellationToken,
) -> Result<(Vec<PathBuf>, Output), Failure> {
    let encodings = plan.video_tracks().filter_map(|(_, video)| video.coding.encoding());
    if let Some(missing) = encodings.map(|e| &e.encoder).find(|e| !ffmpeg.encoders.contains(*e)) {
        return Err(unknown_encoder(missing));
    }
    let renditions = plan.timeline_tracks().count();
    let out_dir = absolute(places.out_dir)?;
    let files: Vec<PathBuf> = (0..renditions).map(|number| out_dir.join(format!("video-{number}.mp4"))).collect();
    let outputs: Vec<OsString> = files.iter().map(|file| file_url(file)).collect();
    let input = neutral_name(places)?;
    let args = video_args(Spelling::of(ffmpeg.version), plan, index, look_back, &input.url(), &outputs)?;
    let output = start(ffmpeg, args, places, limits, progress, cancel).await.map_err(|error| {
        from_run(&error, &Context { doing: &format!("encoding segment {index}"), directory: &out_dir })
    })?;
    Ok((files, output))
}

/// Encodes one audio track into one file.
pub(crate) async fn encode_audio(
    ffmpeg: &Ffmpeg,
    plan: &Plan,
    index: u32,
    places: &Places<'_>,
    limits: Limits,
    progress: ProgressSink,
    cancel: CancellationToken,
) -> Result<(PathBuf, AudioFacts, Output), Failure> {
    let audio = plan.whole_track(index).and_then(|track| track.audio());
    let encoder = match audio.and_then(|audio| audio.coding.encoding()).map(|encoding| encoding.codec) {
        Some(AudioCodec::Aac) => "aac",
        Some(AudioCodec::Opus) => "libopus",
        Some(AudioCodec::Copy) | None => "",
    };
    if !encoder.is_empty() && !ffmpeg.encoders.contains(encoder) {
        return Err(unknown_encoder(encoder));
    }
    let out_dir = absolute(places.out_dir)?;
    let file = out_dir.join(format!("audio-{index}.mp4"));
    let input = neutral_name(places)?;
    let args = audio_args(plan, index, &input.url(), &file_url(&file))?;
    let output = start(ffmpeg, args, places, limits, progress, cancel).await.map_err(|error| {
        from_run(&error, &Context { doing: &format!("encoding audio track {index}"), directory: &out_dir })
    })?;
    let facts = AudioFacts::read(&output.stderr_tail);
    Ok((file, facts, output))
}

async fn start(
    ffmpeg: &Ffmpeg,
    args: Vec<OsString>,
    places: &Places<'_>,
    limits: Limits,
    progress: ProgressSink,
    cancel: CancellationToken,
) -> Result<Output, crate::process::RunError> {
    let mut encode = Run::new(&ffmpeg.ffmpeg, args);
    encode.stdout = Stdout::Progress(progress);
    encode.access = Access { read: vec![places.source.to_owned()], write: vec![places.out_dir.to_owned()] };
    encode.limits = limits;
    encode.landlock = ffmpeg.landlock();
    run(encode, cancel).await
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::of(FailureCode::ScratchUnusable, format!("{} is not usable: {error}", path.display()))
    })
}

fn neutral_name(places: &Places<'_>) -> Result<NeutralName, Failure> {
    NeutralName::new(places.scratch, places.source).map_err(|error| {
        let scratch = places.scratch.display();
        Failure::of(FailureCode::ScratchUnusable, format!("no link can be made in {scratch}: {error}"))
    })
}
