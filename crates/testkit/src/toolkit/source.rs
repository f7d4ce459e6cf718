//! Fake sources: a number decides length, frame times, tracks and the profile they are asked for with.

use crate::dice::Dice;
use splitreel_core::fixture;
use splitreel_core::job::JobRequest;
use splitreel_core::names::output_base;
use splitreel_core::profile::{
    AudioProfile, FrameRate, FrameRateWord, PackagingProfile, Profile, Rung, RungHeight, SplitProfile, VideoCodec,
    VideoProfile,
};
use splitreel_core::source::{AudioTrack, IndexEvidence, PtsList, SourceInfo, SourceRef, VideoTrack};
use splitreel_core::time::{MediaTime, Rational};

/// Segments of the longest fake source.
pub const MAX_SEGMENTS: u64 = 30;
/// Ticks per second of fake video.
const CLOCK: i64 = 1000;
/// Sample rate of fake audio.
const SAMPLE_RATE: u32 = 8000;

/// A source that exists only as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeSource {
    /// Decides everything else.
    pub number: u64,
    /// Where it would be.
    pub reference: SourceRef,
    /// What decoding finds: the truth.
    pub info: SourceInfo,
    /// The container's list of frames is wrong: a probe that does not decode finds another time of one frame.
    pub is_misindexed: bool,
    /// The profile that cuts it into the drawn number of segments.
    pub profile: Profile,
}

impl FakeSource {
    /// The source of a number. Most are short, some have up to 30 segments; some have no video, some no audio.
    pub fn numbered(number: u64) -> Self {
        let mut dice = Dice::new(number, 0x50);
        let num_segments = match dice.within(0..10) {
            0 => dice.within(10..MAX_SEGMENTS + 1),
            1..=4 => dice.within(3..10),
            _ => dice.within(1..5),
        };
        let segment_seconds = dice.within(1..3);
        let fps = dice.pick(&[2, 4, 5]);
        let has_video = !dice.chance(800);
        let num_audio: u32 = if has_video { dice.pick(&[0, 1, 1, 2]) } else { dice.pick(&[1, 2]) };
        let seconds = num_segments * segment_seconds;
        let video = has_video.then(|| video_track(&mut dice, seconds, fps));
        let audio = (0..num_audio).map(|i| audio_track(&mut dice, i, seconds)).collect();
        let info = SourceInfo { bytes: 1_000 + number, ..fixture::source_info(video, audio) };
        let reference = SourceRef {
            locator: format!("/fake/source-{number}.mov"),
            bytes: info.bytes,
            version: format!("v{number}"),
        };
        let profile = profile(&mut dice, segment_seconds);
        let is_misindexed = has_video && dice.chance(1500);
        FakeSource { number, reference, info, is_misindexed, profile }
    }

    /// What a probe finds.
    pub fn probed(&self, deep: bool) -> SourceInfo {
        let mut info = self.info.clone();
        if let Some(video) = &mut info.video {
            if deep {
                video.frames.evidence = IndexEvidence::DecodeScan;
            } else if self.is_misindexed {
                let mut pts: Vec<i64> = video.frames.pts.iter().collect();
                // The second frame, where another follows far enough behind: other segments are then still under way.
                let at =
                    if pts.get(2).zip(pts.get(1)).is_some_and(|(next, at)| next - at > 1) { 1 } else { pts.len() - 1 };
                if let Some(frame) = pts.get_mut(at) {
                    *frame += 1;
                }
                video.frames.pts = PtsList::from_sorted(pts).unwrap_or_default();
            }
        }
        info
    }

    /// A request for this source.
    pub fn request(&self, tenant: &str, idempotency_key: &str) -> JobRequest {
        JobRequest {
            tenant: tenant.to_owned(),
            idempotency_key: idempotency_key.to_owned(),
            source: self.reference.clone(),
            base: output_base(&format!("source-{}.mov", self.number)),
            priority: Default::default(),
            profile: self.profile.clone(),
            deep_probe: false,
            output: None,
            trace: Default::default(),
        }
    }
}

fn profile(dice: &mut Dice, segment_seconds: u64) -> Profile {
    let mut profile = Profile {
        name: "simulated".into(),
        description: String::new(),
        source: Default::default(),
        video: VideoProfile::default(),
        audio: AudioProfile::default(),
        packaging: PackagingProfile::default(),
        split: SplitProfile::default(),
    };
    let heights: &[u32] = if dice.chance(5000) { &[360, 240] } else { &[240] };
    profile.video.rungs = heights.iter().map(|h| Rung::of(RungHeight::Pixels(*h), 23.0, Some(400))).collect();
    mix(dice, &mut profile.video.rungs);
    profile.video.gop_seconds = if dice.chance(5000) { 0.5 } else { 1.0 };
    profile.packaging.media_segment_seconds = 1.0;
    profile.packaging.progressive = dice.chance(3000);
    if dice.chance(2000) {
        profile.packaging.chunk_mb = 16;
        profile.packaging.keep_full = dice.chance(5000);
    }
    profile.split.segment_seconds = segment_seconds as f64;
    profile
}

/// Gives some ladders a rung of its own codec, keyframe distance and frame rate.
fn mix(dice: &mut Dice, rungs: &mut [Rung]) {
    if let (Some(last), true) = (rungs.last_mut(), dice.chance(4000)) {
        last.codec = dice.chance(5000).then_some(VideoCodec::Hevc);
        last.gop_seconds = Some(dice.pick(&[0.5, 2.0]));
        last.fps = Some(match dice.pick(&[0.0, 7.0, 200.0]) {
            0.0 => FrameRate::Named(FrameRateWord::Half),
            rate => FrameRate::Number(rate),
        });
    }
}

fn video_track(dice: &mut Dice, seconds: u64, fps: i64) -> VideoTrack {
    let num_frames = i64::try_from(seconds).unwrap_or(1).saturating_mul(fps).max(1);
    let frame = CLOCK / fps;
    let is_variable = dice.chance(3000);
    let origin = dice.pick(&[0, 0, 40, 1_000]);
    let pts: Vec<i64> = (0..num_frames)
        .map(|i| {
            let jitter = if is_variable && i > 0 {
                i64::try_from(dice.within(0..frame.unsigned_abs() / 4)).unwrap_or(0)
            } else {
                0
            };
            origin + i * frame + jitter
        })
        .collect();
    let timebase = Rational::new(1, CLOCK).unwrap_or(Rational::ONE);
    let mut video = fixture::video_track(pts, timebase, usize::try_from(fps).unwrap_or(1));
    video.frames.last_duration = frame;
    VideoTrack {
        width: 640,
        height: 360,
        frame_rate: Rational::new(fps, 1).unwrap_or(Rational::ONE),
        bits_per_second: 300_000,
        ..video
    }
}

fn audio_track(dice: &mut Dice, index: u32, seconds: u64) -> AudioTrack {
    let tick = |n: i64| MediaTime::new(n, Rational::new(1, i64::from(SAMPLE_RATE)).unwrap_or(Rational::ONE));
    let length = i64::try_from(seconds).unwrap_or(1) * i64::from(SAMPLE_RATE);
    AudioTrack {
        stream: 1 + index,
        sample_rate: SAMPLE_RATE,
        channels: 1,
        layout: "mono".into(),
        language: if index == 0 { "eng".into() } else { "fra".into() },
        is_default: index == 0,
        duration: Some(tick(length)),
        bits_per_second: 64_000,
        ..fixture::audio_track(tick(dice.pick(&[0, 0, 137, 4_000])))
    }
}
