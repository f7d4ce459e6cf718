//! Sources and parts for tests: complete values, of which a test overrides the fields that it is about. Built with the
//! feature `testing`.

use crate::content::{Content, Likeness};
use crate::part::{Cost, RenditionPart, StoredObject, StoredSegment, TrackPart, VideoPart};
use crate::plan::{MediaSegmentPlan, Plan, PlannedPart, TrackPlan};
use crate::planner::{Capabilities, plan};
use crate::profile::Profile;
use crate::source::{
    AudioTrack, Color, Container, FrameIndex, IndexEvidence, Keyframe, Opening, PtsList, SourceInfo, VideoTrack,
};
use crate::time::{MediaTime, Rational};

/// A QuickTime file with the given tracks.
pub fn source_info(video: Option<VideoTrack>, audio: Vec<AudioTrack>) -> SourceInfo {
    SourceInfo {
        container: Container::Mov,
        demuxer: "mov".into(),
        bytes: 1,
        fragmented: false,
        programme: None,
        video,
        audio,
        unused: Vec::new(),
        clocks: Default::default(),
        byte_index: None,
        warnings: Vec::new(),
    }
}

/// Stream 0: progressive H.264 of 1280×720 pixels, with presentation times in ticks of `timebase`, in ascending order,
/// and a keyframe every `keyframe_every` frames. The last frame is as long as the first one.
pub fn video_track(pts: Vec<i64>, timebase: Rational, keyframe_every: usize) -> VideoTrack {
    let last_duration = match pts[..] {
        [first, second, ..] => second - first,
        _ => 1,
    };
    let keyframe = |pts: &i64| Keyframe { pts: *pts, position: None, opening: Opening::Closed };
    let keyframes = pts.iter().step_by(keyframe_every).map(keyframe).collect();
    VideoTrack {
        stream: 0,
        codec: "h264".into(),
        profile: String::new(),
        width: 1280,
        height: 720,
        sar: Rational::ONE,
        pix_fmt: "yuv420p".into(),
        bit_depth: 8,
        decoder: String::new(),
        color: Color::default(),
        rotation: 0,
        side_data: Default::default(),
        scan: Default::default(),
        timebase,
        frame_rate: Rational::ZERO,
        bits_per_second: 0,
        peak_bits_per_second: 0,
        frames: FrameIndex {
            pts: PtsList::from_sorted(pts).unwrap_or_default(),
            last_duration,
            keyframes,
            evidence: IndexEvidence::Moov,
            is_seekable: true,
            needs_run_in: false,
            packet_fault: None,
            stamping: Default::default(),
        },
        num_lost: 0,
    }
}

/// Stream 1: English stereo at 48 kHz, in MP3.
pub fn audio_track(first_pts: MediaTime) -> AudioTrack {
    AudioTrack {
        stream: 1,
        codec: "mp3".into(),
        profile: String::new(),
        sample_rate: 48_000,
        channels: 2,
        layout: "stereo".into(),
        language: "eng".into(),
        title: String::new(),
        is_default: true,
        first_pts,
        priming: None,
        duration: None,
        bits_per_second: 0,
    }
}

/// A plan for 20 s of 640×360 pixels at 30 frames per second with one audio track, in four segments of 5 s; `None` when
/// the profile `universal` does not allow that any more.
pub fn plan_of_four_segments() -> Option<Plan> {
    let frames = video_track((0..600).collect(), Rational::new(1, 30)?, 600);
    let video = VideoTrack { width: 640, height: 360, frame_rate: Rational::new(30, 1)?, ..frames };
    let audio = audio_track(MediaTime::new(0, Rational::new(1, 48_000)?));
    let mut profile = Profile::built_in("universal")?;
    profile.split.segment_seconds = 5.0;
    profile.packaging.chunk_mb = 16;
    plan(&source_info(Some(video), vec![audio]), &profile, &Capabilities::default()).ok()
}

/// The comparison of pictures that all equal the source's; `None` for copies.
pub fn equal_pictures(part: &PlannedPart<'_>) -> Option<Content> {
    let frames = part.frames.num_frames;
    let equal = Likeness { frames, worst_centi_db: 9900, worst_frame: 0, sum_centi_db: frames.saturating_mul(9900) };
    let is_copy = part.track.video().is_some_and(|video| video.coding.is_copy());
    (!is_copy).then_some(Content { input: equal, output: equal })
}

/// The part of a segment that fulfils a plan exactly: `init` and `stored` are the objects behind it. `None` when the
/// plan has no such segment.
pub fn video_part(
    plan: &Plan,
    segment: u32,
    init: impl Fn(&TrackPlan) -> StoredObject,
    stored: impl Fn(&TrackPlan, &MediaSegmentPlan) -> StoredSegment,
) -> Option<VideoPart> {
    let renditions = plan.parts_of(segment)?.into_iter().map(|part| RenditionPart {
        stored: TrackPart {
            track: part.track.id.clone(),
            init: init(part.track),
            codec: "avc1.64001e".into(),
            captions: Default::default(),
            segments: part.grid.media_segments.iter().map(|m| stored(part.track, m)).collect(),
        },
        num_frames: part.frames.num_frames,
        pts_sha256: part.frames.pts_sha256.clone(),
        content: equal_pictures(&part),
    });
    Some(VideoPart { segment, renditions: renditions.collect(), cost: Cost::default() })
}
