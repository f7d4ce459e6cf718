//! Fake encodes: samples with the times that the plan asks for, in the order an encoder with B-frames emits them.

use super::FakeSource;
use splitreel_core::plan::{Plan, PlannedPart, TrackPlan};
use splitreel_core::time::{OutputTicks, Rational, SourceTicks, rescale};
use splitreel_core::{Failure, FailureCode};
use splitreel_media::piece::{EncodedSample, EncodedTrack, Payload};
use splitreel_packaging::bmff::BoxWriter;
use std::sync::Arc;

/// Samples per packet of fake AAC, and its priming.
const FRAME_SAMPLES: u32 = 1024;

fn unfit(what: impl std::fmt::Display) -> Failure {
    Failure::of(FailureCode::Plan, format!("the plan cannot be carried out: {what}"))
}

/// One track for each part of the segment.
pub(super) fn video(source: &FakeSource, plan: &Plan, segment: u32) -> Result<Vec<EncodedTrack>, Failure> {
    let track = source.info.video.as_ref().ok_or_else(|| unfit("no video"))?;
    let timeline = plan.timeline.as_ref().ok_or_else(|| unfit("no timeline"))?;
    let parts = plan.parts_of(segment).ok_or_else(|| unfit("no such segment"))?;
    let frames: Vec<SourceTicks> = track.frames.pts.iter().map(SourceTicks).collect();
    let make = |part: &PlannedPart<'_>| {
        let list = plan.frame_list(part.track).ok_or_else(|| unfit("no frame list"))?;
        let chosen = list.rule.choose(&frames, timeline.source_timebase);
        let s = part.segment;
        let is_inside = |pts: &SourceTicks| *pts >= s.start && s.end.is_none_or(|end| *pts < end);
        let inside = chosen.into_iter().filter_map(|at| frames.get(at).copied()).filter(is_inside);
        let shown: Vec<OutputTicks> = inside.map(|pts| timeline.output(pts)).collect();
        video_track(source, part, &shown)
    };
    parts.iter().map(make).collect()
}

fn video_track(source: &FakeSource, part: &PlannedPart<'_>, shown: &[OutputTicks]) -> Result<EncodedTrack, Failure> {
    let (segment, keyframes) = (part.segment, &part.grid.keyframes);
    let video = part.track.video().ok_or_else(|| unfit("no video track"))?;
    let order = decode_order(shown, keyframes);
    let mut data = Vec::new();
    let mut samples = Vec::with_capacity(order.len());
    for at in order {
        let Some(&pts) = shown.get(at) else { continue };
        let next = shown.get(at + 1).copied().unwrap_or(segment.output_end);
        let offset = data.len();
        let name = format!("{}/{}/{}/{at}", source.number, segment.index, part.track.id);
        fill(&mut data, &name);
        samples.push(EncodedSample {
            pts: if at == 0 { 0 } else { (pts - part.origin).get() },
            duration: u32::try_from((next - pts).get()).map_err(unfit)?,
            size: u32::try_from(data.len() - offset).map_err(unfit)?,
            offset: offset as u64,
            is_sync: keyframes.contains(&pts),
        });
    }
    let (width, height) = (u16::try_from(video.width).map_err(unfit)?, u16::try_from(video.height).map_err(unfit)?);
    let sample_entry = avc_entry(width, height)?;
    Ok(EncodedTrack {
        timescale: part.track.timescale,
        sample_entry,
        samples,
        payload: Payload::Memory(Arc::new(data)),
        presented: None,
    })
}

/// Indices of frames in decode order: closed GOPs, in each the keyframe, then P before the two B that it closes.
fn decode_order(shown: &[OutputTicks], keyframes: &[OutputTicks]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(shown.len());
    let mut waiting: Vec<usize> = Vec::new();
    for (at, pts) in shown.iter().enumerate() {
        let is_last_of_gop = shown.get(at + 1).is_none_or(|next| keyframes.contains(next));
        if keyframes.contains(pts) {
            order.push(at);
        } else if waiting.len() == 2 || is_last_of_gop {
            order.push(at);
            order.append(&mut waiting);
        } else {
            waiting.push(at);
        }
    }
    order.append(&mut waiting);
    order
}

/// A whole audio track.
pub(super) struct Audio {
    pub track: EncodedTrack,
    /// Samples that went in.
    pub num_samples: u64,
}

pub(super) fn audio(source: &FakeSource, plan: &TrackPlan) -> Result<Audio, Failure> {
    let track =
        source.info.audio.iter().find(|a| a.stream == plan.source_stream).ok_or_else(|| unfit("no such audio"))?;
    let length = track.duration.ok_or_else(|| unfit("no duration"))?;
    let rate = Rational::new(1, i64::from(plan.timescale)).ok_or_else(|| unfit("no sample rate"))?;
    let num_samples = u64::try_from(rescale(length.ticks, length.timebase, rate)).map_err(unfit)?;
    let num_packets = num_samples.div_ceil(u64::from(FRAME_SAMPLES)) + 1;
    let mut data = Vec::new();
    let mut samples = Vec::new();
    for i in 0..num_packets {
        let offset = data.len();
        fill(&mut data, &format!("{}/audio/{}/{i}", source.number, plan.id));
        samples.push(EncodedSample {
            pts: i64::try_from(i * u64::from(FRAME_SAMPLES)).map_err(unfit)? - i64::from(FRAME_SAMPLES),
            duration: FRAME_SAMPLES,
            size: u32::try_from(data.len() - offset).map_err(unfit)?,
            offset: offset as u64,
            is_sync: true,
        });
    }
    let channels = plan.audio().ok_or_else(|| unfit("no audio track"))?.channels;
    let sample_entry = aac_entry(plan.timescale, channels)?;
    let presented = Some(num_samples);
    let track = EncodedTrack {
        timescale: plan.timescale,
        sample_entry,
        samples,
        payload: Payload::Memory(Arc::new(data)),
        presented,
    };
    Ok(Audio { track, num_samples })
}

/// Content that names what it belongs to, of a length that differs between samples.
fn fill(data: &mut Vec<u8>, name: &str) {
    let tail = name.bytes().fold(7u8, |sum, b| sum.wrapping_mul(31).wrapping_add(b));
    data.extend_from_slice(name.as_bytes());
    data.extend(std::iter::repeat_n(tail, usize::from(tail % 16)));
}

/// `avc1` with an `avcC` (ISO/IEC 14496-15 §5.4.2.1) of High profile, level 3.0, without parameter sets.
fn avc_entry(width: u16, height: u16) -> Result<Vec<u8>, Failure> {
    let mut w = BoxWriter::new();
    w.boxed(b"avc1", |w| {
        w.zeros(6);
        w.u16(1);
        w.zeros(16);
        w.u16(width);
        w.u16(height);
        w.zeros(50);
        w.boxed(b"avcC", |w| w.bytes(&[1, 100, 0, 30, 0xff, 0xe0, 0]));
    });
    w.into_bytes().map_err(unfit)
}

/// `mp4a` with an `esds` (ISO/IEC 14496-1 §7.2.6.5) of AAC-LC.
fn aac_entry(sample_rate: u32, channels: u16) -> Result<Vec<u8>, Failure> {
    let mut w = BoxWriter::new();
    w.boxed(b"mp4a", |w| {
        w.zeros(6);
        w.u16(1);
        w.zeros(8);
        w.u16(channels);
        w.u16(16);
        w.zeros(4);
        w.u32(sample_rate << 16);
        w.full(b"esds", 0, 0, |w| {
            w.bytes(&[3, 22, 0, 0, 0]);
            w.bytes(&[4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            w.bytes(&[5, 2, 0x15, 0x88]);
            w.bytes(&[6, 1, 2]);
        });
    });
    w.into_bytes().map_err(unfit)
}
