//! Collects everything that planning needs to know about a source: tracks, exact frame times, keyframes, first samples.
//! Opens only the given file. Plans nothing.

mod bytes;
mod candidate;
mod clocks;
mod describe;
mod ebml;
mod fields;
mod fraction;
mod index;
mod job;
mod margins;
mod moov;
mod options;
mod refuse;
mod scans;
mod side_data;
mod sniff;
mod tracks;
mod trial;

pub use options::ProbeOptions;

use crate::detect::Ffmpeg;
use crate::failure::{Context, from_run};
use crate::process::{ProgressSink, RunError};
use crate::request::{Effort, ProbeRequest, Probed};
use crate::scratch::NeutralName;
use describe::{Description, Stream};
use index::{Indexed, index};
use job::Job;
use moov::Boxed;
use scans::{Reach, Subject};
use sniff::{HEAD_BYTES, Head, sniff};
use splitreel_core::source::{AudioTrack, ByteIndex, SourceInfo, UnusedTrack, VideoTrack};
use splitreel_core::{Failure, FailureCode};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tokio_util::sync::CancellationToken;
use tracks::{NoSuchProgramme, Sorted};

/// Looks at a source.
pub(crate) async fn probe(
    ffmpeg: &Ffmpeg,
    request: &ProbeRequest,
    progress: ProgressSink,
    cancel: CancellationToken,
) -> Result<Probed, Failure> {
    let (name, options) = (request.name.as_str(), &request.options);
    let (bytes, head) = open(&request.source, name)?;
    let boxed = if head == Head::Boxes { boxes(&request.source, name).await? } else { None };
    let link = link(request)?;
    let subject = Subject { ffmpeg, source: &request.source, link: &link, cancel: &cancel };
    let mut effort = Effort::default();
    let description = describe(&subject, name, head, &mut effort).await?;
    let (container, demuxer) = tracks::container(&description.format.format_name);
    let wanted = options.source.programme;
    let mut sorted = tracks::sort(&description, wanted, ffmpeg)
        .map_err(|NoSuchProgramme { others }| refuse::no_programme(name, wanted, &others))?;
    let programme = sorted.programme.take();
    let mut warnings = structure_warnings(boxed.as_ref(), description.chapters.len());
    let stream = sorted.video.take();
    // Two independent runs over the source, in parallel.
    let (mut frames_effort, mut sound_effort) = (Effort::default(), Effort::default());
    let sounds = sorted.audio.clone();
    let indexing = async {
        let Some(stream) = &stream else {
            let clocks = clocks::of_sound(&subject, &demuxer, &sounds, options, &mut frames_effort).await?;
            return Ok((None, clocks));
        };
        let job = Job {
            subject: &subject,
            demuxer: &demuxer,
            container,
            stream,
            boxed: boxed.as_ref(),
            file_bytes: bytes,
            options,
            progress: &progress,
        };
        let mut indexed = frames(&job, &mut frames_effort).await?;
        let clocks = indexed.clocks.take();
        Ok((Some(indexed), clocks))
    };
    let listening = audio_tracks(&subject, &demuxer, &mut sorted, options, &mut sound_effort);
    let found = tokio::try_join!(indexing, listening);
    let ((indexed, clocks), audio) = found.map_err(|error| run_failure(&error, request))?;
    effort.merge(frames_effort);
    effort.merge(sound_effort);
    let Some(mut audio) = audio.filter(|_| !indexed.as_ref().is_some_and(|indexed| indexed.needs_whole)) else {
        return Err(refuse::needs_whole());
    };
    let video = video_of(stream, indexed, &mut sorted.unused, ffmpeg);
    let Video { track: video, mut byte_index, warnings: found, tail } = video;
    warnings.extend(found);
    sorted.unused.sort_by_key(|track| track.stream);
    if video.is_none() && audio.is_empty() {
        return Err(refuse::nothing_decodable(name, &reasons(&sorted.unused), is_cut(boxed.as_ref()), &tail));
    }
    let clocks = clocks::close(clocks.unwrap_or_default(), video.as_ref(), &mut audio, &mut warnings);
    for track in &mut audio {
        track.priming = hidden_samples(boxed.as_ref(), &description, track);
    }
    if let (Some(index), Some(boxed)) = (&mut byte_index, &boxed) {
        index.audio = bytes::audio_bytes(boxed, &description, &audio);
    }
    check_durations(&description, video.as_ref().filter(|_| clocks.is_empty()), &audio, &mut warnings);
    let info = SourceInfo {
        container,
        demuxer,
        bytes,
        fragmented: boxed.as_ref().is_some_and(Boxed::is_fragmented),
        programme,
        video,
        audio,
        unused: sorted.unused,
        clocks,
        byte_index,
        warnings,
    };
    Ok(Probed { info, effort })
}

/// The frames of the video track, and a look at their fields and at the first one's side data.
async fn frames(job: &Job<'_>, effort: &mut Effort) -> Result<Indexed, RunError> {
    let mut indexed = index(job, effort).await?;
    indexed.scan = fields::scan(job, &indexed, effort).await?;
    // Containers seldom have the metadata of HDR pictures; the pictures do.
    if job.stream.color().is_hdr() && indexed.frames.is_some() {
        let (entries, output) = job.subject.first_side_data(job.demuxer, job.stream.index).await?;
        effort.add(&output);
        indexed.light = side_data::side_data(&entries).light_only();
    }
    Ok(indexed)
}

/// The video track as indexed; joins the unused ones when no frame of it can be decoded.
fn video_of(stream: Option<Stream>, indexed: Option<Indexed>, unused: &mut Vec<UnusedTrack>, ffmpeg: &Ffmpeg) -> Video {
    let (Some(stream), Some(indexed)) = (stream, indexed) else { return Video::default() };
    let video = Video::of(&stream, indexed, ffmpeg);
    if video.track.is_none() {
        unused.push(tracks::unused(&stream, "no frame of it can be decoded".into()));
    }
    video
}

/// Whether the file ends before its header says.
fn is_cut(boxed: Option<&Boxed>) -> bool {
    boxed.is_some_and(|boxed| boxed.layout.missing_bytes > 0)
}

/// A name for the source that means nothing to ffmpeg.
fn link(request: &ProbeRequest) -> Result<NeutralName, Failure> {
    NeutralName::new(&request.scratch, &request.source).map_err(|error| {
        let scratch = request.scratch.display();
        Failure::of(FailureCode::ScratchUnusable, format!("no link can be made in {scratch}: {error}"))
    })
}

/// The video track as indexed.
#[derive(Default)]
struct Video {
    /// `None`: the source has no video track, or no frame of it can be decoded.
    track: Option<VideoTrack>,
    byte_index: Option<ByteIndex>,
    warnings: Vec<String>,
    /// ffprobe's last lines when nothing can be decoded.
    tail: Vec<String>,
}

impl Video {
    fn of(stream: &Stream, indexed: Indexed, ffmpeg: &Ffmpeg) -> Self {
        let Indexed { frames, scan, bytes, mut warnings, tail, .. } = indexed;
        let byte_index = indexed.byte_index.filter(|_| frames.as_ref().is_some_and(|frames| frames.is_seekable));
        let track = frames.and_then(|frames| tracks::video_track(stream, frames, scan, bytes));
        let track = track.map(|mut track| {
            (track.num_lost, track.peak_bits_per_second) = (indexed.num_lost, indexed.peak_bits_per_second);
            track.side_data.mastering = track.side_data.mastering.or(indexed.light.mastering);
            track.side_data.light = track.side_data.light.or(indexed.light.light);
            if let Some((decoder, pix_fmt)) = tracks::transparency(stream, ffmpeg) {
                (track.decoder, track.pix_fmt) = (decoder.to_owned(), pix_fmt.to_owned());
            }
            track
        });
        if track.is_some() {
            return Video { track, byte_index, warnings, tail: Vec::new() };
        }
        let codec = stream.codec_or_tag();
        warnings.push(format!("no frame of the video track ({codec}) can be decoded; it is left out"));
        Video { track, byte_index, warnings, tail }
    }
}

/// Number of samples that a plain mp4 edit list hides at the start of an audio track.
fn hidden_samples(boxed: Option<&Boxed>, description: &Description, track: &AudioTrack) -> Option<u32> {
    let (movie, boxes) = boxed?.track(description.track_id(track.stream)?)?;
    match boxes.presentation(movie.timescale).spans() {
        [span] if boxes.timescale == track.sample_rate && span.presentation_start == 0 => {
            u32::try_from(span.media_start).ok()
        }
        _ => None,
    }
}

/// Refuses files that are not media before any demuxer sees them.
fn open(path: &Path, name: &str) -> Result<(u64, Head), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse::not_found(name),
        _ => refuse::not_readable(name, &error),
    };
    // Asked before opening: opening a pipe would block.
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        return Err(refuse::is_directory(name));
    }
    if !meta.is_file() {
        return Err(refuse::no_regular_file(name));
    }
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(path).map_err(failed)?.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(failed)?;
    match sniff(&head) {
        Head::Empty => Err(refuse::empty_file(name)),
        Head::Playlist(what) => Err(refuse::is_playlist(name, what)),
        Head::Text => Err(refuse::is_text(name)),
        found => Ok((meta.len(), found)),
    }
}

/// The box structure of an mp4/mov; refuses files without a usable `moov` and encrypted ones.
async fn boxes(path: &Path, name: &str) -> Result<Option<Boxed>, Failure> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || Boxed::read(&owned)).await;
    let boxed = match read {
        Ok(Ok(boxed)) => boxed,
        Ok(Err(error)) => return Err(refuse::not_readable(name, &error)),
        // The runtime is shutting down.
        Err(_) => return Err(Failure::of(FailureCode::Cancelled, "probing: cancelled")),
    };
    let Some(boxed) = boxed else { return Ok(None) };
    if boxed.movie.is_none() && (boxed.layout.first(b"mdat").is_some() || boxed.layout.first(b"moov").is_some()) {
        return Err(refuse::moov_missing(name, boxed.is_moov_broken));
    }
    if boxed.is_encrypted() {
        return Err(refuse::encrypted(name));
    }
    Ok(Some(boxed))
}

/// Describes the source, and again with its demuxer where that decides how far to look for late tracks.
async fn describe(subject: &Subject<'_>, name: &str, head: Head, effort: &mut Effort) -> Result<Description, Failure> {
    let failed = |error: RunError| match &error {
        RunError::Exit { tail, .. } => refuse::not_opened(name, tail),
        other => from_run(other, &Context { doing: "probing", directory: Path::new("") }),
    };
    let demuxer = if head == Head::MotionJpeg { "mjpeg" } else { "" };
    let (mut description, output) = match subject.describe(demuxer).await {
        Err(RunError::Exit { tail, .. }) if refuse::is_not_allowed(&tail) => {
            let container = subject.unsupported_container().await;
            let container = container.as_deref().unwrap_or("of this file");
            return Err(refuse::unsupported_container(name, container));
        }
        described => described.map_err(failed)?,
    };
    effort.add(&output);
    let (_, demuxer) = tracks::container(&description.format.format_name);
    if demuxer.is_empty() {
        return Err(refuse::not_opened(name, &output.stderr_tail));
    }
    if matches!(demuxer.as_str(), "mpegts" | "mpeg") {
        let (closer, output) = subject.describe(&demuxer).await.map_err(failed)?;
        effort.add(&output);
        (description.streams, description.programs) = (closer.streams, closer.programs);
    }
    Ok(description)
}

/// Audio tracks that decode; `None` when bytes beyond the partial source would have to be read.
async fn audio_tracks(
    subject: &Subject<'_>,
    demuxer: &str,
    sorted: &mut Sorted,
    options: &ProbeOptions,
    effort: &mut Effort,
) -> Result<Option<Vec<AudioTrack>>, RunError> {
    let streams: Vec<u32> = sorted.audio.iter().map(|stream| stream.index).collect();
    let mut first = BTreeMap::new();
    if !streams.is_empty() {
        let (found, output) = subject.first_samples(demuxer, &streams, Reach::Start).await?;
        effort.add(&output);
        first = found;
    }
    // Some tracks begin late, some never.
    for stream in streams.iter().filter(|stream| !first.contains_key(stream)).copied().collect::<Vec<_>>() {
        if options.is_partial {
            return Ok(None);
        }
        let (found, output) = subject.first_samples(demuxer, &[stream], Reach::WholeFile(options.scan_wall)).await?;
        effort.add(&output);
        first.extend(found);
    }
    let mut tracks = Vec::new();
    for stream in &sorted.audio {
        match first.get(&stream.index).and_then(|pts| tracks::audio_track(stream, *pts)) {
            Some(track) => tracks.push(track),
            None => sorted.unused.push(tracks::unused(stream, "no sound of it can be decoded".into())),
        }
    }
    Ok(Some(tracks))
}

fn run_failure(error: &RunError, request: &ProbeRequest) -> Failure {
    match error {
        RunError::Exit { tail, .. } => refuse::not_opened(&request.name, tail),
        other => from_run(other, &Context { doing: "probing", directory: &request.scratch }),
    }
}

fn reasons(unused: &[UnusedTrack]) -> Vec<String> {
    const MAX_REASONS: usize = 8;
    unused.iter().take(MAX_REASONS).map(|track| format!("{} {}: {}", track.kind, track.codec, track.reason)).collect()
}

fn structure_warnings(boxed: Option<&Boxed>, num_chapters: usize) -> Vec<String> {
    let missing = boxed.map_or(0, |boxed| boxed.layout.missing_bytes);
    let cut = format!("the file is {missing} bytes shorter than its header says; the bytes that exist are used");
    let chapters = match num_chapters {
        1 => "1 chapter is not carried over".to_owned(),
        count => format!("{count} chapters are not carried over"),
    };
    [(missing > 0, cut), (num_chapters > 0, chapters)]
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, text)| text)
        .collect()
}

/// Warns when the container claims a much longer duration than its frames have; the frames decide. The video of a source
/// whose clock jumps is not given: containers compute lengths with the jumps.
fn check_durations(
    description: &Description,
    video: Option<&VideoTrack>,
    audio: &[AudioTrack],
    warnings: &mut Vec<String>,
) {
    let claimed: Option<f64> = description.format.duration.as_deref().and_then(|text| text.parse().ok());
    let (Some(claimed), Some(video), true) = (claimed, video, audio.is_empty()) else { return };
    let (Some(first), Some(last)) = (video.frames.pts.first(), video.frames.pts.last()) else { return };
    let ticks = last.saturating_sub(first).saturating_add(video.frames.last_duration);
    let seconds = splitreel_core::MediaTime::new(ticks, video.timebase).seconds();
    if claimed.is_finite() && claimed > seconds * 1.5 + 2.0 {
        warnings.push(format!("the container claims {claimed:.1} s, its frames last {seconds:.1} s"));
    }
}
