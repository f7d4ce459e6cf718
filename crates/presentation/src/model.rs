//! From rows to the model that manifests are written from.

use crate::rows::Rows;
use splitreel_core::captions::Captions;
use splitreel_core::part::{AudioPart, StoredSegment};
use splitreel_core::plan::{Cut, Media, TrackPlan, VideoMedia};
use splitreel_core::{MediaKind, MediaTime, Rational};
use splitreel_packaging::presentation::{
    AudioFormat, Form, MediaFormat, MediaSegment, MediaTrack, Presentation, TargetDuration, VideoFormat, init_path,
    segment_path,
};
use std::collections::BTreeMap;

/// The model of a presentation in one form.
///
/// Video tracks list every planned media segment. They need one finished part to name their codec; without any, only
/// [`Form::Planned`] lists them. Audio tracks are listed once their part is finished: where their segments start
/// depends on the encoder's priming, and where the last one ends on the number of decoded samples. The target duration
/// covers the listed tracks: before that part is finished, it can be a second shorter than in the end.
#[must_use]
pub fn model(rows: &Rows<'_>, form: Form) -> Presentation {
    let (mut along, mut whole) = (0.., rows.audio.iter());
    let track = |planned: &TrackPlan| {
        if planned.cut.is_timeline() {
            let position = along.next()?;
            timeline_track(rows, planned, position).filter(|track| form == Form::Planned || track.codec.is_some())
        } else {
            whole.next()?.map(|part| whole_track(planned, part))
        }
    };
    Presentation {
        duration: duration(rows),
        tracks: rows.plan.tracks.iter().filter_map(track).collect(),
        target_duration: TargetDuration::Measured,
    }
}

/// The end of the longest track.
fn duration(rows: &Rows<'_>) -> MediaTime {
    let video = rows.plan.timeline.iter().map(|t| time(t.output_end.get(), t.timescale));
    let audio =
        rows.audio.iter().flatten().map(|a| {
            time(a.start.get().saturating_add(i64::try_from(a.num_samples).unwrap_or(i64::MAX)), a.sample_rate)
        });
    video.chain(audio).max().unwrap_or(MediaTime::new(0, Rational::ONE))
}

/// A time in ticks of a timescale.
fn time(ticks: i64, timescale: u32) -> MediaTime {
    MediaTime::new(ticks, Rational::new(1, timescale.into()).unwrap_or(Rational::ONE))
}

/// A track that segment tasks make, at a position among these.
fn timeline_track(rows: &Rows<'_>, planned: &TrackPlan, position: usize) -> Option<MediaTrack> {
    let (kind, frames) = (planned.kind(), rows.plan.frame_list(planned)?);
    let shown = planned.video().map(VideoMedia::shown).unwrap_or((0, 0, Rational::ONE));
    let stored: BTreeMap<u32, &StoredSegment> =
        rows.parts_of(position).flat_map(|part| &part.segments).map(|s| (s.number, s)).collect();
    let segments = rows.plan.media_segments(planned).map(|m| {
        let have = stored.get(&m.number);
        MediaSegment {
            number: u64::from(m.number),
            path: segment_path(kind, &planned.id, u64::from(m.number)),
            start: m.start.get(),
            duration: m.duration.unsigned(),
            bytes: have.map_or(0, |s| s.object.bytes),
            available: have.is_some(),
        }
    });
    Some(MediaTrack {
        id: planned.id.clone(),
        // The header is the same in every part: any one of them holds the codec.
        codec: rows.parts_of(position).next().map(|part| part.codec.clone()),
        supplemental_codec: supplemental_codec(planned),
        timescale: planned.timescale,
        delay: u32::try_from(planned.delay.get()).unwrap_or(0),
        init: Some(init_path(kind, &planned.id)),
        grid: match planned.cut {
            Cut::Timeline { grid, .. } => Some(grid),
            Cut::Whole { .. } => None,
        },
        starts_open: rows.plan.grid_of(planned).is_some_and(|grid| grid.starts_open),
        segments: segments.collect(),
        cap_bits_per_second: cap(planned),
        format: match &planned.media {
            Media::Video(video) => MediaFormat::Video(VideoFormat {
                width: shown.0,
                height: shown.1,
                sar: shown.2,
                frame_rate: frames.rate,
                peak_frame_rate: frames.peak_rate,
                color: video.color.codes(),
                captions: rows.parts_of(position).fold(Captions::default(), |all, part| all.or(part.captions)),
            }),
            // Audio is made as a whole.
            Media::Audio(_) => return None,
            Media::Text => MediaFormat::Text,
            Media::Images => MediaFormat::Images,
        },
    })
}

/// Dolby Vision that a copy keeps beside its base layer.
fn supplemental_codec(planned: &TrackPlan) -> Option<String> {
    let video = planned.video()?;
    let found = video.side_data.dolby_vision?;
    ["hevc", "av1"].iter().find_map(|codec| found.supplemental_codec(codec))
}

fn cap(planned: &TrackPlan) -> Option<u64> {
    let kbps = planned.video()?.coding.encoding()?.rate.max_kbps().filter(|kbps| *kbps > 0)?;
    Some(u64::from(kbps) * 1_000)
}

/// A track with a task of its own.
fn whole_track(planned: &TrackPlan, part: &AudioPart) -> MediaTrack {
    let kind = planned.kind();
    let segments = part.stored.segments.iter().map(|s| MediaSegment {
        number: u64::from(s.number),
        path: segment_path(kind, &planned.id, u64::from(s.number)),
        start: s.start.get(),
        duration: s.duration.unsigned(),
        bytes: s.object.bytes,
        available: true,
    });
    MediaTrack {
        id: planned.id.clone(),
        codec: Some(part.stored.codec.clone()),
        supplemental_codec: None,
        timescale: part.sample_rate,
        delay: u32::try_from(part.priming.get()).unwrap_or(0),
        init: Some(init_path(kind, &planned.id)),
        grid: None,
        starts_open: false,
        segments: segments.collect(),
        cap_bits_per_second: None,
        format: match kind {
            MediaKind::Text => MediaFormat::Text,
            MediaKind::Images => MediaFormat::Images,
            MediaKind::Video | MediaKind::Audio => MediaFormat::Audio(AudioFormat {
                language: planned.label.language.clone(),
                name: planned.label.name.clone(),
                channels: u32::from(part.channels),
                sample_rate: part.sample_rate,
                is_default: planned.label.is_default,
            }),
        },
    }
}
