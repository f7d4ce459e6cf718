//! Hands the arguments to ffmpeg and maps its ending to the domain.

use super::{AudioArgs, AudioFacts, AudioTuning, PacketTimes, Spelling, Written, audio_args, is_packed, video_args};
use crate::detect::Ffmpeg;
use crate::failure::{Context, from_run, unknown_encoder};
use crate::listen::{Listening, listen};
use crate::process::{Access, Limits, Output, ProgressSink, Run, RunError, Stdout, run};
use crate::scratch::{NeutralName, file_url};
use splitreel_core::assembly::sound::MIX_PEAK;
use splitreel_core::clock::TrackClock;
use splitreel_core::levels::{Heard, Levels};
use splitreel_core::plan::{AudioOp, Plan};
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
    let args = |tuning| audio_args(plan, index, tuning, &input.url(), &file_url(&file));
    let failed = |error: RunError| {
        from_run(&error, &Context { doing: &format!("encoding audio track {index}"), directory: &out_dir })
    };
    let mut tuning = AudioTuning::default();
    let first = args(tuning)?;
    if first.decode.is_none() {
        let output = start(ffmpeg, first.write, places, limits, progress, cancel).await.map_err(failed)?;
        return Ok(EncodedAudio { file, facts: AudioFacts::default(), heard: None, output });
    }
    let mut hearing = Hearing::of(plan, index, (places.source, input.url()))?;
    let mut spent = (0_u64, 0_u64);
    for try_number in 1.. {
        let job = Piped { ffmpeg, places, limits: &limits, progress: &progress, cancel: &cancel };
        let (decoded, output) = job.run(args(tuning)?).await.map_err(failed)?;
        let facts = AudioFacts::of(&decoded.stderr_tail, &output.stderr_tail);
        let mut output = both(decoded, output);
        (spent.0, spent.1) = (spent.0.saturating_add(output.cpu_ms), spent.1.saturating_add(output.wall_ms));
        let has_more = try_number < MAX_TRIES;
        if has_more && tuning.times == PacketTimes::Computed && is_packed(&plan.demuxer) && changes_rate(&facts) {
            tuning.times = PacketTimes::Counted;
            continue;
        }
        let cost = hearing.hear(ffmpeg, tuning.times, &file, (&limits, &cancel)).await?;
        (spent.0, spent.1) = (spent.0.saturating_add(cost.0), spent.1.saturating_add(cost.1));
        let excess = hearing.excess(plan, index);
        if has_more && excess > 0 {
            tuning.ceiling = tuning.ceiling.saturating_sub(excess).saturating_sub(CEILING_MARGIN);
            continue;
        }
        (output.cpu_ms, output.wall_ms) = spent;
        return Ok(EncodedAudio { file, facts, heard: hearing.levels(), output });
    }
    Err(Failure::of(FailureCode::NoAudio, "no audio came out"))
}

/// Encodes of one track: times and ceiling are corrected by what was heard, see [`AudioTuning`].
const MAX_TRIES: u32 = 6;

/// What a ceiling is lowered by beyond the excess that was heard, in tenths of a decibel.
const CEILING_MARGIN: i16 = 5;

/// Whether the sample rate of the source's track changes on the way.
fn changes_rate(facts: &AudioFacts) -> bool {
    facts.formats.iter().zip(facts.formats.iter().skip(1)).any(|(a, b)| a.sample_rate != b.sample_rate)
}

/// The two processes of an encode.
struct Piped<'a> {
    ffmpeg: &'a Ffmpeg,
    places: &'a Places<'a>,
    limits: &'a Limits,
    progress: &'a ProgressSink,
    cancel: &'a CancellationToken,
}

impl Piped<'_> {
    async fn run(&self, args: AudioArgs) -> Result<(Output, Output), RunError> {
        let (reader, writer) = std::io::pipe().map_err(|source| not_piped(self.ffmpeg, source))?;
        let mut decoding = process(self.ffmpeg, args.decode.unwrap_or_default(), self.limits);
        decoding.stdout = Stdout::Pipe(writer);
        decoding.access.read.push(self.places.source.to_owned());
        let mut encoding = process(self.ffmpeg, args.write, self.limits);
        encoding.stdin = Some(reader);
        encoding.stdout = Stdout::Progress(self.progress.clone());
        encoding.access.write.push(self.places.out_dir.to_owned());
        joined(tokio::join!(run(decoding, self.cancel.clone()), run(encoding, self.cancel.clone())))
    }
}

/// Levels of a track before and after its encode.
struct Hearing<'a> {
    source: (&'a Path, OsString),
    demuxer: &'a str,
    stream: u32,
    origin: MediaTime,
    clock: Option<&'a TrackClock>,
    before: Option<Levels>,
    after: Option<Levels>,
}

impl<'a> Hearing<'a> {
    fn of(plan: &'a Plan, index: u32, source: (&'a Path, OsString)) -> Result<Self, Failure> {
        let missing = || Failure::of(FailureCode::PlanMismatch, format!("the plan has no audio track {index}"));
        let track = plan.whole_track(index).ok_or_else(missing)?;
        let audio = track.audio().ok_or_else(missing)?;
        let first = audio.source_start;
        let lead = rescale(audio.lead_silence.get(), track.timebase(), first.timebase);
        Ok(Hearing {
            source,
            demuxer: &plan.demuxer,
            stream: track.source_stream,
            origin: MediaTime::new(first.ticks.saturating_sub(lead), first.timebase),
            clock: audio.clock.as_ref(),
            before: None,
            after: None,
        })
    }

    /// Measures the encoded track, and at the same time the source's when that is not done yet. Returns CPU and wall
    /// milliseconds.
    async fn hear(
        &mut self,
        ffmpeg: &Ffmpeg,
        times: PacketTimes,
        file: &Path,
        (limits, cancel): (&Limits, &CancellationToken),
    ) -> Result<(u64, u64), Failure> {
        let after = listen(ffmpeg, Listening::to_output(file), limits.clone(), cancel.clone());
        if self.before.is_some() {
            let (levels, output) = after.await?;
            self.after = Some(levels);
            return Ok((output.cpu_ms, output.wall_ms));
        }
        let source = Listening {
            file: self.source.0,
            input: self.source.1.clone(),
            demuxer: self.demuxer,
            stream: self.stream,
            origin: self.origin,
            clock: self.clock,
            times,
        };
        let before = listen(ffmpeg, source, limits.clone(), cancel.clone());
        let ((before, first), (after, second)) = tokio::try_join!(before, after)?;
        (self.before, self.after) = (Some(before), Some(after));
        Ok((first.cpu_ms.saturating_add(second.cpu_ms), first.wall_ms.max(second.wall_ms)))
    }

    /// What the true peak of a mix is above the highest one that is published, in tenths of a decibel.
    fn excess(&self, plan: &Plan, index: u32) -> i16 {
        let audio = plan.whole_track(index).and_then(|track| track.audio());
        let is_mix = audio.is_some_and(|audio| audio.ops.contains(&AudioOp::Limit));
        self.after.as_ref().filter(|_| is_mix).map_or(0, |after| after.peak.saturating_sub(MIX_PEAK))
    }

    fn levels(self) -> Option<Heard> {
        Some(Heard { source: self.before?, output: self.after? })
    }
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
