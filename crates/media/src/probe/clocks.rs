//! Jumps of a source's clock: where they are looked for when there is no video, and what they mean for the tracks.

use super::describe::Stream;
use super::index::Clocks;
use super::job::step_limits;
use super::options::ProbeOptions;
use super::scans::Subject;
use crate::process::RunError;
use crate::request::Effort;
use splitreel_core::MediaTime;
use splitreel_core::clock::{Closing, Jump, TrackClock};
use splitreel_core::source::{AudioTrack, VideoTrack};
use std::collections::BTreeMap;

/// The clocks of a source without video.
pub(super) async fn of_sound(
    subject: &Subject<'_>,
    demuxer: &str,
    audio: &[Stream],
    options: &ProbeOptions,
    effort: &mut Effort,
) -> Result<Option<Clocks>, RunError> {
    let Some(lead) = audio.first() else { return Ok(None) };
    let limits = lead.timebase().and_then(|timebase| step_limits(demuxer, timebase, options));
    let Some(limits) = limits.filter(|_| !options.is_partial) else { return Ok(None) };
    let (scan, output) = subject.clock(demuxer, limits, options.scan_wall).await?;
    effort.add(&output);
    Ok(scan.finish(Some(lead.index)))
}

/// Takes the jumps of the clock out of the audio tracks' times, and says so. Leaves the clocks of the tracks that are used.
pub(super) fn close(
    (mut clocks, jumps): Clocks,
    video: Option<&VideoTrack>,
    audio: &mut [AudioTrack],
    warnings: &mut Vec<String>,
) -> BTreeMap<u32, TrackClock> {
    warnings.extend(jump_warnings(&jumps, video, audio));
    let is_video = |stream: u32| video.is_some_and(|video| video.stream == stream);
    clocks.retain(|stream, _| is_video(*stream) || audio.iter().any(|track| track.stream == *stream));
    for track in audio {
        if let Some(clock) = clocks.get(&track.stream) {
            track.first_pts.ticks = Closing::new(clock.clone()).close(track.first_pts.ticks);
            // Containers compute lengths with the jumps.
            track.duration = None;
        }
    }
    clocks
}

/// Names the jumps that are closed, the first few of many.
fn jump_warnings(jumps: &[Jump], video: Option<&VideoTrack>, audio: &[AudioTrack]) -> Vec<String> {
    const MAX_NAMED: usize = 10;
    let timebase = video.map(|video| video.timebase).or(audio.first().map(|track| track.first_pts.timebase));
    let seconds = |ticks: i64| timebase.map_or(0.0, |timebase| MediaTime::new(ticks, timebase).seconds());
    let named = jumps.iter().take(MAX_NAMED).map(|jump| {
        let (from, to) = (seconds(jump.from), seconds(jump.to));
        format!("the clock jumps from {from:.3} s to {to:.3} s; the jump is closed for all tracks alike")
    });
    let rest = jumps.len().saturating_sub(MAX_NAMED);
    named.chain((rest > 0).then(|| format!("the clock jumps {rest} more times; these jumps are closed, too"))).collect()
}
