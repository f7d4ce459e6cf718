//! Renditions: the rungs of the ladder resolved for one source, as tracks.

use super::frames::Chosen;
use super::ops::{self, Look};
use super::timeline::Clock;
use super::{Capabilities, Notes};
use crate::failure::{Failure, FailureCode};
use crate::ladder::{ResolvedRung, h264_level};
use crate::plan::{
    Coding, Cut, Label, Media, Protection, TrackContainer, TrackPlan, VideoEncoding, VideoMedia, VideoOp, VideoRate,
};
use crate::profile::{PixelFormat, RungSettings, VideoCodec};
use crate::source::VideoTrack;
use crate::time::OutputTicks;

/// Encoder threads of a whole task. A constant: the output must not depend on the machine.
const WHOLE_THREADS: u32 = 4;

/// The settings of a rung with the encoder that the workers have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) codec: VideoCodec,
    pub(super) encoder: String,
    pub(super) preset: String,
    pub(super) gop_seconds: f64,
    pub(super) pixel_format: PixelFormat,
}

impl Settings {
    /// # Errors
    /// The workers' ffmpeg lacks an encoder.
    pub(super) fn of(wanted: RungSettings<'_>, caps: &Capabilities) -> Result<Self, Failure> {
        Ok(Settings {
            codec: wanted.codec,
            encoder: choose_encoder(wanted.codec, wanted.encoder, caps)?,
            preset: wanted.preset.to_owned(),
            gop_seconds: wanted.gop_seconds,
            pixel_format: wanted.pixel_format,
        })
    }
}

fn choose_encoder(codec: VideoCodec, wanted: &str, caps: &Capabilities) -> Result<String, Failure> {
    let candidates: Vec<&str> = if wanted.is_empty() { codec.encoders().to_vec() } else { vec![wanted] };
    candidates.iter().find(|e| caps.has_encoder(e)).map(|e| (*e).to_owned()).ok_or_else(|| {
        Failure::of(
            FailureCode::EncoderUnknown,
            format!(
                "ffmpeg has no encoder {}: install an ffmpeg that has it, or choose another codec; `splitreel doctor` lists what is there",
                candidates.join(" or ")
            ),
        )
    })
}

/// A rung with everything that its track needs.
pub(super) struct Rendition<'a> {
    pub(super) rung: ResolvedRung<'a>,
    pub(super) settings: Settings,
    pub(super) look: Look,
    /// How frames are deinterlaced.
    pub(super) deinterlace: Option<VideoOp>,
    /// Number of its frame list.
    pub(super) frames: u32,
}

/// The track of a rendition.
pub(super) fn track(
    clock: &Clock,
    source: &VideoTrack,
    rendition: &Rendition<'_>,
    list: &Chosen,
    (grid, is_whole): (u32, bool),
) -> TrackPlan {
    let Rendition { rung, settings, look, deinterlace, frames } = rendition;
    let level = match settings.codec {
        VideoCodec::H264 => h264_level(rung.width, rung.height, list.rate.to_f64(), rung.rate.max_kbps()),
        _ => String::new(),
    };
    let media = VideoMedia {
        width: rung.width,
        height: rung.height,
        sar: rung.sar,
        pixel_format: look.pixel_format.clone(),
        color: look.color.clone(),
        // Light metadata describes PQ and HLG samples; pictures are turned in front of the encoder.
        side_data: Box::new(if look.color.is_hdr() { source.side_data.light_only() } else { Default::default() }),
        ops: ops::ops(source, deinterlace.clone(), look, list, rung),
        coding: Coding::Encode(VideoEncoding {
            codec: settings.codec,
            encoder: settings.encoder.clone(),
            preset: settings.preset.clone(),
            threads: if is_whole { WHOLE_THREADS } else { 1 },
            rate: rung.rate,
            level,
        }),
    };
    // libx264 and libx265 with B-pyramids hold two pictures back; VP9 and AV1 hide theirs inside packets.
    let delay = match settings.codec {
        VideoCodec::H264 | VideoCodec::Hevc => OutputTicks(list.nominal.get().saturating_mul(2)),
        VideoCodec::Vp9 | VideoCodec::Av1 | VideoCodec::Copy => OutputTicks::ZERO,
    };
    video_track(clock, rung.id.clone(), delay, Cut::Timeline { frames: *frames, grid }, media)
}

/// The track of a copied video.
pub(super) fn copy(clock: &Clock, source: &VideoTrack, list: &Chosen) -> TrackPlan {
    let media = VideoMedia {
        width: source.width,
        height: source.height,
        sar: source.sar,
        pixel_format: source.pix_fmt.clone(),
        color: source.color.clone(),
        side_data: Box::new(source.side_data.clone()),
        ops: Vec::new(),
        coding: Coding::Copy,
    };
    let delay = if matches!(source.codec.as_str(), "h264" | "hevc") { list.nominal.get().saturating_mul(4) } else { 0 };
    video_track(clock, "source".into(), OutputTicks(delay), Cut::Timeline { frames: 0, grid: 0 }, media)
}

fn video_track(clock: &Clock, id: String, delay: OutputTicks, cut: Cut, media: VideoMedia) -> TrackPlan {
    TrackPlan {
        id,
        source_stream: clock.timeline.stream,
        timescale: clock.timeline.timescale,
        delay,
        container: TrackContainer::Fmp4,
        protection: Protection::Clear,
        label: Label { language: "und".into(), name: "Video".into(), is_default: true },
        cut,
        media: Media::Video(media),
    }
}

/// Notes the size and rate control of a track.
pub(super) fn note(track: &TrackPlan, (width, height): (u32, u32), notes: &mut Notes) {
    let Some(video) = track.video() else { return };
    let rate = match video.coding.encoding().map(|e| e.rate) {
        Some(VideoRate::Quality { crf, max_kbps }) => {
            let cap = max_kbps.map_or(String::new(), |k| format!(", at most {k} kbit/s"));
            format!("crf {crf}{cap}")
        }
        Some(VideoRate::Quantiser { qp }) => format!("qp {qp}"),
        None => "unchanged".to_owned(),
    };
    notes.add(
        format!("rendition {}", track.id),
        format!("{}x{}, {rate}", video.width, video.height),
        format!("source is {width}x{height}"),
    );
}
