//! Operations of a rendition: from decoded frames to what its encoder is given.

use super::Capabilities;
use super::frames::Chosen;
use crate::ladder::ResolvedRung;
use crate::plan::{FrameRule, VideoOp};
use crate::profile::PixelFormat;
use crate::source::{Color, VideoTrack};

/// Pixel format and colour of a rendition, and how they come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// ffmpeg's name.
    pub(super) pixel_format: String,
    pub(super) color: Color,
    pub(super) needs_tone_map: bool,
    /// Choice and reason, where a reader would ask.
    pub(super) note: Option<(&'static str, String)>,
}

/// The look that a pixel format policy leads to.
pub(super) fn look(track: &VideoTrack, policy: PixelFormat, caps: &Capabilities) -> Look {
    let plain = |pixel_format: &str| {
        let mut color = track.color.clone();
        if color.range.is_empty() || color.range == "pc" {
            color.range = "tv".into();
        }
        Look { pixel_format: pixel_format.into(), color, needs_tone_map: false, note: None }
    };
    match policy {
        PixelFormat::Source => {
            let name = &track.pix_fmt;
            let pixel_format = name.strip_prefix("yuvj").map_or(name.clone(), |rest| format!("yuv{rest}"));
            Look { pixel_format, color: track.color.clone(), needs_tone_map: false, note: None }
        }
        PixelFormat::Auto420 if track.bit_depth > 8 => plain("yuv420p10le"),
        _ if track.color.is_hdr() && caps.has_filter("zscale") && caps.has_filter("tonemap") => {
            let bt709 = || "bt709".to_owned();
            let color = Color { range: "tv".into(), space: bt709(), transfer: bt709(), primaries: bt709() };
            let reason = format!("the source is HDR ({}) and the profile is 8-bit", track.color.transfer);
            let note = Some(("tone-map to SDR", reason));
            Look { pixel_format: "yuv420p".into(), color, needs_tone_map: true, note }
        }
        _ if track.color.is_hdr() => {
            let reason = "this ffmpeg has no zscale and tonemap filters; install one that has";
            Look { note: Some(("kept as HDR in 8 bit", reason.into())), ..plain("yuv420p") }
        }
        _ => plain("yuv420p"),
    }
}

/// The operations of a rendition, in order. Operations that renditions may share come first.
pub(super) fn ops(look: &Look, list: &Chosen, rung: &ResolvedRung<'_>) -> Vec<VideoOp> {
    let mut ops = Vec::new();
    if look.needs_tone_map {
        ops.push(VideoOp::ToneMap);
    }
    if list.rule != FrameRule::All {
        ops.push(VideoOp::Choose { rule: list.rule });
    }
    ops.push(VideoOp::Scale { width: rung.width, height: rung.height });
    ops.push(VideoOp::Format { pixel_format: look.pixel_format.clone() });
    ops.push(VideoOp::SampleAspect { sar: rung.sar });
    ops
}
