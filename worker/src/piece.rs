//! Cuts an encoder's output into CMAF media segments: verifies it, rebuilds the timing, writes headers and measures the
//! samples as these headers state them. Pure.

use splitreel_core::measure::{MeasuredSample, presentation_times, samples_sha256};
use splitreel_core::plan::{Cut, MediaSegmentPlan, PlannedPart, TrackPlan, VideoMedia, pts_fingerprint};
use splitreel_core::planner::cut_audio;
use splitreel_core::time::OutputTicks;
use splitreel_core::{Failure, FailureCode};
use splitreel_media::piece::EncodedTrack;
use splitreel_packaging::codecs::codec_string;
use splitreel_packaging::fragment::{FragmentSpec, SampleSpec, write_fragment};
use splitreel_packaging::init::{Gapless, TrackHeader, UNITY, completed, write_init};
use splitreel_packaging::movie::Handler;
use splitreel_packaging::timing;
use std::ops::Range;

/// Track id of the video in every output; audio tracks follow from 2.
pub const VIDEO_TRACK_ID: u32 = 1;

/// A track cut into media segments, ready to be stored.
#[derive(Clone, Debug)]
pub struct CutTrack {
    /// CMAF header.
    pub init: Vec<u8>,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Media segments in order.
    pub segments: Vec<CutSegment>,
}

/// One media segment: a header, and the samples whose data follows it.
#[derive(Clone, Debug)]
pub struct CutSegment {
    /// Number in the presentation.
    pub number: u32,
    /// Presentation start.
    pub start: OutputTicks,
    /// Length.
    pub duration: OutputTicks,
    /// Decode time.
    pub decode_time: OutputTicks,
    /// `styp`, `moof` and the header of `mdat`.
    pub header: Vec<u8>,
    /// Fingerprint of the samples as the header states them.
    pub samples_sha256: String,
    /// Samples in decode order: a range of the track's.
    pub samples: Range<usize>,
}

/// A video track, cut, with what the certificate needs.
#[derive(Clone, Debug)]
pub struct CutVideo {
    /// The track.
    pub track: CutTrack,
    /// Frames in its media segments.
    pub num_frames: u64,
    /// Fingerprint of their presentation times, as the headers state them.
    pub pts_sha256: String,
}

fn unfit(code: FailureCode, e: impl std::fmt::Display) -> Failure {
    Failure::of(code, format!("the encoder's output cannot be used: {e}"))
}

/// Verifies the part of one rendition against the plan (count, every presentation time, keyframes where media
/// segments start) and cuts it.
///
/// # Errors
/// A media [`Failure`] that says what differs.
pub fn cut_video(planned: &PlannedPart<'_>, track: &EncodedTrack) -> Result<CutVideo, Failure> {
    let (plan, segment) = (planned.track, planned.segment);
    let video =
        plan.video().ok_or_else(|| Failure::of(FailureCode::Plan, format!("{} is not a video track", plan.id)))?;
    if track.timescale != plan.timescale {
        return Err(unfit(
            FailureCode::Timescale,
            format!("its timescale is {}, planned {}", track.timescale, plan.timescale),
        ));
    }
    let (start, end) = (segment.output_start.get(), segment.output_end.get());
    let origin = planned.origin.get();
    // Only the first frame may be shown before its own time; everywhere else both are the same tick.
    let pts: Vec<i64> = track.samples.iter().map(|s| if s.pts == 0 { start } else { origin + s.pts }).collect();
    check_times(planned, &pts)?;
    let timing =
        timing::reconstruct(&pts, start, end, plan.delay.unsigned()).map_err(|e| unfit(FailureCode::Timing, e))?;

    let media_segments = &planned.grid.media_segments;
    let mut segments = Vec::with_capacity(media_segments.len());
    let mut times = Vec::with_capacity(pts.len());
    let mut first = 0usize;
    let mut decode_time = i64::try_from(timing.base_decode_time).unwrap_or(i64::MAX);
    for (i, m) in media_segments.iter().enumerate() {
        let next = media_segments.get(i + 1).map_or(end, |n| n.start.get());
        let range = media_segment(&plan.id, m, next, (track, &pts), first, video.coding.is_copy())?;
        let encoded = track.samples.get(range.clone()).unwrap_or_default();
        let timed = timing.samples.get(range.clone()).unwrap_or_default();
        let specs: Vec<SampleSpec> = encoded
            .iter()
            .zip(timed)
            .map(|(s, t)| SampleSpec {
                duration: t.duration,
                size: s.size,
                is_sync: s.is_sync,
                composition_offset: t.composition_offset,
            })
            .collect();
        let header = write_fragment(&FragmentSpec {
            // Video and audio interleave in one numbering: odd for video, even for audio.
            sequence_number: m.number.saturating_mul(2) - 1,
            track_id: VIDEO_TRACK_ID,
            base_decode_time: u64::try_from(decode_time).unwrap_or(0),
            samples: &specs,
        })
        .map_err(|e| unfit(FailureCode::Fragment, e))?;
        let written = measure(decode_time, plan.delay.get(), &specs);
        times.extend(written.iter().map(|s| s.pts));
        first = range.end;
        segments.push(CutSegment {
            number: m.number,
            start: m.start,
            duration: m.duration,
            decode_time: OutputTicks(decode_time),
            header: header.bytes,
            samples_sha256: samples_sha256(&written),
            samples: range,
        });
        decode_time += specs.iter().map(|s| i64::from(s.duration)).sum::<i64>();
    }
    if first != track.samples.len() {
        return Err(Failure::of(
            FailureCode::SamplesLeft,
            format!("{}: {} samples belong to no media segment", plan.id, track.samples.len() - first),
        ));
    }
    times.sort_unstable();
    let (num_frames, pts_sha256) = (times.len() as u64, pts_fingerprint(times.into_iter().map(OutputTicks)));
    let track = finish(&video_header(plan, video, track)?, None, segments)?;
    Ok(CutVideo { track, num_frames, pts_sha256 })
}

/// Compares count and presentation times of the encoder's output with the plan.
fn check_times(planned: &PlannedPart<'_>, pts: &[i64]) -> Result<(), Failure> {
    let (id, num_frames) = (&planned.track.id, planned.frames.num_frames);
    let mut sorted = pts.to_vec();
    sorted.sort_unstable();
    if sorted.len() as u64 != num_frames {
        let m = format!("{id}: {} frames came out, the source has {num_frames} there", sorted.len());
        return Err(Failure::of(FailureCode::FramesDiffer, m));
    }
    if pts_fingerprint(sorted.into_iter().map(OutputTicks)) != planned.frames.pts_sha256 {
        return Err(Failure::of(FailureCode::TimesDiffer, format!("{id}: frame times differ from the source's")));
    }
    Ok(())
}

/// The first time that the samples from a keyframe to the next one show; `None` for other samples. Copied frames may be
/// shown before their keyframe; encoders are asked for closed groups of pictures.
fn first_shown(track: &EncodedTrack, pts: &[i64], at: usize, is_copy: bool) -> Option<i64> {
    let (sample, keyframe) = (track.samples.get(at)?, *pts.get(at)?);
    if !sample.is_sync {
        return None;
    }
    let behind = track.samples.iter().zip(pts).skip(at + 1).take_while(|(s, _)| is_copy && !s.is_sync);
    behind.map(|(_, pts)| *pts).chain([keyframe]).min()
}

/// The samples of the media segment that begins with sample `first` and ends at tick `next`.
fn media_segment(
    id: &str,
    m: &MediaSegmentPlan,
    next: i64,
    (track, pts): (&EncodedTrack, &[i64]),
    first: usize,
    is_copy: bool,
) -> Result<Range<usize>, Failure> {
    let start = m.start.get();
    let starts_at = |at: usize, tick: i64| first_shown(track, pts, at, is_copy) == Some(tick);
    if !(starts_at(first, start) || is_copy && first == 0) {
        return Err(Failure::of(FailureCode::NoKeyframe, format!("{id}: no keyframe at media segment {}", m.number)));
    }
    let last = (first + 1..pts.len()).find(|at| starts_at(*at, next)).unwrap_or(pts.len());
    if pts.get(first..last).unwrap_or_default().iter().any(|p| *p < start || *p >= next) {
        return Err(Failure::of(
            FailureCode::OpenGop,
            format!("{id}: frames of another media segment in {}", m.number),
        ));
    }
    Ok(first..last)
}

/// Samples as a media segment's header states them.
fn measure(decode_time: i64, delay: i64, specs: &[SampleSpec]) -> Vec<MeasuredSample> {
    let times = presentation_times(decode_time, delay, specs.iter().map(|s| (s.duration, s.composition_offset)));
    let sample =
        |(s, pts): (&SampleSpec, i64)| MeasuredSample { pts, duration: s.duration, bytes: s.size, is_sync: s.is_sync };
    specs.iter().zip(times).map(sample).collect()
}

fn video_header(plan: &TrackPlan, video: &VideoMedia, track: &EncodedTrack) -> Result<TrackHeader, Failure> {
    let sar = (u32::try_from(video.sar.num()).unwrap_or(1), u32::try_from(video.sar.den()).unwrap_or(1));
    let sample_entry =
        completed(&track.sample_entry, sar, &video.side_data).map_err(|e| unfit(FailureCode::Init, e))?;
    Ok(TrackHeader {
        id: VIDEO_TRACK_ID,
        handler: Handler::Video,
        timescale: plan.timescale,
        language: "und".into(),
        sample_entry,
        width: video.width,
        height: video.height,
        sar,
        matrix: video.side_data.matrix.map_or(UNITY, |matrix| matrix.0),
        delay: plan.delay.unsigned(),
        name: "Video".into(),
    })
}

/// An audio track, cut, with what the certificate needs.
#[derive(Clone, Debug)]
pub struct CutAudio {
    /// The track.
    pub track: CutTrack,
    /// Samples per packet.
    pub frame_samples: u32,
    /// Hidden samples in front.
    pub priming: u32,
    /// Samples that play.
    pub num_samples: u64,
}

/// Cuts a finished audio track on its packet grid. `index` is the track's place among the whole tracks;
/// `encoded_samples` what the encoder said it took in.
///
/// # Errors
/// A media [`Failure`] that says what is wrong.
pub fn cut_audio_track(
    plan: &TrackPlan,
    index: u32,
    track: &EncodedTrack,
    encoded_samples: Option<u64>,
    step_seconds: f64,
) -> Result<CutAudio, Failure> {
    let (Some(audio), Cut::Whole { start, .. }) = (plan.audio(), &plan.cut) else {
        return Err(Failure::of(FailureCode::Plan, format!("{} is not a whole audio track", plan.id)));
    };
    if track.timescale != plan.timescale {
        return Err(unfit(
            FailureCode::Timescale,
            format!("its timescale is {}, planned {}", track.timescale, plan.timescale),
        ));
    }
    let first_pts = track.samples.first().map_or(0, |s| s.pts);
    let priming = u32::try_from(-first_pts.min(0)).map_err(|_| unfit(FailureCode::Priming, "too much of it"))?;
    let frame = track.samples.first().map_or(1, |s| s.duration.max(1));
    if !audio.coding.is_copy() {
        check_packets(&plan.id, track, audio.frame_samples)?;
    }
    let held: u64 = track.samples.iter().map(|s| u64::from(s.duration)).sum();
    let num_samples = encoded_samples
        .or(track.presented)
        .unwrap_or(held.saturating_sub(u64::from(priming)))
        .min(held.saturating_sub(u64::from(priming)));
    let cuts = cut_audio(plan, track.samples.len() as u64, frame, priming, step_seconds);
    let mut segments = Vec::with_capacity(cuts.len());
    let track_id = VIDEO_TRACK_ID + 1 + index;
    let mut decode_time = start.get();
    for c in &cuts {
        let first = usize::try_from(c.first_packet).unwrap_or(usize::MAX);
        let range = first..first + usize::try_from(c.num_packets).unwrap_or(0);
        let packets =
            track.samples.get(range.clone()).ok_or_else(|| unfit(FailureCode::Packets, "the cut lies outside"))?;
        let specs: Vec<SampleSpec> = packets
            .iter()
            .map(|s| SampleSpec { duration: s.duration.max(1), size: s.size, is_sync: true, composition_offset: 0 })
            .collect();
        let header = write_fragment(&FragmentSpec {
            sequence_number: c.number.saturating_mul(2),
            track_id,
            base_decode_time: u64::try_from(decode_time).unwrap_or(0),
            samples: &specs,
        })
        .map_err(|e| unfit(FailureCode::Fragment, e))?;
        let duration = specs.iter().map(|s| i64::from(s.duration)).sum::<i64>();
        segments.push(CutSegment {
            number: c.number,
            start: OutputTicks(decode_time - i64::from(priming)),
            duration: OutputTicks(duration),
            decode_time: OutputTicks(decode_time),
            header: header.bytes,
            samples_sha256: samples_sha256(&measure(decode_time, i64::from(priming), &specs)),
            samples: range,
        });
        decode_time += duration;
    }
    let header = audio_header(plan, track_id, track, priming);
    let gapless = Gapless::of(&track.sample_entry, priming, held, num_samples);
    Ok(CutAudio { track: finish(&header, gapless, segments)?, frame_samples: frame, priming, num_samples })
}

/// Refuses packets that are shorter or longer than a codec frame: an encoder makes full frames and one rest, so another
/// length is a jump of the encoder's clock, behind which nothing plays at its time.
fn check_packets(id: &str, track: &EncodedTrack, frame_samples: u32) -> Result<(), Failure> {
    let (last, full) = track.samples.split_last().ok_or_else(|| unfit(FailureCode::NoAudio, "no packets"))?;
    let odd = full.iter().position(|s| s.duration != frame_samples);
    let odd = odd.or_else(|| (last.duration > frame_samples).then_some(full.len()));
    let Some(odd) = odd else { return Ok(()) };
    let held = track.samples.get(odd).map_or(0, |s| s.duration);
    let m = format!("{id}: packet {odd} has {held} samples, a codec frame has {frame_samples}");
    Err(Failure::of(FailureCode::SamplesDiffer, m))
}

fn audio_header(plan: &TrackPlan, id: u32, track: &EncodedTrack, priming: u32) -> TrackHeader {
    TrackHeader {
        id,
        handler: Handler::Audio,
        timescale: plan.timescale,
        language: plan.label.language.clone(),
        sample_entry: track.sample_entry.clone(),
        width: 0,
        height: 0,
        sar: (1, 1),
        matrix: UNITY,
        delay: u64::from(priming),
        name: plan.label.name.clone(),
    }
}

fn finish(header: &TrackHeader, gapless: Option<Gapless>, segments: Vec<CutSegment>) -> Result<CutTrack, Failure> {
    let codec = codec_string(&header.sample_entry).map_err(|e| unfit(FailureCode::Codec, e))?;
    let init = write_init(std::slice::from_ref(header), gapless).map_err(|e| unfit(FailureCode::Init, e))?;
    Ok(CutTrack { init, codec, segments })
}
