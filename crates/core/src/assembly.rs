//! The check before publication: do plan, parts and stored headers agree? The proof is the certificate. Pure: the
//! assembler measures what is stored and passes the measurements in.

mod audio;
pub mod sound;
mod video;

use crate::content::{Content, Likeness};
use crate::levels::Heard;
use crate::measure::{MeasuredSegment, Stored};
use crate::part::{AudioPart, StoredSegment, VideoPart};
use crate::plan::Plan;
use crate::stated::StatedPicture;
use serde::{Deserialize, Serialize};

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
    /// One entry per track with a task of its own: the audio renditions, and other kinds behind them.
    pub audio: Vec<AudioCertificate>,
}

/// Where a value of the certificate was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// In the plan.
    #[serde(rename = "frame list of the source")]
    Plan,
    /// In the worker, before the parts were stored.
    #[serde(rename = "output of the encoder, in the worker")]
    Part,
    /// In the assembler, before publication.
    #[serde(rename = "headers of the stored media segments, read back before publication")]
    Stored,
}

/// The same values, measured three times. A certificate exists only where they are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured<P, T> {
    /// Planned.
    pub plan: P,
    /// Encoded.
    pub part: T,
    /// Stored.
    pub stored: T,
}

/// Frames of a video rendition as one place saw them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameCount {
    /// Place of the measurement.
    pub from: Origin,
    /// Number of frames.
    pub frames: u64,
    /// Fingerprint of the presentation times, output ticks, segment by segment.
    pub pts_sha256: String,
}

/// Pictures of a rendition held against the source's, shrunk to [`WIDTH`](crate::content::WIDTH) by
/// [`HEIGHT`](crate::content::HEIGHT) pixels, luma and chroma.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// Pictures that the encoder was given.
    pub input: Compared,
    /// Pictures decoded from its output.
    pub output: Compared,
}

/// What the headers of source and output state of the pictures; `None`: nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedHeaders {
    /// The source's, as probing found them.
    pub source: Option<StatedPicture>,
    /// The output's, read back before publication; captions as found in the stored samples.
    pub output: Option<StatedPicture>,
}

/// Result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Frames compared.
    pub frames: u64,
    /// Lowest PSNR of a frame, hundredths of a decibel; 9900 for equal pictures.
    pub worst_centi_db: u32,
    /// Mean PSNR, hundredths of a decibel.
    pub mean_centi_db: u64,
}

impl From<Content> for Pictures {
    fn from(content: Content) -> Self {
        let compared = |likeness: Likeness| Compared {
            frames: likeness.frames,
            worst_centi_db: likeness.worst_centi_db,
            mean_centi_db: likeness.mean_centi_db(),
        };
        Pictures { input: compared(content.input), output: compared(content.output) }
    }
}

/// Proof for a video rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoCertificate {
    /// Rendition id.
    pub rendition: String,
    /// Frames of the source.
    pub frames_in: u64,
    /// Frames of the output: the stored ones.
    pub frames_out: u64,
    /// Fingerprint of the source's presentation times, output ticks, segment by segment.
    pub pts_sha256_in: String,
    /// The same of the output: of the stored headers.
    pub pts_sha256_out: String,
    /// The three measurements that are compared.
    pub measured: Measured<FrameCount, FrameCount>,
    /// Each fragment's decode time is where the one before ended.
    pub is_continuous: bool,
    /// What the pictures show, against the source; `None` for copies, whose packets are the source's.
    pub content: Option<Pictures>,
    /// What headers state of the pictures.
    pub headers: StatedHeaders,
    /// All pieces have this same header.
    pub init_sha256: String,
    /// SHA-256 of every media segment, in order.
    pub segments_sha256: Vec<String>,
}

/// What the plan says of an audio rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioPlace {
    /// Place of the first sample on the timeline, in samples.
    pub start: i64,
}

/// Samples of an audio rendition as one place saw them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleCount {
    /// Place of the measurement.
    pub from: Origin,
    /// Place of the first sample on the timeline, in samples.
    pub start: i64,
    /// Hidden samples in front.
    pub priming: i64,
    /// Samples in all packets: priming, samples that play, padding of the last packet.
    pub samples: u64,
}

/// Proof for an audio rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioCertificate {
    /// Rendition id.
    pub rendition: String,
    /// Samples that the decoder delivered, at the source's rate. `None`: the decoder did not report a number.
    pub samples_decoded: Option<u64>,
    /// Samples that play, at the output's rate.
    pub samples_out: u64,
    /// Channels that the decoder delivered. `None` for a copy.
    pub channels_decoded: Option<u16>,
    /// Channels of the output.
    pub channels_out: u16,
    /// Levels and timeline of the source's track and of the encoded one, each measured on what a decoder delivers. `None`
    /// for a copy.
    pub heard: Option<Heard>,
    /// Ends of the track by all measurements. `None` for a copy.
    pub ends: Option<AudioEnds>,
    /// Output rate in Hz.
    pub sample_rate: u32,
    /// Hidden samples in front.
    pub priming: u32,
    /// Place of the first sample on the timeline, in samples.
    pub start: i64,
    /// The measurements that are compared; the plan knows the start only.
    pub measured: Measured<AudioPlace, SampleCount>,
    /// Packets follow each other without gap or overlap.
    pub is_continuous: bool,
    /// SHA-256 of every media segment, in order.
    pub segments_sha256: Vec<String>,
}

/// End of an audio track (last time and duration), in milliseconds from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioEnds {
    /// By the source's times and the plan's filling.
    pub planned_ms: i64,
    /// By the times of the encoded track, as a decoder delivers it.
    pub output_ms: i64,
    /// By the number of samples that play.
    pub samples_ms: i64,
    /// By the samples of all stored packets behind the priming, with the padding of the last one.
    pub stored_ms: i64,
}

/// A difference between plan, parts and stored headers. Any one stops publication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Violation {
    /// Where, for example `720p segment 3`.
    pub place: String,
    /// What differs.
    pub what: String,
}

/// Compares parts with their plan, and what is stored with both.
///
/// # Errors
/// Every violation found.
pub fn check(
    plan: &Plan,
    ffmpeg_build: &str,
    video: &[VideoPart],
    audio: &[AudioPart],
    stored: &Stored,
) -> Result<Certificate, Vec<Violation>> {
    let mut bad = Violations::default();
    let video = video::check(plan, video, &stored.video, &mut bad);
    let audio = audio::check(plan, audio, &stored.audio, &mut bad);
    if !bad.0.is_empty() {
        return Err(bad.0);
    }
    Ok(Certificate {
        plan_sha256: plan.hash(),
        ffmpeg_build: ffmpeg_build.to_owned(),
        num_segments: plan.num_segments(),
        video,
        audio,
    })
}

/// Violations found so far.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.0.push(Violation { place: place.into(), what: what.into() });
    }
}

fn is_contiguous(segments: &[&StoredSegment]) -> bool {
    segments.windows(2).all(|w| match w {
        [a, b] => b.number == a.number + 1 && b.start == a.start + a.duration,
        _ => true,
    })
}

/// Whether each stored media segment begins where the one before ends, in decode time.
fn is_continuous(stored: &[&MeasuredSegment]) -> bool {
    stored.windows(2).all(|w| match w {
        [a, b] => a.decode_time.checked_add(a.duration) == Some(b.decode_time),
        _ => true,
    })
}

/// Compares a stored media segment with its part's record of it.
fn check_record(place: &str, part: &StoredSegment, stored: &MeasuredSegment, bad: &mut Violations) {
    let number = part.number;
    let mut differ = |what: &str, stored: &dyn std::fmt::Display, part: &dyn std::fmt::Display| {
        bad.add(place, format!("media segment {number} is stored with {what} {stored}, its part has {part}"));
    };
    if stored.decode_time != part.decode_time.get() {
        differ("decode time", &stored.decode_time, &part.decode_time);
    }
    if stored.duration != part.duration.get() {
        differ("duration", &stored.duration, &part.duration);
    }
    if stored.num_samples != u64::from(part.num_samples) {
        differ("a sample count of", &stored.num_samples, &part.num_samples);
    }
    if stored.samples_sha256 != part.samples_sha256 {
        bad.add(
            place,
            format!("media segment {number} is stored with samples in another order, time or size than its part has"),
        );
    }
}

#[cfg(test)]
mod tests;
