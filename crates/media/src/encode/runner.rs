//! Hands the arguments to ffmpeg and maps its ending to the domain.

use super::{AudioFacts, Spelling, Written, audio_args, video_args};
use crate::detect::Ffmpeg;
use crate::failure::{Context, from_run, unknown_encoder};
use crate::listen::{Listening, listen};
use crate::process::{Access, Limits, Output, ProgressSink, Run, RunError, Stdout, run};
use crate::scratch::{NeutralName, file_url};
use splitreel_core::levels::Heard;
use splitreel_core::plan::Plan;
use splitreel_core::profile::AudioCodec;
use splitreel_core::time::rescale;
use splitreel_core::{Failure, FailureCode, MediaTime};
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
    let files: Vec<PathBuf> = (0..renditions).map(|number| out_dir.join(Written::Track(number).file_name())).collect();
    let url = |written: Written| file_url(&out_dir.join(written.file_name()));
    let input = neutral_name(places)?;
    let args = video_args(Spelling::of(ffmpeg.version), plan, index, look_back, &input.url(), &url)?;
    let output = start(ffmpeg, args, places, limits, progress, cancel).await.map_err(|error| {
        from_run(&error, &Context { doing: &format!("encoding segment {index}"), directory: &out_dir })
    })?;
    Ok((files, output))
}

/// An encoded audio track.
pub(crate) struct EncodedAudio {
    pub(crate) file: PathBuf,
    pub(crate) facts: AudioFacts,
    /// `None` for a copy.
    pub(crate) heard: Option<Heard>,
    pub(crate) output: Output,
}

/// Encodes one audio track into one file, and measures it against the source.
pub(crate) async fn encode_audio(
    ffmpeg: &Ffmpeg,
    plan: &Plan,
    index: u32,
    places: &Places<'_>,
    limits: Limits,
    progress: ProgressSink,
    cancel: CancellationToken,
) -> Result<EncodedAudio, Failure> {
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
    let limits_to_listen = limits.clone();
    let failed = |error: RunError| {
        from_run(&error, &Context { doing: &format!("encoding audio track {index}"), directory: &out_dir })
    };
    let Some(decode) = args.decode else {
        let output = start(ffmpeg, args.write, places, limits, progress, cancel).await.map_err(failed)?;
        return Ok(EncodedAudio { file, facts: AudioFacts::default(), heard: None, output });
    };
    let (reader, writer) = std::io::pipe().map_err(|source| failed(not_piped(ffmpeg, source)))?;
    let mut decoding = process(ffmpeg, decode, &limits);
    decoding.stdout = Stdout::Pipe(writer);
    decoding.access.read.push(places.source.to_owned());
    let mut encoding = process(ffmpeg, args.write, &limits);
    encoding.stdin = Some(reader);
    encoding.stdout = Stdout::Progress(progress);
    encoding.access.write.push(places.out_dir.to_owned());
    let ends = tokio::join!(run(decoding, cancel.clone()), run(encoding, cancel.clone()));
    let (decoded, output) = joined(ends).map_err(failed)?;
    let facts = AudioFacts::of(&decoded.stderr_tail, &output.stderr_tail);
    let mut output = both(decoded, output);
    let heard = hear(ffmpeg, plan, index, (places.source, input.url()), &file, (limits_to_listen, cancel)).await?;
    output.cpu_ms = output.cpu_ms.saturating_add(heard.cpu_ms);
    output.wall_ms = output.wall_ms.saturating_add(heard.wall_ms);
    Ok(EncodedAudio { file, facts, heard: Some(heard.levels), output })
}

/// Levels of a track before and after its encode, with what the measurement took.
struct Hearing {
    levels: Heard,
    cpu_ms: u64,
    wall_ms: u64,
}

/// Measures the source's track and the encoded one, at the same time.
async fn hear(
    ffmpeg: &Ffmpeg,
    plan: &Plan,
    index: u32,
    (source, input): (&Path, OsString),
    file: &Path,
    (limits, cancel): (Limits, CancellationToken),
) -> Result<Hearing, Failure> {
    let missing = || Failure::of(FailureCode::PlanMismatch, format!("the plan has no audio track {index}"));
    let track = plan.whole_track(index).ok_or_else(missing)?;
    let audio = track.audio().ok_or_else(missing)?;
    let first = audio.source_start;
    let lead = rescale(audio.lead_silence.get(), track.timebase(), first.timebase);
    let origin = MediaTime::new(first.ticks.saturating_sub(lead), first.timebase);
    let clock = audio.clock.as_ref();
    let source = Listening { file: source, input, demuxer: &plan.demuxer, stream: track.source_stream, origin, clock };
    let (before, after) = tokio::try_join!(
        listen(ffmpeg, source, limits.clone(), cancel.clone()),
        listen(ffmpeg, Listening::to_output(file), limits, cancel),
    )?;
    Ok(Hearing {
        levels: Heard { source: before.0, output: after.0 },
        cpu_ms: before.1.cpu_ms.saturating_add(after.1.cpu_ms),
        wall_ms: before.1.wall_ms.max(after.1.wall_ms),
    })
}

/// The outcome of two processes joined by a pipe. A first process whose reader went away says only that, so the second
/// one's failure is the cause.
fn joined(ends: (Result<Output, RunError>, Result<Output, RunError>)) -> Result<(Output, Output), RunError> {
    match ends {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(first), Err(_)) if !lost_its_reader(&first) => Err(first),
        (_, Err(second)) => Err(second),
        (Err(first), Ok(_)) => Err(first),
    }
}

fn lost_its_reader(error: &RunError) -> bool {
    matches!(error, RunError::Killed { signal, .. } if *signal == libc::SIGPIPE)
        || error.tail().iter().any(|line| line.contains("Broken pipe"))
}

/// What two processes took that ran at the same time.
fn both(mut first: Output, second: Output) -> Output {
    first.stderr_tail.extend(second.stderr_tail);
    Output {
        cpu_ms: first.cpu_ms.saturating_add(second.cpu_ms),
        wall_ms: first.wall_ms.max(second.wall_ms),
        stderr_tail: first.stderr_tail,
        stdout: second.stdout,
        is_stopped: second.is_stopped,
    }
}

fn not_piped(ffmpeg: &Ffmpeg, source: std::io::Error) -> RunError {
    RunError::Spawn { program: ffmpeg.ffmpeg.clone(), source }
}

fn process(ffmpeg: &Ffmpeg, args: Vec<OsString>, limits: &Limits) -> Run {
    let mut process = Run::new(&ffmpeg.ffmpeg, args);
    process.limits = limits.clone();
    process.landlock = ffmpeg.landlock();
    process
}

async fn start(
    ffmpeg: &Ffmpeg,
    args: Vec<OsString>,
    places: &Places<'_>,
    limits: Limits,
    progress: ProgressSink,
    cancel: CancellationToken,
) -> Result<Output, RunError> {
    let mut encode = process(ffmpeg, args, &limits);
    encode.stdout = Stdout::Progress(progress);
    encode.access = Access { read: vec![places.source.to_owned()], write: vec![places.out_dir.to_owned()] };
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
