//! From plan and parts to the model that manifests are written from. Pure.

use splitreel_core::part::{AudioPart, RenditionPart, StoredSegment, VideoPart};
use splitreel_core::plan::{MediaKind, Plan, TrackPlan, VideoMedia};
use splitreel_core::time::Rational;
use splitreel_packaging::presentation::{
    AudioRendition, MediaSegment, MediaTrack, Presentation, Ratio, Span, TargetDuration, TrackKind, VideoRendition,
    init_path, segment_path,
};
use std::collections::BTreeMap;

/// The presentation of a plan with the parts that exist: all of them in the end, some while the job runs.
/// Audio tracks without a part are left out.
pub fn presentation(plan: &Plan, video: &[VideoPart], audio: &[Option<&AudioPart>]) -> Presentation {
    let parts: BTreeMap<u32, &VideoPart> = video.iter().map(|p| (p.segment, p)).collect();
    let video_renditions = plan
        .video_tracks()
        .enumerate()
        .filter_map(|(index, (track, video))| video_rendition(plan, track, video, index, &parts))
        .collect();
    let audio_renditions: Vec<AudioRendition> = plan
        .tracks_of(MediaKind::Audio)
        .zip(audio)
        .filter_map(|(planned, part)| part.map(|part| audio_rendition(planned, part)))
        .collect();
    Presentation {
        duration: duration(plan, audio),
        video: video_renditions,
        audio: audio_renditions,
        target_duration: TargetDuration::Measured,
    }
}

/// The end of the longest track.
fn duration(plan: &Plan, audio: &[Option<&AudioPart>]) -> Span {
    let video = plan.timeline.iter().map(|t| (t.output_end.get(), t.timescale));
    let sound = audio
        .iter()
        .flatten()
        .map(|a| (a.start.saturating_add(i64::try_from(a.num_samples).unwrap_or(i64::MAX)), a.sample_rate));
    let longest = video.chain(sound).max_by(|a, b| {
        let exact = |t: &(i64, u32), other: u32| i128::from(t.0) * i128::from(other);
        exact(a, b.1).cmp(&exact(b, a.1))
    });
    longest.map_or(Span { ticks: 0, timescale: 1 }, |(ticks, timescale)| Span {
        ticks: u64::try_from(ticks).unwrap_or(0),
        timescale,
    })
}

fn video_rendition(
    plan: &Plan,
    planned: &TrackPlan,
    video: &VideoMedia,
    index: usize,
    parts: &BTreeMap<u32, &VideoPart>,
) -> Option<VideoRendition> {
    // The header is the same in every part: any of them gives the codec.
    let made: Vec<&RenditionPart> = parts.values().filter_map(|p| p.renditions.get(index)).collect();
    let codec = made.first()?.codec.clone();
    let stored: BTreeMap<u32, &StoredSegment> = made.iter().flat_map(|r| &r.segments).map(|s| (s.number, s)).collect();
    let segments = plan.media_segments(planned).map(|m| {
        let have = stored.get(&m.number);
        MediaSegment {
            number: u64::from(m.number),
            path: segment_path(TrackKind::Video, &planned.id, u64::from(m.number)),
            start: m.start.get(),
            duration: m.duration.unsigned(),
            bytes: have.map_or(0, |s| s.object.bytes),
            available: have.is_some(),
        }
    });
    Some(VideoRendition {
        track: MediaTrack {
            id: planned.id.clone(),
            codec,
            timescale: planned.timescale,
            delay: u32::try_from(planned.delay.get()).unwrap_or(0),
            init: init_path(TrackKind::Video, &planned.id),
            segments: segments.collect(),
        },
        width: video.width,
        height: video.height,
        sar: ratio(video.sar),
        frame_rate: ratio(plan.frame_rate(planned)?),
    })
}

fn audio_rendition(planned: &TrackPlan, part: &AudioPart) -> AudioRendition {
    let segments = part
        .segments
        .iter()
        .map(|s| MediaSegment {
            number: u64::from(s.number),
            path: segment_path(TrackKind::Audio, &planned.id, u64::from(s.number)),
            start: s.start,
            duration: u64::try_from(s.duration).unwrap_or(0),
            bytes: s.object.bytes,
            available: true,
        })
        .collect();
    AudioRendition {
        track: MediaTrack {
            id: planned.id.clone(),
            codec: part.codec.clone(),
            timescale: part.sample_rate,
            delay: part.priming,
            init: init_path(TrackKind::Audio, &planned.id),
            segments,
        },
        language: planned.label.language.clone(),
        name: planned.label.name.clone(),
        channels: u32::from(part.channels),
        sample_rate: part.sample_rate,
        is_default: planned.label.is_default,
    }
}

fn ratio(r: Rational) -> Ratio {
    Ratio { num: u32::try_from(r.num()).unwrap_or(1).max(1), den: u32::try_from(r.den()).unwrap_or(1).max(1) }
}
