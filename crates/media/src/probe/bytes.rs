//! Byte ranges of a source: ranges that every reader needs, and ranges that a reader needs after a seek to a keyframe.
//! Models how ffmpeg's demuxers seek; reads no media.

use super::describe::Description;
use super::ebml::Outline;
use super::job::Job;
use super::moov::{Boxed, OnDisk};
use crate::encode::{PULLED_BACK_US, has_seek_room};
use splitreel_core::ranges::{MAX_SHARED, merge};
use splitreel_core::source::{
    AudioBytes, AudioTrack, ByteIndex, ByteLayout, ByteRange, ByteRun, Container, IndexEvidence,
};
use splitreel_core::{MediaTime, Rational};
use splitreel_packaging::movie::{Handler, Track};

/// Ranges this close together are merged: a request costs more than these bytes.
const NEAR_BYTES: u64 = 64 << 10;
/// Largest box without media that is read whole; of the larger ones only `moov` is.
const MAX_EXTRA_BOX_BYTES: u64 = 4 << 20;
/// Longest header of a box (ISO/IEC 14496-12 §4.2: 64-bit size, extended type).
const BOX_HEADER_BYTES: u64 = 32;
/// Packets of each audio track that ffmpeg looks at when it opens a file.
const AUDIO_HEAD_PACKETS: usize = 8;
/// Largest number of ranges of an audio track that is stored separately; a track in more ranges is interleaved with
/// the video.
const MAX_AUDIO_RANGES: usize = 2;
/// Audio ranges this close together are merged.
const AUDIO_NEAR_BYTES: u64 = 256 << 10;
/// Largest number of audio samples that are examined.
const MAX_AUDIO_SAMPLES: usize = 5_000_000;

/// The outline of a complete Matroska file that has one.
pub(crate) async fn outline(job: &Job<'_>) -> Option<Outline> {
    if job.container != Container::Matroska {
        return None;
    }
    let path = job.subject.source.to_owned();
    tokio::task::spawn_blocking(move || Outline::read(&OnDisk::open(&path)?)).await.ok()?.ok()?
}

/// The index, as far as the container's own tables make it certain that its demuxer will read just these bytes.
pub(crate) fn byte_index(
    job: &Job<'_>,
    outline: Option<Outline>,
    (runs, head): (Vec<ByteRun>, ByteRange),
    evidence: IndexEvidence,
) -> Option<ByteIndex> {
    let bytes = job.file_bytes;
    let (layout, shared, runs) = match job.container {
        Container::Mov if evidence == IndexEvidence::Moov => {
            (ByteLayout::Sparse, boxes_shared(job.boxed?, head, bytes), runs)
        }
        Container::Matroska => {
            let outline = outline?;
            let runs = by_cues(&outline, runs, job.timebase(), bytes)?;
            let mut shared = outline.elements;
            shared.push(ByteRange { start: 0, end: outline.first_cluster.max(head.end) });
            (ByteLayout::Sparse, merge(shared, NEAR_BYTES), runs)
        }
        Container::MpegTs => (ByteLayout::Compact, vec![ByteRange { start: 0, end: head.end }], runs),
        Container::Mov | Container::Avi | Container::Other => return None,
    };
    let inside = shared.into_iter().map(|range| ByteRange { start: range.start, end: range.end.min(bytes) });
    let shared: Vec<_> = inside.filter(|range| !range.is_empty()).collect();
    (shared.len() <= MAX_SHARED).then_some(ByteIndex { layout, shared, runs, audio: Vec::new() })
}

/// The headers of all boxes, the boxes that are not media, and the first packets.
fn boxes_shared(boxed: &Boxed, head: ByteRange, bytes: u64) -> Vec<ByteRange> {
    let mut ranges: Vec<ByteRange> = boxed
        .layout
        .boxes
        .iter()
        .map(|found| {
            let is_wanted = match &found.kind.0 {
                b"moov" => true,
                b"mdat" | b"free" | b"skip" | b"wide" => false,
                _ => found.size <= MAX_EXTRA_BOX_BYTES,
            };
            let length = if is_wanted { found.size } else { found.size.min(BOX_HEADER_BYTES) };
            ByteRange { start: found.offset, end: found.offset.saturating_add(length).min(bytes) }
        })
        .collect();
    ranges.push(head);
    let needed = merge(ranges.clone(), NEAR_BYTES);
    let tracks = boxed.movie.iter().flat_map(|movie| &movie.tracks);
    for track in tracks.filter(|track| track.handler == Handler::Audio) {
        ranges.extend(samples(track).take(AUDIO_HEAD_PACKETS));
    }
    // Without these ffmpeg reads on until it gives up on the track, which is not the one that is decoded.
    let with_sound = merge(ranges, NEAR_BYTES);
    if with_sound.len() <= MAX_SHARED { with_sound } else { needed }
}

fn samples(track: &Track) -> impl Iterator<Item = ByteRange> + '_ {
    track
        .samples
        .iter()
        .map(|sample| ByteRange { start: sample.offset, end: sample.offset.saturating_add(u64::from(sample.size)) })
}

/// Moves the start of each run to the cluster that the cues lead to: the demuxer starts nowhere else.
fn by_cues(outline: &Outline, mut runs: Vec<ByteRun>, timebase: Rational, bytes: u64) -> Option<Vec<ByteRun>> {
    let scale = Rational::new(i64::try_from(outline.timestamp_scale).ok()?, 1_000_000_000)?;
    // One tick of the cues is one of the packets.
    if scale != timebase {
        return None;
    }
    let pulled_back = Rational::new(1, 1_000_000).map(|micro| MediaTime::new(PULLED_BACK_US, micro).rescale(scale))?;
    let times: Vec<i64> = runs.iter().map(|run| run.pts).collect();
    for (number, run) in runs.iter_mut().enumerate() {
        let at = |ticks: i64| MediaTime::new(ticks, timebase);
        let has_room = has_seek_room(at(run.pts), times.get(number + 1).map(|next| at(*next)));
        let earliest = if has_room { run.pts } else { run.pts.saturating_sub(pulled_back.ticks).saturating_sub(1) };
        // Sent in front of the first cue, the demuxer takes that one.
        let cue = outline.cues.partition_point(|cue| cue.time <= earliest).saturating_sub(1);
        run.start = run.start.min(outline.cues.get(cue).map_or(outline.first_cluster, |cue| cue.cluster));
        // Sent to the last cue, it looks for later ones in all clusters behind it.
        if cue + 1 >= outline.cues.len() {
            run.end = bytes;
        }
    }
    Some(runs)
}

/// Bytes of the audio tracks that are not interleaved with the video.
pub(crate) fn audio_bytes(boxed: &Boxed, description: &Description, audio: &[AudioTrack]) -> Vec<AudioBytes> {
    let of = |track: &AudioTrack| {
        let (_, boxes) = boxed.track(description.track_id(track.stream)?)?;
        let mut ranges: Vec<ByteRange> = Vec::new();
        for (number, sample) in samples(boxes).enumerate() {
            if number >= MAX_AUDIO_SAMPLES {
                return None;
            }
            let last = ranges
                .last_mut()
                .filter(|last| sample.start >= last.start && sample.start <= last.end.saturating_add(AUDIO_NEAR_BYTES));
            match last {
                Some(last) => last.end = last.end.max(sample.end),
                None => ranges.push(sample),
            }
            if ranges.len() > MAX_AUDIO_RANGES {
                return None;
            }
        }
        Some(AudioBytes { stream: track.stream, ranges: merge(ranges, 0) })
    };
    audio.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ebml::Cue;
    use super::*;

    #[test]
    fn runs_start_at_their_cluster() {
        let runs = [(0, 900), (2000, 50_000), (2040, 51_000), (5000, 90_000)]
            .map(|(pts, start)| ByteRun { pts, start, end: start + 10, lead_end: start + 10 })
            .to_vec();
        let cues = [(0, 800), (2000, 49_000), (2040, 50_990), (5000, 89_000)]
            .map(|(time, cluster)| Cue { time, cluster })
            .to_vec();
        let outline =
            Outline { elements: vec![], first_cluster: 800, timestamp_scale: 1_000_000, frame_ns: None, cues };
        let millis = Rational::new(1, 1000).unwrap();
        let found = by_cues(&outline, runs.clone(), millis, 100_000).unwrap();
        // No room behind 2000: the seek may be pulled back to 1869, whose cue is the first.
        assert_eq!(found.iter().map(|run| run.start).collect::<Vec<_>>(), [800, 800, 50_990, 89_000]);
        assert_eq!(found.iter().map(|run| run.end).collect::<Vec<_>>(), [910, 50_010, 51_010, 100_000]);
        assert_eq!(by_cues(&outline, runs, Rational::new(1, 90_000).unwrap(), 100_000), None);
    }
}
