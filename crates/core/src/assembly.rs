//! The check before packaging: do the parts make up the plan, exactly? Its proof is the certificate.

use crate::part::{AudioPart, RenditionPart, StoredSegment, VideoPart};
use crate::plan::{Cut, MediaKind, Plan, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What was proven about the output. Deterministic: the same for every run of the same plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Hash of the plan.
    pub plan_sha256: String,
    /// The ffmpeg that probed and encoded.
    pub ffmpeg_build: String,
    /// Segments the source was split into.
    pub num_segments: usize,
    /// One entry per video rendition.
    pub video: Vec<VideoCertificate>,
    /// One entry per audio rendition.
    pub audio: Vec<AudioCertificate>,
}

/// Proof for a video rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoCertificate {
    /// Rendition id.
    pub rendition: String,
    /// Frames of the source.
    pub frames_in: u64,
    /// Frames of the output.
    pub frames_out: u64,
    /// Fingerprint of the source's presentation times, output ticks, segment by segment.
    pub pts_sha256_in: String,
    /// The same of the output.
    pub pts_sha256_out: String,
    /// Each fragment's decode time is where the one before ended.
    pub is_continuous: bool,
    /// All pieces have this same header.
    pub init_sha256: String,
    /// SHA-256 of every media segment, in order.
    pub segments_sha256: Vec<String>,
}

/// Proof for an audio rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioCertificate {
    /// Rendition id.
    pub rendition: String,
    /// Samples the decoder delivered, at the source's rate, when it told.
    pub samples_decoded: Option<u64>,
    /// Samples that play, at the output's rate.
    pub samples_out: u64,
    /// Output rate in Hz.
    pub sample_rate: u32,
    /// Hidden samples in front.
    pub priming: u32,
    /// Place of the first sample on the timeline, in samples.
    pub start: i64,
    /// Packets follow each other without gap or overlap.
    pub is_continuous: bool,
    /// SHA-256 of every media segment, in order.
    pub segments_sha256: Vec<String>,
}

/// A difference between the parts and the plan. Any one stops publication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Violation {
    /// Where, for example `720p segment 3`.
    pub place: String,
    /// What differs.
    pub what: String,
}

/// Compares parts with their plan.
///
/// # Errors
/// Every violation found.
pub fn check(
    plan: &Plan,
    ffmpeg_build: &str,
    video: &[VideoPart],
    audio: &[AudioPart],
) -> Result<Certificate, Vec<Violation>> {
    let mut bad = Vec::new();
    let video_proof = check_video(plan, video, &mut bad);
    let audio_proof = check_audio(plan, audio, &mut bad);
    if !bad.is_empty() {
        return Err(bad);
    }
    Ok(Certificate {
        plan_sha256: plan.hash(),
        ffmpeg_build: ffmpeg_build.to_owned(),
        num_segments: plan.num_segments(),
        video: video_proof,
        audio: audio_proof,
    })
}

fn violation(bad: &mut Vec<Violation>, place: impl Into<String>, what: impl Into<String>) {
    bad.push(Violation { place: place.into(), what: what.into() });
}

fn check_video(plan: &Plan, parts: &[VideoPart], bad: &mut Vec<Violation>) -> Vec<VideoCertificate> {
    let Some(timeline) = &plan.timeline else {
        if !parts.is_empty() {
            violation(bad, "video", "parts without a video plan");
        }
        return Vec::new();
    };
    let mut by_segment: BTreeMap<u32, &VideoPart> = BTreeMap::new();
    for p in parts {
        if by_segment.insert(p.segment, p).is_some() {
            violation(bad, format!("segment {}", p.segment), "two parts");
        }
    }
    if by_segment.len() != timeline.segments.len() || by_segment.keys().ne(timeline.segments.iter().map(|s| &s.index)) {
        violation(bad, "video", format!("{} parts for {} segments", by_segment.len(), timeline.segments.len()));
        return Vec::new();
    }
    let mut proofs = Vec::new();
    for (r, track) in plan.timeline_tracks().enumerate() {
        let (mut hash_in, mut hash_out) = (Sha256::new(), Sha256::new());
        let (mut frames_in, mut frames_out) = (0, 0);
        let mut first: Option<&RenditionPart> = None;
        let mut segments: Vec<&StoredSegment> = Vec::new();
        for (at, s) in timeline.segments.iter().enumerate() {
            let place = format!("{} segment {}", track.id, s.index);
            let Some(planned) = plan.part_at(track, at) else {
                violation(bad, place, "the plan says nothing about it");
                continue;
            };
            let Some(part) =
                by_segment.get(&s.index).and_then(|p| p.renditions.get(r)).filter(|p| p.rendition == track.id)
            else {
                violation(bad, place, "the rendition is missing");
                continue;
            };
            let head = *first.get_or_insert(part);
            if part.init.sha256 != head.init.sha256 || part.codec != head.codec {
                violation(bad, &place, "its header differs from the first segment's");
            }
            let frames = planned.frames;
            if part.num_frames != frames.num_frames {
                violation(bad, &place, format!("{} frames, the source has {}", part.num_frames, frames.num_frames));
            }
            if part.pts_sha256 != frames.pts_sha256 {
                violation(bad, &place, "presentation times differ from the source's");
            }
            let media_segments = &planned.grid.media_segments;
            let same = part.segments.len() == media_segments.len()
                && part
                    .segments
                    .iter()
                    .zip(media_segments)
                    .all(|(a, b)| (a.number, a.start, a.duration) == (b.number, b.start.get(), b.duration.get()));
            if !same {
                violation(bad, &place, "media segments are not where the plan puts them");
            }
            if part.segments.first().is_some_and(|f| f.decode_time != s.output_start.get()) {
                violation(bad, &place, "the first decode time is not the segment's start");
            }
            frames_in += frames.num_frames;
            frames_out += part.num_frames;
            hash_in.update(frames.pts_sha256.as_bytes());
            hash_out.update(part.pts_sha256.as_bytes());
            segments.extend(&part.segments);
        }
        let is_continuous =
            is_contiguous(&segments) && segments.windows(2).all(|w| w[0].decode_time < w[1].decode_time);
        if !is_continuous {
            violation(bad, &track.id, "the timeline has a gap or an overlap");
        }
        proofs.push(VideoCertificate {
            rendition: track.id.clone(),
            frames_in,
            frames_out,
            pts_sha256_in: hex(&hash_in.finalize()),
            pts_sha256_out: hex(&hash_out.finalize()),
            is_continuous,
            init_sha256: first.map(|f| f.init.sha256.clone()).unwrap_or_default(),
            segments_sha256: segments.iter().map(|s| s.object.sha256.clone()).collect(),
        });
    }
    proofs
}

fn check_audio(plan: &Plan, parts: &[AudioPart], bad: &mut Vec<Violation>) -> Vec<AudioCertificate> {
    let num_tracks = plan.tracks_of(MediaKind::Audio).count();
    if parts.len() != num_tracks {
        violation(bad, "audio", format!("{} parts for {num_tracks} tracks", parts.len()));
        return Vec::new();
    }
    plan.tracks_of(MediaKind::Audio)
        .zip(parts)
        .map(|(planned, part)| {
            let place = format!("audio {}", planned.id);
            if part.rendition != planned.id {
                violation(bad, &place, format!("holds the part of {}", part.rendition));
            }
            let planned_start = match planned.cut {
                Cut::Whole { start, .. } => start.get(),
                Cut::Timeline { .. } => 0,
            };
            if part.start != planned_start {
                violation(bad, &place, format!("starts at sample {}, planned {planned_start}", part.start));
            }
            let segments: Vec<&StoredSegment> = part.segments.iter().collect();
            let held = segments.iter().map(|s| s.duration.max(0) as u64).sum::<u64>();
            if segments.is_empty() || held < part.num_samples.saturating_add(u64::from(part.priming)) {
                violation(
                    bad,
                    &place,
                    format!(
                        "{held} samples in packets, {} are to play after {} of priming",
                        part.num_samples, part.priming
                    ),
                );
            }
            let priming = i64::from(part.priming);
            let is_continuous = is_contiguous(&segments) && segments.iter().all(|s| s.decode_time == s.start + priming);
            if !is_continuous {
                violation(bad, &place, "the timeline has a gap or an overlap");
            }
            AudioCertificate {
                rendition: part.rendition.clone(),
                samples_decoded: part.decoded_samples,
                samples_out: part.num_samples,
                sample_rate: part.sample_rate,
                priming: part.priming,
                start: part.start,
                is_continuous,
                segments_sha256: segments.iter().map(|s| s.object.sha256.clone()).collect(),
            }
        })
        .collect()
}

fn is_contiguous(segments: &[&StoredSegment]) -> bool {
    segments.windows(2).all(|w| w[1].number == w[0].number + 1 && w[1].start == w[0].start + w[0].duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::{Cost, StoredObject};
    use crate::planner::{Capabilities, plan};
    use crate::profile::Profile;
    use crate::source::SourceInfo;

    fn object(name: &str) -> StoredObject {
        StoredObject { key: name.into(), bytes: 1, sha256: name.into() }
    }

    /// Parts that fulfil a plan exactly.
    fn perfect(plan: &Plan) -> Vec<VideoPart> {
        let segments = &plan.timeline.as_ref().unwrap().segments;
        segments
            .iter()
            .map(|s| VideoPart {
                segment: s.index,
                cost: Cost::default(),
                renditions: plan
                    .parts_of(s.index)
                    .unwrap()
                    .iter()
                    .map(|r| RenditionPart {
                        rendition: r.track.id.clone(),
                        init: object(&r.track.id),
                        codec: "avc1".into(),
                        num_frames: r.frames.num_frames,
                        pts_sha256: r.frames.pts_sha256.clone(),
                        segments: r
                            .grid
                            .media_segments
                            .iter()
                            .map(|m| StoredSegment {
                                number: m.number,
                                start: m.start.get(),
                                duration: m.duration.get(),
                                decode_time: m.start.get(),
                                num_samples: 1,
                                header_bytes: 1,
                                object: object("s"),
                            })
                            .collect(),
                    })
                    .collect(),
            })
            .collect()
    }

    fn planned() -> Plan {
        let info: SourceInfo = serde_json::from_value(serde_json::json!({
            "container": "mov", "demuxer": "mov", "bytes": 1, "audio": [], "unused": [],
            "video": {"stream": 0, "codec": "h264", "width": 640, "height": 360, "sar": [1, 1], "pix_fmt": "yuv420p", "bit_depth": 8,
                "color": {"range": "", "space": "", "transfer": "", "primaries": ""}, "rotation": 0, "interlaced": false,
                "timebase": [1, 30], "frame_rate": [30, 1], "bits_per_second": 0,
                "frames": {"pts": {"first": 0, "len": 600, "runs": [[1, 599]]}, "last_duration": 1, "keyframes": [{"pts": 0, "position": null}],
                    "evidence": "moov", "is_seekable": true}}
        }))
        .unwrap();
        let mut profile = Profile::built_in("universal").unwrap();
        profile.split.segment_seconds = 5.0;
        plan(&info, &profile, &Capabilities::default()).unwrap()
    }

    #[test]
    fn exact_parts_are_certified() {
        let plan = planned();
        let c = check(&plan, "b", &perfect(&plan), &[]).unwrap();
        assert_eq!((c.num_segments, c.video[0].frames_in, c.video[0].frames_out), (4, 600, 600));
        assert_eq!(c.video[0].pts_sha256_in, c.video[0].pts_sha256_out);
    }

    #[test]
    fn every_kind_of_difference_stops_publication() {
        let plan = planned();
        type Spoil = fn(&mut Vec<VideoPart>);
        let spoils: [(&str, Spoil); 7] = [
            ("parts for", |p| drop(p.pop())),
            ("two parts", |p| p.push(p[0].clone())),
            ("header differs", |p| p[2].renditions[0].init.sha256 = "x".into()),
            ("frames, the source has", |p| p[1].renditions[0].num_frames -= 1),
            ("presentation times differ", |p| p[1].renditions[0].pts_sha256 = "x".into()),
            ("not where the plan", |p| p[1].renditions[0].segments[0].duration += 1),
            ("first decode time", |p| p[1].renditions[0].segments[0].decode_time += 1),
        ];
        for (what, spoil) in spoils {
            let mut parts = perfect(&plan);
            spoil(&mut parts);
            let bad = check(&plan, "b", &parts, &[]).unwrap_err();
            assert!(bad.iter().any(|b| b.to_string().contains(what)), "{what}: {bad:?}");
        }
    }
}
