//! Holds the pictures of an encoded segment against the source's. The pictures that the encoders were given, and the
//! source's, were written shrunk by the encoding run; those of the output are decoded again here, by another process.

use crate::detect::Ffmpeg;
use crate::encode::{Written, decoder_options, references, shrink};
use crate::failure::{Context, from_run};
use crate::piece::EncodedTrack;
use crate::process::{Access, Limits, Run, run};
use crate::request::Effort;
use crate::scratch::file_url;
use splitreel_core::content::{self, Comparison, Content, FRAME_BYTES, Likeness, Unlike};
use splitreel_core::plan::{Plan, VideoOp};
use splitreel_core::{Failure, FailureCode};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Of this many renditions and segments, one is decoded whole; of the others, the keyframes.
const WHOLE_EVERY: usize = 4;

/// An encoded segment to check.
pub(crate) struct Check<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) segment: u32,
    /// The renditions, in the plan's order.
    pub(crate) tracks: &'a [EncodedTrack],
    /// Where the encoding run wrote its files.
    pub(crate) dir: &'a Path,
    pub(crate) limits: Limits,
}

/// A rendition whose pictures are compared.
struct Rendition {
    id: String,
    given: PathBuf,
    source: PathBuf,
    decoded: PathBuf,
    /// For each frame in presentation order, whether it is a keyframe.
    keyframes: Vec<bool>,
}

/// Compares every rendition; `None` for copies, whose pictures are the source's.
///
/// # Errors
/// [`FailureCode::PicturesDiffer`] when a rendition does not show the source's pictures.
pub(crate) async fn check(
    ffmpeg: &Ffmpeg,
    check: &Check<'_>,
    cancel: CancellationToken,
) -> Result<(Vec<Option<Content>>, Effort), Failure> {
    if check.plan.is_video_copied() {
        return Ok((vec![None; check.tracks.len()], Effort::default()));
    }
    let renditions = renditions(check);
    let mut decode = Run::new(&ffmpeg.ffmpeg, args(check, &renditions));
    decode.access = Access { read: Vec::new(), write: vec![check.dir.to_owned()] };
    decode.limits = check.limits.clone();
    decode.landlock = ffmpeg.landlock();
    let context = Context { doing: "decoding the output for comparison", directory: check.dir };
    let output = run(decode, cancel).await.map_err(|error| from_run(&error, &context))?;
    let (effort, evidence) = (Effort::of(&output), output.stderr_tail);
    let compared = tokio::task::spawn_blocking(move || renditions.iter().map(compare).collect::<Vec<_>>());
    let compared = compared.await.map_err(|e| Failure::of(FailureCode::WorkerThread, e.to_string()))?;
    let contents = compared.into_iter().map(|result| match result {
        Ok(content) => Ok(Some(content)),
        Err(Compared::Io(e)) => {
            Err(Failure::of(FailureCode::OutputUnreadable, format!("pictures cannot be read: {e}")))
        }
        Err(Compared::Unlike(what)) => Err(Failure::of(FailureCode::PicturesDiffer, what)),
    });
    let contents = contents.collect::<Result<_, _>>().map_err(|failure| failure.with_evidence(evidence))?;
    Ok((contents, effort))
}

fn renditions(check: &Check<'_>) -> Vec<Rendition> {
    let ops: Vec<&[VideoOp]> = check.plan.video_tracks().map(|(_, video)| video.ops.as_slice()).collect();
    let (_, numbers) = references(&ops);
    let tracks = check.plan.video_tracks().zip(check.tracks).zip(numbers).enumerate();
    let rendition = |(number, (((plan, _), track), source)): (usize, (((_, _), &EncodedTrack), usize))| {
        let plan: &splitreel_core::plan::TrackPlan = plan;
        let mut samples: Vec<(i64, bool)> = track.samples.iter().map(|sample| (sample.pts, sample.is_sync)).collect();
        samples.sort_unstable();
        Rendition {
            id: plan.id.clone(),
            given: check.dir.join(Written::Given(number).file_name()),
            source: check.dir.join(Written::Source(source).file_name()),
            decoded: check.dir.join(format!("decoded-{number}.rgb")),
            keyframes: samples.into_iter().map(|(_, is_sync)| is_sync).collect(),
        }
    };
    tracks.map(rendition).collect()
}

/// One decode of all renditions, whole or keyframes only.
fn args(check: &Check<'_>, renditions: &[Rendition]) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["-hide_banner", "-nostdin", "-y", "-nostats", "-loglevel", "level+warning"].map(Into::into).into();
    for number in 0..renditions.len() {
        let place = usize::try_from(check.segment).unwrap_or(0).wrapping_add(number);
        args.extend(decoder_options().into_iter().map(OsString::from));
        args.extend(["-threads:v", "1"].map(OsString::from));
        if !place.is_multiple_of(WHOLE_EVERY) {
            args.extend(["-skip_frame", "nokey"].map(OsString::from));
        }
        args.extend(["-f", "mp4", "-i"].map(OsString::from));
        args.push(file_url(&check.dir.join(Written::Track(number).file_name())));
    }
    for (number, rendition) in renditions.iter().enumerate() {
        args.extend(["-map".into(), format!("{number}:0").into()]);
        args.extend(["-fps_mode", "passthrough", "-vf"].map(OsString::from));
        args.extend([shrink("").into(), "-f".into(), "rawvideo".into()]);
        args.push(file_url(&rendition.decoded));
    }
    args
}

/// Why a comparison gave no result.
enum Compared {
    Io(io::Error),
    Unlike(String),
}

impl From<io::Error> for Compared {
    fn from(error: io::Error) -> Self {
        Compared::Io(error)
    }
}

/// Both comparisons of a rendition. Blocking.
fn compare(rendition: &Rendition) -> Result<Content, Compared> {
    let unlike = |what: &str, e: Unlike| Compared::Unlike(format!("{}: {what}: {e}", rendition.id));
    let input = against(rendition, &rendition.given, |_| true, &content::INPUT)?;
    let decoded = pictures(&rendition.decoded)?;
    // Some decoders know no keyframes and decode all frames.
    let is_whole = decoded == rendition.keyframes.len() as u64;
    let is_compared = |frame: usize| is_whole || rendition.keyframes.get(frame).copied().unwrap_or(false);
    let output = against(rendition, &rendition.decoded, is_compared, &content::OUTPUT)?;
    Ok(Content {
        input: input.map_err(|e| unlike("pictures given to the encoder", e))?,
        output: output.map_err(|e| unlike("decoded pictures", e))?,
    })
}

/// Compares a file of pictures with the source's pictures that `is_compared` selects.
fn against(
    rendition: &Rendition,
    path: &Path,
    is_compared: impl Fn(usize) -> bool,
    limits: &content::Limits,
) -> Result<Result<Likeness, Unlike>, Compared> {
    let wanted = (0..rendition.keyframes.len()).filter(|frame| is_compared(*frame)).count() as u64;
    for (path, wanted) in [(path, wanted), (&rendition.source, rendition.keyframes.len() as u64)] {
        let found = pictures(path)?;
        if found != wanted {
            return Ok(Err(Unlike::Count { found, wanted }));
        }
    }
    let open = |path: &Path| Ok::<_, io::Error>(BufReader::with_capacity(1 << 20, File::open(path)?));
    let (mut source, mut found) = (open(&rendition.source)?, open(path)?);
    let (mut a, mut b) = (vec![0; FRAME_BYTES], vec![0; FRAME_BYTES]);
    let mut comparison = Comparison::new(wanted == rendition.keyframes.len() as u64);
    for frame in 0..rendition.keyframes.len() {
        source.read_exact(&mut a)?;
        if is_compared(frame) {
            found.read_exact(&mut b)?;
            comparison.add(&a, &b);
        }
    }
    Ok(comparison.finish(limits))
}

/// Number of pictures in a file.
fn pictures(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.len() / FRAME_BYTES as u64)
}
