//! From what an encoder left behind to CMAF media segments: verifies, rebuilds the timing, cuts. Pure.

use splitreel_core::Failure;
use splitreel_core::plan::{AudioPlan, Rendition, Segment, VideoPlan, pts_fingerprint};
use splitreel_core::planner::cut_audio;
use splitreel_core::profile::{AudioCodec, VideoCodec};
use splitreel_media::piece::{EncodedSample, EncodedTrack};
use splitreel_packaging::codecs::codec_string;
use splitreel_packaging::fragment::{FragmentSpec, SampleSpec, write_fragment};
use splitreel_packaging::init::{Gapless, TrackHeader, TrackKind, write_init};
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
    /// Presentation start, output ticks.
    pub start: i64,
    /// Length, output ticks.
    pub duration: i64,
    /// Decode time, output ticks.
    pub decode_time: i64,
    /// `styp`, `moof` and the header of `mdat`.
    pub header: Vec<u8>,
    /// Samples in decode order: a range of the track's.
    pub samples: Range<usize>,
}

fn unfit(code: &str, e: impl std::fmt::Display) -> Failure {
    Failure::media(code, format!("the encoder's output cannot be used: {e}"))
}

/// Verifies one rendition of a segment against the plan (count, every presentation time, keyframes where media
/// segments start) and cuts it.
///
/// # Errors
/// A media [`Failure`] that says what differs.
pub fn cut_video(
    plan: &VideoPlan,
    segment: &Segment,
    rendition: &Rendition,
    track: &EncodedTrack,
) -> Result<CutTrack, Failure> {
    if track.timescale != plan.timescale {
        return Err(unfit("timescale", format!("its timescale is {}, planned {}", track.timescale, plan.timescale)));
    }
    let place = |s: &EncodedSample| segment.output_start + s.pts;
    let pts: Vec<i64> = track.samples.iter().map(place).collect();
    let mut sorted = pts.clone();
    sorted.sort_unstable();
    if sorted.len() as u64 != segment.num_frames {
        let m =
            format!("{}: {} frames came out, the source has {} there", rendition.id, sorted.len(), segment.num_frames);
        return Err(Failure::media("frames_differ", m));
    }
    if pts_fingerprint(sorted.iter().copied()) != segment.pts_sha256 {
        let m = format!("{}: frame times differ from the source's", rendition.id);
        return Err(Failure::media("times_differ", m));
    }
    let delay = u64::try_from(plan.delay).unwrap_or(0);
    let timing =
        timing::reconstruct(&pts, segment.output_start, segment.output_end, delay).map_err(|e| unfit("timing", e))?;

    let mut segments = Vec::with_capacity(segment.media_segments.len());
    let mut first = 0usize;
    let mut decode_time = i64::try_from(timing.base_decode_time).unwrap_or(i64::MAX);
    for (i, m) in segment.media_segments.iter().enumerate() {
        let next = segment.media_segments.get(i + 1).map_or(segment.output_end, |n| n.start);
        let starts_right = track.samples.get(first).is_some_and(|s| s.is_sync) && pts.get(first) == Some(&m.start);
        if !(starts_right || plan.codec == VideoCodec::Copy && first == 0) {
            return Err(Failure::media(
                "no_keyframe",
                format!("{}: no keyframe at media segment {}", rendition.id, m.number),
            ));
        }
        let last = pts.iter().skip(first).position(|p| *p == next).map_or(pts.len(), |n| first + n);
        if pts[first..last].iter().any(|p| *p < m.start || *p >= next) {
            return Err(Failure::media(
                "open_gop",
                format!("{}: pictures of another media segment in {}", rendition.id, m.number),
            ));
        }
        let specs: Vec<SampleSpec> = track.samples[first..last]
            .iter()
            .zip(&timing.samples[first..last])
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
        .map_err(|e| unfit("fragment", e))?;
        segments.push(CutSegment {
            number: m.number,
            start: m.start,
            duration: m.duration,
            decode_time,
            header: header.bytes,
            samples: first..last,
        });
        decode_time += specs.iter().map(|s| i64::from(s.duration)).sum::<i64>();
        first = last;
    }
    if first != track.samples.len() {
        return Err(Failure::media(
            "samples_left",
            format!("{}: {} samples belong to no media segment", rendition.id, track.samples.len() - first),
        ));
    }
    let header = TrackHeader {
        id: VIDEO_TRACK_ID,
        kind: TrackKind::Video,
        timescale: plan.timescale,
        language: "und".into(),
        sample_entry: track.sample_entry.clone(),
        width: rendition.width,
        height: rendition.height,
        sar: (u32::try_from(rendition.sar.num()).unwrap_or(1), u32::try_from(rendition.sar.den()).unwrap_or(1)),
        delay,
        name: "Video".into(),
    };
    finish(&header, None, segments)
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

/// Cuts a finished audio track on its packet grid. `index` is the track's place among the audio renditions;
/// `encoded_samples` what the encoder said it took in.
///
/// # Errors
/// A media [`Failure`] that says what is wrong.
pub fn cut_audio_track(
    plan: &AudioPlan,
    index: u32,
    track: &EncodedTrack,
    encoded_samples: Option<u64>,
    step_seconds: f64,
) -> Result<CutAudio, Failure> {
    if track.timescale != plan.sample_rate {
        return Err(unfit("timescale", format!("its timescale is {}, planned {}", track.timescale, plan.sample_rate)));
    }
    let first_pts = track.samples.first().map_or(0, |s| s.pts);
    let priming = u32::try_from(-first_pts.min(0)).map_err(|_| unfit("priming", "too much of it"))?;
    let frame = track.samples.first().map_or(1, |s| s.duration.max(1));
    let held: u64 = track.samples.iter().map(|s| u64::from(s.duration)).sum();
    let num_samples = encoded_samples
        .or(track.presented)
        .unwrap_or(held.saturating_sub(u64::from(priming)))
        .min(held.saturating_sub(u64::from(priming)));
    let cuts = cut_audio(plan, track.samples.len() as u64, frame, priming, step_seconds);
    let mut segments = Vec::with_capacity(cuts.len());
    let track_id = VIDEO_TRACK_ID + 1 + index;
    let mut decode_time = plan.start;
    for c in &cuts {
        let first = usize::try_from(c.first_packet).unwrap_or(usize::MAX);
        let range = first..first + usize::try_from(c.num_packets).unwrap_or(0);
        let packets = track.samples.get(range.clone()).ok_or_else(|| unfit("packets", "the cut lies outside"))?;
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
        .map_err(|e| unfit("fragment", e))?;
        let duration = specs.iter().map(|s| i64::from(s.duration)).sum::<i64>();
        segments.push(CutSegment {
            number: c.number,
            start: decode_time - i64::from(priming),
            duration,
            decode_time,
            header: header.bytes,
            samples: range,
        });
        decode_time += duration;
    }
    let header = TrackHeader {
        id: track_id,
        kind: TrackKind::Audio,
        timescale: plan.sample_rate,
        language: plan.language.clone(),
        sample_entry: track.sample_entry.clone(),
        width: 0,
        height: 0,
        sar: (1, 1),
        delay: u64::from(priming),
        name: plan.name.clone(),
    };
    let padding = u32::try_from(held.saturating_sub(num_samples).saturating_sub(u64::from(priming))).unwrap_or(0);
    // Opus tells its priming in its own sample entry.
    let gapless = (priming > 0 && plan.codec != AudioCodec::Opus).then_some(Gapless { priming, padding, num_samples });
    Ok(CutAudio { track: finish(&header, gapless, segments)?, frame_samples: frame, priming, num_samples })
}

fn finish(header: &TrackHeader, gapless: Option<Gapless>, segments: Vec<CutSegment>) -> Result<CutTrack, Failure> {
    let codec = codec_string(&header.sample_entry).map_err(|e| unfit("codec", e))?;
    let init = write_init(std::slice::from_ref(header), gapless).map_err(|e| unfit("init", e))?;
    Ok(CutTrack { init, codec, segments })
}
