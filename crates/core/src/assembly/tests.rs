//! Each difference between plan, part and stored headers stops publication.

use super::*;
use crate::fixture;
use crate::levels::{Heard, Levels};
use crate::measure::{MeasuredSample, MeasuredTrack, samples_sha256};
use crate::part::{Cost, StoredObject, TrackPart};
use crate::plan::{Cut, Media, MediaKind, MediaSegmentPlan, TrackPlan};
use crate::time::{OutputTicks, SourceTicks};

fn object(name: &str) -> StoredObject {
    StoredObject { key: name.into(), bytes: 1, sha256: name.into() }
}

/// Everything that is checked: parts that fulfil a plan exactly, and headers that state just these.
#[derive(Clone)]
struct Made {
    video: Vec<VideoPart>,
    audio: Vec<AudioPart>,
    stored: Stored,
}

impl Made {
    fn check(&self, plan: &Plan) -> Result<Certificate, Vec<Violation>> {
        check(plan, "b", &self.video, &self.audio, &self.stored)
    }

    /// The samples of a stored media segment of the first video rendition, changed by `spoil`.
    fn spoil_samples(&mut self, plan: &Plan, number: u32, spoil: impl FnOnce(&mut Vec<MeasuredSample>)) {
        let m = plan.media_segments(best(plan)).find(|m| m.number == number).unwrap();
        let mut samples = samples(plan, m);
        spoil(&mut samples);
        *self.segment(number) = MeasuredSegment::of(m.start.get(), &samples);
    }

    fn segment(&mut self, number: u32) -> &mut MeasuredSegment {
        self.stored.video[0].segments.get_mut(&number).unwrap()
    }
}

/// The first video rendition.
fn best(plan: &Plan) -> &TrackPlan {
    plan.timeline_tracks().next().unwrap()
}

/// Samples of a media segment: one per frame of the source, each as long as it plays.
fn samples(plan: &Plan, m: &MediaSegmentPlan) -> Vec<MeasuredSample> {
    let place = |pts: i64| plan.timeline.as_ref().unwrap().output(SourceTicks(pts)).get();
    let (start, end) = (m.start.get(), m.start.get() + m.duration.get());
    let inside = (0..FRAMES).filter(|pts| (start..end).contains(&place(*pts)));
    inside
        .map(|pts| MeasuredSample {
            pts: place(pts),
            duration: (place(pts + 1) - place(pts)) as u32,
            bytes: 100 + pts as u32,
            is_sync: place(pts) == start,
        })
        .collect()
}

fn record(number: u32, start: i64, decode_time: i64, samples: &[MeasuredSample]) -> StoredSegment {
    StoredSegment {
        number,
        start: OutputTicks(start),
        duration: samples.iter().map(|s| OutputTicks(s.duration.into())).sum(),
        decode_time: OutputTicks(decode_time),
        num_samples: samples.len() as u32,
        header_bytes: 1,
        samples_sha256: samples_sha256(samples),
        object: object("s"),
    }
}

fn video_part(plan: &Plan, segment: u32) -> VideoPart {
    let stored =
        |_: &TrackPlan, m: &MediaSegmentPlan| record(m.number, m.start.get(), m.start.get(), &samples(plan, m));
    fixture::video_part(plan, segment, |track| object(&track.id), stored).unwrap()
}

fn video_track(plan: &Plan, track: &TrackPlan) -> MeasuredTrack {
    let segments =
        plan.media_segments(track).map(|m| (m.number, MeasuredSegment::of(m.start.get(), &samples(plan, m)))).collect();
    MeasuredTrack { timescale: track.timescale, delay: track.delay.get(), stated: None, segments }
}

/// Ten packets in two media segments, behind one packet of priming.
fn audio(a: &TrackPlan) -> (AudioPart, MeasuredTrack) {
    let packet = 1024i64;
    let Cut::Whole { start: planned, .. } = a.cut else { panic!("a whole track") };
    let planned = planned.get();
    let of = |first: i64| -> Vec<MeasuredSample> {
        let sample = |i| MeasuredSample { pts: first + i * packet, duration: packet as u32, bytes: 9, is_sync: true };
        (0..5).map(sample).collect()
    };
    let starts = [planned - packet, planned + 4 * packet];
    let segments: Vec<StoredSegment> =
        (1..).zip(starts).map(|(n, start)| record(n, start, start + packet, &of(start))).collect();
    let measured = (1..).zip(starts).map(|(n, start)| (n, MeasuredSegment::of(start + packet, &of(start)))).collect();
    let part = AudioPart {
        stored: TrackPart {
            track: a.id.clone(),
            init: object(&a.id),
            codec: "mp4a".into(),
            captions: Default::default(),
            segments,
        },
        sample_rate: a.timescale,
        channels: 2,
        frame_samples: packet as u32,
        priming: OutputTicks(packet),
        num_samples: 9 * packet as u64 - 100,
        decoded_samples: None,
        heard: None,
        start: OutputTicks(planned),
        cost: Cost::default(),
    };
    (part, MeasuredTrack { timescale: a.timescale, delay: packet, stated: None, segments: measured })
}

fn perfect(plan: &Plan) -> Made {
    let segments = &plan.timeline.as_ref().unwrap().segments;
    let (audio, audio_tracks) = plan.whole_tracks().map(audio).unzip();
    Made {
        video: segments.iter().map(|s| video_part(plan, s.index)).collect(),
        audio,
        stored: Stored { video: plan.timeline_tracks().map(|t| video_track(plan, t)).collect(), audio: audio_tracks },
    }
}

/// Frames of the source.
const FRAMES: i64 = 600;

fn planned() -> Plan {
    fixture::plan_of_four_segments().unwrap()
}

#[test]
fn exact_parts_are_certified_with_three_equal_measurements() {
    let plan = planned();
    let c = perfect(&plan).check(&plan).unwrap();
    assert_eq!((c.num_segments, c.video[0].frames_in, c.video[0].frames_out), (4, 600, 600));
    assert_eq!(c.video[0].pts_sha256_in, c.video[0].pts_sha256_out);
    let Measured { plan: planned, part, stored } = &c.video[0].measured;
    assert_eq!([planned.from, part.from, stored.from], [Origin::Plan, Origin::Part, Origin::Stored]);
    assert!([planned, part, stored].iter().all(|m| m.frames == 600 && m.pts_sha256 == planned.pts_sha256));
    let Measured { part, stored, .. } = &c.audio[0].measured;
    assert_eq!([part.samples, stored.samples], [10_240, 10_240]);
}

#[track_caller]
fn is_found(plan: &Plan, made: &Made, what: &str) {
    let bad = made.check(plan).unwrap_err();
    assert!(bad.iter().any(|b| b.to_string().contains(what)), "{what}: {bad:?}");
}

#[test]
fn every_difference_between_part_and_plan_stops_publication() {
    let plan = planned();
    type Spoil = fn(&mut Vec<VideoPart>);
    let spoils: [(&str, Spoil); 7] = [
        ("parts for", |p| drop(p.pop())),
        ("two parts", |p| p.push(p[0].clone())),
        ("header differs", |p| p[2].renditions[0].stored.init.sha256 = "x".into()),
        ("frames, the source has", |p| p[1].renditions[0].num_frames -= 1),
        ("presentation times differ", |p| p[1].renditions[0].pts_sha256 = "x".into()),
        ("not where the plan", |p| p[1].renditions[0].stored.segments[0].duration += OutputTicks(1)),
        ("first decode time", |p| p[1].renditions[0].stored.segments[0].decode_time += OutputTicks(1)),
    ];
    for (what, spoil) in spoils {
        let mut made = perfect(&plan);
        spoil(&mut made.video);
        is_found(&plan, &made, what);
    }
}

#[test]
fn every_difference_of_stored_video_stops_publication() {
    let plan = planned();
    type Spoil = fn(&mut Made);
    let spoils: [(&str, Spoil); 8] = [
        ("is not stored", |m| drop(m.stored.video[0].segments.remove(&2))),
        ("another place", |m| *m.segment(2) = m.segment(3).clone()),
        ("the timeline has a gap", |m| *m.segment(2) = m.segment(3).clone()),
        ("with decode time", |m| m.segment(2).decode_time += 1),
        ("with duration", |m| m.segment(2).duration += 1),
        ("keyframe", |m| m.segment(2).starts_with_keyframe = false),
        ("ticks per second", |m| m.stored.video[0].timescale += 1),
        ("a delay of", |m| m.stored.video[0].delay += 1),
    ];
    for (what, spoil) in spoils {
        let mut made = perfect(&plan);
        spoil(&mut made);
        is_found(&plan, &made, what);
    }
}

#[test]
fn a_stored_frame_off_by_one_tick_stops_publication() {
    let plan = planned();
    let mut made = perfect(&plan);
    made.spoil_samples(&plan, 2, |samples| samples[7].pts += 1);
    is_found(&plan, &made, "stored presentation times differ from the encoder's");
}

#[test]
fn a_missing_stored_frame_stops_publication() {
    let plan = planned();
    let mut made = perfect(&plan);
    made.spoil_samples(&plan, 2, |samples| {
        samples.remove(7);
    });
    is_found(&plan, &made, "frames are stored, the encoder made");
}

#[test]
fn two_stored_frames_that_changed_places_stop_publication() {
    let plan = planned();
    let mut made = perfect(&plan);
    made.spoil_samples(&plan, 2, |samples| {
        let (a, b) = (samples[7].pts, samples[8].pts);
        (samples[7].pts, samples[8].pts) = (b, a);
    });
    is_found(&plan, &made, "in another order, time or size");
    // The list of times alone does not show the fault.
    let bad = made.check(&plan).unwrap_err();
    assert_eq!(bad.len(), 1, "{bad:?}");
}

#[test]
fn every_difference_of_stored_audio_stops_publication() {
    let plan = planned();
    type Spoil = fn(&mut Made);
    let spoils: [(&str, Spoil); 8] = [
        ("parts for", |m| m.audio.clear()),
        ("are to play after", |m| m.audio[0].num_samples += 1024),
        ("starts at sample", |m| m.audio[0].start += OutputTicks(1)),
        ("is not stored", |m| drop(m.stored.audio[0].segments.remove(&2))),
        ("samples are stored, the encoder made", |m| {
            m.stored.audio[0].segments.get_mut(&2).unwrap().duration -= 1024;
        }),
        ("of priming, its part has", |m| m.stored.audio[0].delay += 1),
        ("with 44100 Hz", |m| m.stored.audio[0].timescale = 44_100),
        ("is stored from sample", |m| m.stored.audio[0].segments.get_mut(&1).unwrap().decode_time += 1),
    ];
    for (what, spoil) in spoils {
        let mut made = perfect(&plan);
        spoil(&mut made);
        is_found(&plan, &made, what);
    }
}

/// Captions are cut like audio, by a task of their own; storyboards along the timeline. No producer makes either yet.
/// What is heard of a track that is encoded as planned.
fn heard(planned: &TrackPlan, part: &AudioPart) -> Heard {
    let channels = usize::from(planned.audio().unwrap().channels);
    let levels = Levels {
        sample_rate: part.sample_rate,
        samples: part.num_samples,
        last_ms: part.num_samples as i64 * 1000 / i64::from(part.sample_rate),
        peak: -200,
        seconds: vec![Vec::new(); channels],
        ..Levels::default()
    };
    Heard { source: levels.clone(), output: levels }
}

#[test]
fn the_ends_of_an_audio_track_agree() {
    let plan = planned();
    let mut made = perfect(&plan);
    let track = plan.whole_tracks().next().unwrap();
    made.audio[0].heard = Some(Box::new(heard(track, &made.audio[0])));
    let ends = made.check(&plan).unwrap().audio[0].ends.unwrap();
    assert_eq!((ends.planned_ms, ends.output_ms), (ends.samples_ms, ends.samples_ms));
    let mut late = made.clone();
    let levels = late.audio[0].heard.as_mut().unwrap();
    (levels.source.last_ms, levels.output.last_ms) = (ends.samples_ms + 60, ends.samples_ms + 60);
    is_found(&plan, &late, "by its samples");
    let mut short = made.clone();
    short.audio[0].num_samples -= 4_000;
    short.audio[0].heard = Some(Box::new(heard(track, &short.audio[0])));
    is_found(&plan, &short, "ms are to play");
}

#[test]
fn layouts_of_one_source_track_end_together() {
    let mut plan = planned();
    let mut stereo = plan.whole_tracks().next().unwrap().clone();
    stereo.id = "stereo".into();
    plan.tracks.push(stereo);
    let mut made = perfect(&plan);
    for (track, part) in plan.whole_tracks().zip(&mut made.audio) {
        part.heard = Some(Box::new(heard(track, part)));
    }
    made.check(&plan).unwrap();
    made.audio[1].num_samples -= 480;
    is_found(&plan, &made, "audio stereo: ends at");
}

#[test]
fn kinds_without_a_producer_are_checked_by_the_same_rules() {
    let mut plan = planned();
    let mut captions = plan.tracks_of(MediaKind::Audio).next().unwrap().clone();
    (captions.id, captions.media) = ("captions".into(), Media::Text);
    let mut sheets = best(&plan).clone();
    (sheets.id, sheets.media) = ("sheets".into(), Media::Images);
    plan.tracks.extend([sheets, captions]);
    let certificate = perfect(&plan).check(&plan).unwrap();
    assert_eq!(certificate.video.last().unwrap().rendition, "sheets");
    assert_eq!(certificate.audio.last().unwrap().rendition, "captions");
    type Spoil = fn(&mut Made);
    let spoils: [(&str, Spoil); 3] = [
        ("text captions: is stored from sample", |m| {
            m.stored.audio[1].segments.get_mut(&1).unwrap().decode_time += 1;
        }),
        ("1 parts for 2 tracks", |m| drop(m.audio.pop())),
        ("sheets segment 0: media segments are not where the plan puts them", |m| {
            m.video[0].renditions.last_mut().unwrap().stored.segments[0].start += OutputTicks(1);
        }),
    ];
    for (what, spoil) in spoils {
        let mut made = perfect(&plan);
        spoil(&mut made);
        is_found(&plan, &made, what);
    }
}
