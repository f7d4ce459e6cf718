//! Rows of the job store that a presentation is made of, and the tracks that are stored so far.

use crate::catalogue::Catalogue;
use splitreel_core::MediaKind;
use splitreel_core::part::{
    AudioPart, PresentationFile, StoredObject, StoredSegment, TaskResult, TrackPart, VideoPart,
};
use splitreel_core::plan::{Plan, TrackPlan};
use splitreel_packaging::presentation::{init_path, segment_path};
use std::collections::BTreeMap;

/// `track_ID` of every track that segment tasks make; the others follow.
const VIDEO_TRACK_ID: u32 = 1;

/// A plan with the parts that are finished: all of them in the end, some while the job runs. For a published job also
/// the catalogue, which knows the files that were made last.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Video parts by segment.
    pub(crate) video: BTreeMap<u32, &'a VideoPart>,
    /// Parts of the tracks with a task of their own, in the order of the plan; `None` while a track is not finished.
    pub(crate) audio: Vec<Option<&'a AudioPart>>,
    /// Base name of output files, and the files.
    pub(crate) published: Option<(&'a str, &'a Catalogue)>,
}

impl<'a> Rows<'a> {
    /// Rows of a plan and of the results of its tasks, in any order. Results of other kinds are skipped.
    pub fn new(plan: &'a Plan, results: impl IntoIterator<Item = &'a TaskResult>) -> Self {
        let (mut video, mut audio) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                TaskResult::Video(part) => video.push(part),
                TaskResult::Audio(part) => audio.push(part),
                TaskResult::Probe(_) | TaskResult::Assemble(_) => {}
            }
        }
        Self::of_parts(plan, video, audio)
    }

    /// Rows of a plan and of parts, in any order.
    pub fn of_parts(
        plan: &'a Plan,
        video: impl IntoIterator<Item = &'a VideoPart>,
        audio: impl IntoIterator<Item = &'a AudioPart>,
    ) -> Self {
        let by_id: BTreeMap<&str, &AudioPart> =
            audio.into_iter().map(|part| (part.stored.track.as_str(), part)).collect();
        Rows {
            plan,
            video: video.into_iter().map(|part| (part.segment, part)).collect(),
            audio: plan.whole_tracks().map(|planned| by_id.get(planned.id.as_str()).copied()).collect(),
            published: None,
        }
    }

    /// The same with the catalogue of the published presentation, whose single files are named after `base`.
    #[must_use]
    pub fn published(self, base: &'a str, catalogue: &'a Catalogue) -> Self {
        Rows { published: Some((base, catalogue)), ..self }
    }

    /// The planned tracks with the objects that are stored so far, in the order of the plan.
    pub fn tracks(&self) -> Vec<StoredTrack<'a>> {
        let (mut along, mut whole) = (0.., (VIDEO_TRACK_ID + 1..).zip(&self.audio));
        let track = |planned: &'a TrackPlan| {
            if planned.cut.is_timeline() {
                Some(self.timeline_track(planned, along.next()?))
            } else {
                let (track_id, part) = whole.next()?;
                Some(StoredTrack {
                    track_id,
                    id: &planned.id,
                    kind: planned.kind(),
                    timescale: planned.timescale,
                    init: part.map(|part| &part.stored.init),
                    codec: part.map(|part| part.stored.codec.as_str()),
                    segments: part.iter().flat_map(|part| &part.stored.segments).collect(),
                })
            }
        };
        self.plan.tracks.iter().filter_map(track).collect()
    }

    /// The track at a position among the tracks that segment tasks make.
    fn timeline_track(&self, planned: &'a TrackPlan, position: usize) -> StoredTrack<'a> {
        let parts: Vec<_> = self.parts_of(position).collect();
        StoredTrack {
            track_id: VIDEO_TRACK_ID,
            id: &planned.id,
            kind: planned.kind(),
            timescale: planned.timescale,
            // The same in every part.
            init: parts.first().map(|part| &part.init),
            codec: parts.first().map(|part| part.codec.as_str()),
            segments: parts.iter().flat_map(|part| &part.segments).collect(),
        }
    }

    /// Finished parts of the track at a position among the tracks that segment tasks make, by segment.
    pub(crate) fn parts_of(&self, position: usize) -> impl Iterator<Item = &'a TrackPart> {
        self.video.values().filter_map(move |part| Some(&part.renditions.get(position)?.stored))
    }

    /// A track without which nothing can be played yet: a preview needs the first segment of the timeline and every
    /// track with a task of its own.
    pub(crate) fn missing_for_preview(&self) -> Option<&'a str> {
        let first = self.plan.timeline.as_ref().and_then(|timeline| timeline.segments.first());
        let along = first.filter(|first| !self.video.contains_key(&first.index));
        let along = along.and_then(|_| self.plan.timeline_tracks().next());
        let whole = || self.plan.whole_tracks().zip(&self.audio).find(|(_, part)| part.is_none());
        along.or_else(|| whole().map(|(planned, _)| planned)).map(|planned| planned.id.as_str())
    }

    /// The part of an audio track.
    pub fn audio_part(&self, id: &str) -> Option<&'a AudioPart> {
        self.audio.iter().flatten().copied().find(|part| part.stored.track == id)
    }

    /// Identifier of the audio track that plays when the user did not choose, once its part is finished.
    pub fn default_audio(&self) -> Option<&'a str> {
        let planned = self.plan.tracks_of(MediaKind::Audio).find(|planned| planned.label.is_default)?;
        self.audio_part(&planned.id).map(|part| part.stored.track.as_str())
    }
}

/// One planned track of the output with the objects that are stored so far.
#[derive(Clone, Debug)]
pub struct StoredTrack<'a> {
    /// `track_ID` in the stored objects: 1 for tracks that segment tasks make, from 2 for the others.
    pub track_id: u32,
    /// Rendition identifier of the plan.
    pub id: &'a str,
    /// Kind of media.
    pub kind: MediaKind,
    /// Ticks per second.
    pub timescale: u32,
    /// The init segment; `None` before the first part.
    pub init: Option<&'a StoredObject>,
    /// RFC 6381 codec string; `None` before the first part.
    pub codec: Option<&'a str>,
    /// The stored media segments in order; while the job runs, some are missing in between.
    pub segments: Vec<&'a StoredSegment>,
}

impl<'a> StoredTrack<'a> {
    /// Segments of several tracks with the `track_ID` of each, in the order of their numbers: what plays together lies
    /// together in a single file.
    pub fn interleaved(tracks: &[Self]) -> Vec<(u32, &'a StoredSegment)> {
        let all = tracks.iter().flat_map(|track| track.segments.iter().map(|segment| (track.track_id, *segment)));
        let mut all: Vec<(u32, &StoredSegment)> = all.collect();
        all.sort_by_key(|(id, segment)| (segment.number, *id));
        all
    }

    /// The stored objects under the paths that manifests name: the init segment, then the media segments in order.
    pub fn files(&self) -> impl Iterator<Item = PresentationFile> {
        let init =
            self.init.map(|object| PresentationFile { path: init_path(self.kind, self.id), object: object.clone() });
        let segments = self.segments.iter().map(|segment| PresentationFile {
            path: segment_path(self.kind, self.id, u64::from(segment.number)),
            object: segment.object.clone(),
        });
        init.into_iter().chain(segments)
    }
}
