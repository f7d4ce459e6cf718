//! A second decode of a segment, from further back, when the first one met errors behind a seek: did it show the
//! pictures that a decode from there shows? Parameter sets that are stated once, and references in front of the seek,
//! are missed without a word about missing frames.

use crate::detect::Ffmpeg;
use crate::encode::{Spelling, Written, reference_args};
use crate::failure::{Context, from_run};
use crate::process::{Access, Run, run};
use crate::request::{Effort, VideoRequest};
use crate::scratch::{NeutralName, file_url};
use splitreel_core::plan::{Plan, Segment, Timeline};
use splitreel_core::{Failure, FailureCode};
use std::io::{self, Read};
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// A segment that starts within this many seconds is decoded from the start of the source; others from one keyframe
/// further back.
const FROM_START_SECONDS: f64 = 120.0;
/// The level of [`VideoRequest::look_back`] that starts at the beginning.
const FROM_START: u32 = 2;

/// How far back to decode again: `None` when the decode needs no second look, because it met no errors or had started
/// at the beginning.
pub(crate) fn second_look(plan: &Plan, segment: u32, look_back: u32, stderr: &[String]) -> Option<u32> {
    let timeline = plan.timeline.as_ref()?;
    let segment = timeline.segment(segment)?;
    let level = segment.seek_level(look_back, plan.reads_neighbours());
    let is_sought = usize::try_from(level).is_ok_and(|level| level < segment.seek.len());
    let has_errors = stderr.iter().any(|line| is_error(line));
    let is_near = seconds_from_start(timeline, segment) <= FROM_START_SECONDS;
    let further = if is_near { FROM_START } else { look_back.saturating_add(1) };
    (is_sought && has_errors).then_some(further)
}

/// Whether a line reports pictures that could not be decoded. Leading pictures of an open group of pictures lack their
/// references behind every seek; they are shown in front of the segment.
fn is_error(line: &str) -> bool {
    const OF_LEADING_PICTURES: [&str; 5] = [
        "reference picture",
        "mmco:",
        "number of reference frames",
        "could not find ref with poc",
        "co located pocs unavailable",
    ];
    let line = line.to_ascii_lowercase();
    line.contains("[error]") && !OF_LEADING_PICTURES.iter().any(|words| line.contains(words))
}

fn seconds_from_start(timeline: &Timeline, segment: &Segment) -> f64 {
    (segment.start - timeline.first).at(timeline.source_timebase).seconds()
}

/// Decodes the segment of `request` again and compares its pictures with the pictures that the encoding run saw.
pub(crate) async fn decodes_alike(
    ffmpeg: &Ffmpeg,
    request: &VideoRequest,
    cancel: CancellationToken,
) -> Result<(bool, Effort), Failure> {
    let dir = std::path::absolute(&request.out_dir).unwrap_or_else(|_| request.out_dir.clone());
    let context = Context { doing: "decoding the segment again", directory: &dir };
    let link = NeutralName::new(&request.scratch, &request.source).map_err(|error| {
        Failure::of(
            FailureCode::ScratchUnusable,
            format!("no link can be made in {}: {error}", request.scratch.display()),
        )
    })?;
    let url = |written: Written| file_url(&dir.join(again(written)));
    let (args, written) = reference_args(
        Spelling::of(ffmpeg.version),
        &request.plan,
        (request.segment, request.look_back),
        &link.url(),
        &url,
    )?;
    let mut decode = Run::new(&ffmpeg.ffmpeg, args);
    decode.access = Access { read: vec![request.source.clone()], write: vec![dir.clone()] };
    decode.limits = request.limits.clone();
    decode.landlock = ffmpeg.landlock();
    let output = run(decode, cancel).await.map_err(|error| from_run(&error, &context))?;
    let compare = move || {
        let same = |written: &Written| is_equal(&dir.join(written.file_name()), &dir.join(again(*written)));
        written.iter().map(same).try_fold(true, |all, one| Ok::<_, io::Error>(all && one?))
    };
    let alike = tokio::task::spawn_blocking(compare)
        .await
        .map_err(|e| Failure::of(FailureCode::WorkerThread, e.to_string()))?;
    let alike =
        alike.map_err(|e| Failure::of(FailureCode::OutputUnreadable, format!("pictures cannot be read: {e}")))?;
    Ok((alike, Effort::of(&output)))
}

fn again(written: Written) -> String {
    format!("again-{}", written.file_name())
}

/// Whether two files hold the same bytes. Blocking.
fn is_equal(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (std::fs::File::open(a)?, std::fs::File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = a.read(&mut left)?;
        let (Some(left), Some(right)) = (left.get(..n), right.get_mut(..n)) else { return Ok(false) };
        b.read_exact(right)?;
        if left != right {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_references_of_leading_pictures_are_no_error() {
        assert!(is_error("[h264 @ 0x1] [error] error while decoding MB 51 34, bytestream 8536"));
        assert!(is_error("[h264 @ 0x1] [error] non-existing PPS 0 referenced"));
        for harmless in [
            "[h264 @ 0x1] [error] Missing reference picture, default is 4",
            "[h264 @ 0x1] [error] mmco: unref short failure",
            "[hevc @ 0x1] [error] Could not find ref with POC 4",
            "[h264 @ 0x1] [warning] no frame",
        ] {
            assert!(!is_error(harmless), "{harmless}");
        }
    }
}
