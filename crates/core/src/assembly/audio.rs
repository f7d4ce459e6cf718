//! The half of the check for tracks with a task of their own, audio today: start, priming and samples of plan, part and
//! stored headers.

use super::sound::{differences, milliseconds, wanted_end_ms};
use super::{
    AudioCertificate, AudioEnds, AudioPlace, Measured, Origin, SampleCount, Violations, check_record, is_contiguous,
    is_continuous,
};
use crate::measure::{MeasuredSegment, MeasuredTrack};
use crate::part::{AudioPart, StoredSegment};
use crate::plan::{Cut, Plan, TrackPlan};
use crate::time::OutputTicks;

pub(super) fn check(
    plan: &Plan,
    parts: &[AudioPart],
    stored: &[MeasuredTrack],
    bad: &mut Violations,
) -> Vec<AudioCertificate> {
    let num_tracks = plan.whole_tracks().count();
    if parts.len() != num_tracks {
        bad.add("audio", format!("{} parts for {num_tracks} tracks", parts.len()));
        return Vec::new();
    }
    let none = MeasuredTrack::default();
    check_layouts(plan, parts, bad);
    let tracks = plan.whole_tracks().zip(parts).enumerate();
    tracks.map(|(i, (planned, part))| check_track(planned, part, stored.get(i).unwrap_or(&none), bad)).collect()
}

/// Holds the tracks that are made of one track of the source, in several layouts, against each other: all end together.
fn check_layouts(plan: &Plan, parts: &[AudioPart], bad: &mut Violations) {
    let made = || plan.whole_tracks().zip(parts).filter(|(_, part)| part.heard.is_some());
    let end =
        |part: &AudioPart| milliseconds(part.start.get().saturating_add_unsigned(part.num_samples), part.sample_rate);
    for (at, (planned, part)) in made().enumerate() {
        let first = made().take(at).find(|(other, _)| other.source_stream == planned.source_stream);
        if let Some((other, first)) = first
            && (end(first) - end(part)).abs() > 1
        {
            let place = format!("{} {}", planned.kind().as_str(), planned.id);
            bad.add(&place, format!("ends at {} ms, {} at {} ms", end(part), other.id, end(first)));
        }
    }
}

/// The ends of an encoded track against each other.
fn check_ends(
    place: &str,
    planned: &TrackPlan,
    part: &AudioPart,
    measured: &Measured<AudioPlace, SampleCount>,
    bad: &mut Violations,
) -> Option<AudioEnds> {
    let (audio, heard) = (planned.audio()?, part.heard.as_deref()?);
    let rate = part.sample_rate;
    let signed = |samples: u64| i64::try_from(samples).unwrap_or(i64::MAX);
    let stored = signed(measured.stored.samples).saturating_sub(measured.stored.priming);
    let ends = AudioEnds {
        planned_ms: wanted_end_ms(audio, rate, &heard.source),
        output_ms: heard.output.last_ms,
        samples_ms: milliseconds(signed(part.num_samples), rate),
        stored_ms: milliseconds(stored, rate),
    };
    // Decoders that do not know an edit list's end give the padding of the last packet, too.
    let frames = |count: i64| milliseconds(count.saturating_mul(i64::from(part.frame_samples)), rate) + 2;
    let (samples, output) = (ends.samples_ms, ends.output_ms);
    if (output - samples).abs() > frames(1) {
        bad.add(place, format!("ends at {output} ms by its times, at {samples} ms by its samples"));
    }
    if ends.stored_ms - samples > frames(2) {
        bad.add(place, format!("{} ms are stored, {samples} ms are to play", ends.stored_ms));
    }
    Some(ends)
}

fn check_track(
    planned: &TrackPlan,
    part: &AudioPart,
    stored: &MeasuredTrack,
    bad: &mut Violations,
) -> AudioCertificate {
    let place = format!("{} {}", planned.kind().as_str(), planned.id);
    if part.stored.track != planned.id {
        bad.add(&place, format!("holds the part of {}", part.stored.track));
    }
    let start = match planned.cut {
        Cut::Whole { start, .. } => start,
        Cut::Timeline { .. } => OutputTicks::ZERO,
    };
    if part.start != start {
        bad.add(&place, format!("starts at sample {}, planned {start}", part.start));
    }
    let segments: Vec<&StoredSegment> = part.stored.segments.iter().collect();
    let read = check_stored(&place, part, stored, bad);
    let measured = measure(start.get(), part, stored, &read);
    check_samples(&place, part, &measured, bad);
    let is_placed = segments.iter().all(|s| s.decode_time == s.start + part.priming);
    let is_continuous = is_contiguous(&segments) && is_placed && is_continuous(&read);
    if !is_continuous {
        bad.add(&place, "the timeline has a gap or an overlap");
    }
    if let (Some(audio), Some(heard)) = (planned.audio(), &part.heard) {
        for found in differences(audio, planned.timescale, &heard.source, &heard.output) {
            bad.add(&place, found);
        }
    }
    let ends = check_ends(&place, planned, part, &measured, bad);
    AudioCertificate {
        rendition: part.stored.track.clone(),
        samples_decoded: part.decoded_samples,
        samples_out: part.num_samples,
        channels_decoded: part.heard.as_ref().and_then(|heard| u16::try_from(heard.source.channels()).ok()),
        channels_out: part.channels,
        heard: part.heard.as_deref().cloned(),
        ends,
        sample_rate: part.sample_rate,
        priming: u32::try_from(part.priming.get()).unwrap_or(u32::MAX),
        start: part.start.get(),
        measured,
        is_continuous,
        segments_sha256: segments.iter().map(|s| s.object.sha256.clone()).collect(),
    }
}

/// Compares stored media segments with the part's records; returns the segments that exist.
fn check_stored<'a>(
    place: &str,
    part: &AudioPart,
    stored: &'a MeasuredTrack,
    bad: &mut Violations,
) -> Vec<&'a MeasuredSegment> {
    if stored.timescale != part.sample_rate {
        bad.add(place, format!("is stored with {} Hz, its part has {}", stored.timescale, part.sample_rate));
    }
    let mut found = Vec::with_capacity(part.stored.segments.len());
    for record in &part.stored.segments {
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
            start: part.start.get(),
            priming: part.priming.get(),
            samples: part.stored.segments.iter().map(|s| s.duration.unsigned()).sum(),
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
    let needed = part.num_samples.saturating_add(part.priming.unsigned());
    if part.stored.segments.is_empty() || encoded.samples < needed {
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
