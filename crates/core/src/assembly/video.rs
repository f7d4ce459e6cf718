//! The video half of the check: per segment, frames and presentation times of plan, part and stored headers; per media
//! segment, its place, its samples and its keyframe.

use super::{
    FrameCount, Measured, Origin, Pictures, StatedHeaders, VideoCertificate, Violations, check_record, is_contiguous,
    is_continuous,
};
use crate::content::Content;
use crate::measure::{MeasuredSegment, MeasuredTrack};
use crate::part::{RenditionPart, StoredSegment, VideoPart};
use crate::plan::{Plan, PlannedPart, TrackPlan, hex, pts_fingerprint};
use crate::time::OutputTicks;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

pub(super) fn check(
    plan: &Plan,
    parts: &[VideoPart],
    stored: &[MeasuredTrack],
    bad: &mut Violations,
) -> Vec<VideoCertificate> {
    let Some(timeline) = &plan.timeline else {
        if !parts.is_empty() {
            bad.add("video", "parts without a video plan");
        }
        return Vec::new();
    };
    let mut by_segment: BTreeMap<u32, &VideoPart> = BTreeMap::new();
    for p in parts {
        if by_segment.insert(p.segment, p).is_some() {
            bad.add(format!("segment {}", p.segment), "two parts");
        }
    }
    if by_segment.keys().ne(timeline.segments.iter().map(|s| &s.index)) {
        bad.add("video", format!("{} parts for {} segments", by_segment.len(), timeline.segments.len()));
        return Vec::new();
    }
    let none = MeasuredTrack::default();
    let renditions = plan.timeline_tracks().enumerate().map(|(place, track)| {
        let stored = stored.get(place).unwrap_or(&none);
        Rendition { plan, track, place, parts: &by_segment, stored }
    });
    renditions.map(|rendition| rendition.check(bad)).collect()
}

/// One rendition to check.
struct Rendition<'a> {
    plan: &'a Plan,
    track: &'a TrackPlan,
    place: usize,
    parts: &'a BTreeMap<u32, &'a VideoPart>,
    stored: &'a MeasuredTrack,
}

/// Sum of one place's measurements over all segments.
#[derive(Default)]
struct Tally {
    frames: u64,
    hash: Sha256,
}

impl Tally {
    fn add(&mut self, frames: u64, pts_sha256: &str) {
        self.frames += frames;
        self.hash.update(pts_sha256.as_bytes());
    }

    fn done(self, from: Origin) -> FrameCount {
        FrameCount { from, frames: self.frames, pts_sha256: hex(&self.hash.finalize()) }
    }
}

impl<'a> Rendition<'a> {
    fn check(&self, bad: &mut Violations) -> VideoCertificate {
        let (mut planned, mut encoded, mut stored) = (Tally::default(), Tally::default(), Tally::default());
        let mut first: Option<&RenditionPart> = None;
        let mut segments: Vec<&StoredSegment> = Vec::new();
        let mut read: Vec<&MeasuredSegment> = Vec::new();
        let mut content: Option<Content> = None;
        self.check_track(bad);
        let id = &self.track.id;
        for (at, s) in self.plan.timeline.iter().flat_map(|timeline| &timeline.segments).enumerate() {
            let place = format!("{id} segment {}", s.index);
            let Some(wanted) = self.plan.part_at(self.track, at) else {
                bad.add(place, "the plan says nothing about it");
                continue;
            };
            let Some(part) = self.part(s.index) else {
                bad.add(place, "the rendition is missing");
                continue;
            };
            let head = *first.get_or_insert(part);
            if part.stored.init.sha256 != head.stored.init.sha256 || part.stored.codec != head.stored.codec {
                bad.add(&place, "its header differs from the first segment's");
            }
            check_part(&place, &wanted, part, bad);
            self.check_content(&place, part, bad);
            content = content.into_iter().chain(part.content).reduce(Content::join);
            let found = self.check_stored(&place, &wanted, part, bad);
            let (frames, pts_sha256) = frames(&found);
            check_frames(&place, &wanted, part, (frames, &pts_sha256), bad);
            planned.add(wanted.frames.num_frames, &wanted.frames.pts_sha256);
            encoded.add(part.num_frames, &part.pts_sha256);
            stored.add(frames, &pts_sha256);
            segments.extend(&part.stored.segments);
            read.extend(found);
        }
        let is_continuous = is_contiguous(&segments) && is_continuous(&read);
        if !is_continuous {
            bad.add(id, "the timeline has a gap or an overlap");
        }
        let measured = Measured {
            plan: planned.done(Origin::Plan),
            part: encoded.done(Origin::Part),
            stored: stored.done(Origin::Stored),
        };
        VideoCertificate {
            rendition: id.clone(),
            frames_in: measured.plan.frames,
            frames_out: measured.stored.frames,
            pts_sha256_in: measured.plan.pts_sha256.clone(),
            pts_sha256_out: measured.stored.pts_sha256.clone(),
            measured,
            is_continuous,
            content: content.map(Pictures::from),
            headers: self.headers(),
            init_sha256: first.map(|f| f.stored.init.sha256.clone()).unwrap_or_default(),
            segments_sha256: segments.iter().map(|s| s.object.sha256.clone()).collect(),
        }
    }

    fn headers(&self) -> StatedHeaders {
        let mut parts = self.parts.values().filter_map(|part| part.renditions.get(self.place));
        let has_captions = parts.any(|part| !part.stored.captions.is_none());
        let mut output = self.stored.stated.clone();
        output.iter_mut().for_each(|stated| stated.side_data.has_captions = has_captions);
        StatedHeaders { source: self.plan.timeline.as_ref().and_then(|timeline| timeline.stated.clone()), output }
    }

    fn part(&self, segment: u32) -> Option<&'a RenditionPart> {
        let part = self.parts.get(&segment)?.renditions.get(self.place)?;
        (part.stored.track == self.track.id).then_some(part)
    }

    /// Every picture that was encoded was compared with the source's.
    fn check_content(&self, place: &str, part: &RenditionPart, bad: &mut Violations) {
        let is_copy = self.track.video().is_some_and(|video| video.coding.is_copy());
        match &part.content {
            None if is_copy => {}
            None => bad.add(place, "its pictures were not compared with the source's"),
            Some(Content { input, output }) => {
                if input.frames != part.num_frames || output.frames == 0 {
                    let (given, decoded) = (input.frames, output.frames);
                    let what = format!(
                        "{given} given and {decoded} decoded pictures were compared, the part has {} frames",
                        part.num_frames
                    );
                    bad.add(place, what);
                }
            }
        }
    }

    /// The stored header states the planned clock and composition delay.
    fn check_track(&self, bad: &mut Violations) {
        let TrackPlan { id, timescale, delay, .. } = self.track;
        if self.stored.timescale != *timescale {
            bad.add(id, format!("is stored with {} ticks per second, planned {timescale}", self.stored.timescale));
        }
        let departure = self.track.video().zip(self.stored.stated.as_ref());
        if let Some(what) = departure.and_then(|(planned, stated)| stated.departure(planned)) {
            bad.add(id, what);
        }
        if self.stored.delay != delay.get() {
            bad.add(id, format!("is stored with a delay of {} ticks, planned {}", self.stored.delay, delay.get()));
        }
    }

    /// Compares the stored media segments of a segment with the plan and the part; returns the segments that exist.
    fn check_stored(
        &self,
        place: &str,
        planned: &PlannedPart<'_>,
        part: &RenditionPart,
        bad: &mut Violations,
    ) -> Vec<&'a MeasuredSegment> {
        let mut found = Vec::with_capacity(part.stored.segments.len());
        let is_copy = self.track.video().is_some_and(|video| video.coding.is_copy());
        for (record, m) in part.stored.segments.iter().zip(&planned.grid.media_segments) {
            let Some(stored) = self.stored.segments.get(&record.number) else {
                bad.add(place, format!("media segment {} is not stored", record.number));
                continue;
            };
            check_record(place, record, stored, bad);
            let start = stored.times.as_ref().and_then(|times| times.first());
            if start != Some(m.start.get()) || stored.duration != m.duration.get() {
                bad.add(place, format!("media segment {} is stored with another place than planned", m.number));
            }
            // A copy keeps the source's first packets, whatever they are.
            let may_lack_keyframe = is_copy && m.number == 1;
            if !stored.starts_with_keyframe && !may_lack_keyframe {
                bad.add(place, format!("media segment {} does not start with a keyframe", m.number));
            }
            found.push(stored);
        }
        found
    }
}

/// The part's record against the plan.
fn check_part(place: &str, planned: &PlannedPart<'_>, part: &RenditionPart, bad: &mut Violations) {
    let media_segments = &planned.grid.media_segments;
    let segments = &part.stored.segments;
    let is_placed = segments.len() == media_segments.len()
        && segments
            .iter()
            .zip(media_segments)
            .all(|(a, b)| (a.number, a.start, a.duration) == (b.number, b.start, b.duration));
    if !is_placed {
        bad.add(place, "media segments are not where the plan puts them");
    }
    if segments.first().is_some_and(|f| f.decode_time != planned.segment.output_start) {
        bad.add(place, "the first decode time is not the segment's start");
    }
}

/// Frames and fingerprint of a segment from its stored media segments.
fn frames(stored: &[&MeasuredSegment]) -> (u64, String) {
    let times = stored.iter().filter_map(|s| s.times.as_ref()).flat_map(|times| times.iter()).map(OutputTicks);
    (stored.iter().map(|s| s.num_samples).sum(), pts_fingerprint(times))
}

/// The three measurements of a segment's frames against each other.
fn check_frames(
    place: &str,
    planned: &PlannedPart<'_>,
    part: &RenditionPart,
    stored: (u64, &str),
    bad: &mut Violations,
) {
    let (frames, pts_sha256) = stored;
    if part.num_frames != planned.frames.num_frames {
        bad.add(place, format!("{} frames, the source has {}", part.num_frames, planned.frames.num_frames));
    }
    if frames != part.num_frames {
        bad.add(place, format!("{frames} frames are stored, the encoder made {}", part.num_frames));
    }
    if part.pts_sha256 != planned.frames.pts_sha256 {
        bad.add(place, "presentation times differ from the source's");
    }
    if pts_sha256 != part.pts_sha256 {
        bad.add(place, "stored presentation times differ from the encoder's");
    }
}
