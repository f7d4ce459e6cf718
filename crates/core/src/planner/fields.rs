//! Sources whose fields become frames of their own: the same source on a clock with half the ticks, with two frames for
//! each of its frames. Pure.

use crate::profile::{Deinterlace, Profile};
use crate::source::{ByteRun, FrameIndex, Keyframe, Opening, PtsList, SourceInfo, VideoTrack};
use crate::stamping::Stamping;
use crate::time::Rational;

/// The source with a frame for each field, where the profile asks for that and the times of the fields are known: a
/// field is shown half way between two frames, and the last one after half of the last step.
pub(super) fn doubled(info: &SourceInfo, profile: &Profile) -> Option<SourceInfo> {
    let video = info.video.as_ref().filter(|video| is_wanted(info, video, profile))?;
    let doubled = track(video)?;
    let mut info = SourceInfo { video: Some(doubled), ..info.clone() };
    for run in info.byte_index.iter_mut().flat_map(|index| &mut index.runs) {
        *run = ByteRun { pts: run.pts.checked_mul(2)?, ..*run };
    }
    Some(info)
}

fn is_wanted(info: &SourceInfo, video: &VideoTrack, profile: &Profile) -> bool {
    profile.video.deinterlace == Deinterlace::Fields
        && profile.video.codec != crate::profile::VideoCodec::Copy
        && video.scan.field_order().is_some()
        && video.frames.stamping == Stamping::Own
        && !info.clocks.contains_key(&video.stream)
        && video.frames.pts.len() > 1
}

fn track(video: &VideoTrack) -> Option<VideoTrack> {
    let index = &video.frames;
    let frames: Vec<i64> = index.pts.iter().collect();
    let (last, before) = (*frames.last()?, frames.iter().rev().nth(1)?);
    let next = frames.iter().skip(1).copied().chain([last.checked_add(last.checked_sub(*before)?)?]);
    let mut fields = Vec::with_capacity(frames.len().checked_mul(2)?);
    for (frame, next) in frames.iter().zip(next) {
        fields.extend([frame.checked_mul(2)?, frame.checked_add(next)?]);
    }
    let end = last.checked_add(index.last_duration)?.checked_mul(2)?;
    let last_duration = end.saturating_sub(*fields.last()?).max(1);
    let keyframe = |keyframe: &Keyframe| {
        let opening = match keyframe.opening {
            Opening::Leading { ticks } => Opening::Leading { ticks: ticks.checked_mul(2)? },
            other => other,
        };
        Some(Keyframe { pts: keyframe.pts.checked_mul(2)?, opening, ..*keyframe })
    };
    Some(VideoTrack {
        timebase: video.timebase.times(Rational::new(1, 2)?)?,
        frame_rate: video.frame_rate.times(Rational::whole(2)).unwrap_or(video.frame_rate),
        frames: FrameIndex {
            pts: PtsList::from_sorted(fields).ok()?,
            last_duration,
            keyframes: index.keyframes.iter().map(keyframe).collect::<Option<_>>()?,
            ..index.clone()
        },
        ..video.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::source::FieldOrder;

    #[test]
    fn fields_lie_between_frames_and_the_last_one_after_half_a_step() {
        let mut video = fixture::video_track(vec![0, 40, 100], Rational::new(1, 1000).unwrap(), 2);
        video.frames.last_duration = 40;
        let doubled = track(&video).unwrap();
        assert_eq!(doubled.frames.pts.iter().collect::<Vec<_>>(), [0, 40, 80, 140, 200, 260]);
        assert_eq!(doubled.frames.last_duration, 20);
        assert_eq!(doubled.timebase, Rational::new(1, 2000).unwrap());
        assert_eq!(doubled.frames.keyframes.iter().map(|keyframe| keyframe.pts).collect::<Vec<_>>(), [0, 200]);
    }

    #[test]
    fn only_interlaced_sources_with_times_of_their_own_are_doubled() {
        let mut video = fixture::video_track(vec![0, 40, 80], Rational::new(1, 1000).unwrap(), 1);
        video.scan.header = Some(FieldOrder::TopFirst);
        let mut profile = Profile::built_in("universal").unwrap();
        let info =
            |video: &VideoTrack| SourceInfo { video: Some(video.clone()), ..fixture::source_info(None, Vec::new()) };
        assert_eq!(doubled(&info(&video), &profile), None);
        profile.video.deinterlace = Deinterlace::Fields;
        assert!(doubled(&info(&video), &profile).is_some());
        video.scan.header = None;
        assert_eq!(doubled(&info(&video), &profile), None);
    }
}
