//! The audio half of the check: start, priming and samples of plan, part and stored headers.

use super::{
    AudioCertificate, AudioPlace, Measured, Origin, SampleCount, Violations, check_record, is_contiguous, is_continuous,
};
use crate::measure::{MeasuredSegment, MeasuredTrack};
use crate::part::{AudioPart, StoredSegment};
use crate::plan::{Cut, MediaKind, Plan, TrackPlan};

pub(super) fn check(
    plan: &Plan,
    parts: &[AudioPart],
    stored: &[MeasuredTrack],
    bad: &mut Violations,
) -> Vec<AudioCertificate> {
    let num_tracks = plan.tracks_of(MediaKind::Audio).count();
    if parts.len() != num_tracks {
        bad.add("audio", format!("{} parts for {num_tracks} tracks", parts.len()));
        return Vec::new();
    }
    let none = MeasuredTrack::default();
    let tracks = plan.tracks_of(MediaKind::Audio).zip(parts).enumerate();
    tracks.map(|(i, (planned, part))| check_track(planned, part, stored.get(i).unwrap_or(&none), bad)).collect()
}

fn check_track(
    planned: &TrackPlan,
    part: &AudioPart,
    stored: &MeasuredTrack,
    bad: &mut Violations,
) -> AudioCertificate {
    let place = format!("audio {}", planned.id);
    if part.rendition != planned.id {
        bad.add(&place, format!("holds the part of {}", part.rendition));
    }
    let start = match planned.cut {
        Cut::Whole { start, .. } => start.get(),
        Cut::Timeline { .. } => 0,
    };
    if part.start != start {
        bad.add(&place, format!("starts at sample {}, planned {start}", part.start));
    }
    let segments: Vec<&StoredSegment> = part.segments.iter().collect();
    let read = check_stored(&place, part, stored, bad);
    let measured = measure(start, part, stored, &read);
    check_samples(&place, part, &measured, bad);
    let priming = i64::from(part.priming);
    let is_continuous =
        is_contiguous(&segments) && segments.iter().all(|s| s.decode_time == s.start + priming) && is_continuous(&read);
    if !is_continuous {
        bad.add(&place, "the timeline has a gap or an overlap");
    }
    AudioCertificate {
        rendition: part.rendition.clone(),
        samples_decoded: part.decoded_samples,
        samples_out: part.num_samples,
        sample_rate: part.sample_rate,
        priming: part.priming,
        start: part.start,
        measured,
        is_continuous,
        segments_sha256: segments.iter().map(|s| s.object.sha256.clone()).collect(),
    }
}

/// Compares stored media segments with the part's records; the answer are those that exist.
fn check_stored<'a>(
    place: &str,
    part: &AudioPart,
    stored: &'a MeasuredTrack,
    bad: &mut Violations,
) -> Vec<&'a MeasuredSegment> {
    if stored.timescale != part.sample_rate {
        bad.add(place, format!("is stored with {} Hz, its part has {}", stored.timescale, part.sample_rate));
    }
    let mut found = Vec::with_capacity(part.segments.len());
    for record in &part.segments {
        match stored.segments.get(&record.number) {
            Some(stored) => {
                check_record(place, record, stored, bad);
                found.push(stored);
            }
            None => bad.add(place, format!("media segment {} is not stored", record.number)),
        }
    }
    found
}

fn measure(
    planned_start: i64,
    part: &AudioPart,
    stored: &MeasuredTrack,
    read: &[&MeasuredSegment],
) -> Measured<AudioPlace, SampleCount> {
    // The first decode time is the place of the first sample that plays: packets are presented `priming` samples
    // earlier, and the edit list hides just these.
    let start = read.first().map_or(0, |s| s.decode_time);
    Measured {
        plan: AudioPlace { start: planned_start },
        part: SampleCount {
            from: Origin::Part,
            start: part.start,
            priming: i64::from(part.priming),
            samples: part.segments.iter().map(|s| u64::try_from(s.duration).unwrap_or(0)).sum(),
        },
        stored: SampleCount {
            from: Origin::Stored,
            start,
            priming: stored.delay,
            samples: read.iter().map(|s| u64::try_from(s.duration).unwrap_or(0)).sum(),
        },
    }
}

/// The measurements against each other.
fn check_samples(place: &str, part: &AudioPart, measured: &Measured<AudioPlace, SampleCount>, bad: &mut Violations) {
    let (encoded, stored) = (&measured.part, &measured.stored);
    let needed = part.num_samples.saturating_add(u64::from(part.priming));
    if part.segments.is_empty() || encoded.samples < needed {
        let (held, play, priming) = (encoded.samples, part.num_samples, part.priming);
        bad.add(place, format!("{held} samples in packets, {play} are to play after {priming} of priming"));
    }
    if stored.samples != encoded.samples {
        bad.add(place, format!("{} samples are stored, the encoder made {}", stored.samples, encoded.samples));
    }
    if stored.priming != encoded.priming {
        bad.add(
            place,
            format!("is stored with {} samples of priming, its part has {}", stored.priming, encoded.priming),
        );
    }
    if stored.start != measured.plan.start {
        bad.add(place, format!("is stored from sample {}, planned {}", stored.start, measured.plan.start));
    }
}
