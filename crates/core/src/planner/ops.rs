//! Operations of a rendition: from decoded frames to what its encoder is given.

use super::Capabilities;
use super::color::{Assumed, has_alpha};
use super::formats::carried;
use super::frames::Chosen;
use crate::ladder::ResolvedRung;
use crate::plan::{FrameRule, Levels, VideoOp};
use crate::profile::PixelFormat;
use crate::source::{Color, VideoTrack};

/// Pixel format and colour of a rendition, and how they come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// ffmpeg's name.
    pub(super) pixel_format: String,
    pub(super) color: Color,
    pub(super) needs_tone_map: bool,
    /// Whether transparent frames are put on black.
    pub(super) flattens: bool,
    /// Choice and reason, where a reader would ask.
    pub(super) notes: Vec<(String, String)>,
}

/// The look that a pixel format policy leads to.
pub(super) fn look(track: &VideoTrack, policy: PixelFormat, encoder: &str, caps: &Capabilities) -> Look {
    let mut look = opaque_look(track, policy, encoder, caps);
    if !has_alpha(&track.pix_fmt) {
        return look;
    }
    look.flattens = caps.has_filter("premultiply");
    look.notes.push(if look.flattens {
        ("transparency over black".to_owned(), format!("the source is {}, and video is opaque", track.pix_fmt))
    } else {
        let reason = "this ffmpeg has no premultiply filter; install one that has";
        ("transparency dropped, hidden colours show".to_owned(), reason.to_owned())
    });
    look
}

fn opaque_look(track: &VideoTrack, policy: PixelFormat, encoder: &str, caps: &Capabilities) -> Look {
    let source = Assumed::of(track);
    let plain = |pixel_format: &str| Look {
        pixel_format: pixel_format.into(),
        color: source.in_yuv("tv"),
        needs_tone_map: false,
        flattens: false,
        notes: notes(&source),
    };
    match policy {
        PixelFormat::Source => as_source(track, &source, encoder),
        PixelFormat::Auto420 if track.bit_depth > 8 => plain("yuv420p10le"),
        _ if source.color.is_hdr() && caps.has_filter("zscale") && caps.has_filter("tonemap") => {
            let bt709 = || "bt709".to_owned();
            let color = Color { range: "tv".into(), space: bt709(), transfer: bt709(), primaries: bt709() };
            let reason = format!("the source is HDR ({}) and the profile is 8-bit", source.color.transfer);
            let notes = vec![("tone-map to SDR".to_owned(), reason)];
            Look { pixel_format: "yuv420p".into(), color, needs_tone_map: true, flattens: false, notes }
        }
        _ if source.color.is_hdr() => {
            let reason = "this ffmpeg has no zscale and tonemap filters; install one that has";
            let mut look = plain("yuv420p");
            look.notes.push(("kept as HDR in 8 bit".into(), reason.into()));
            look
        }
        _ => plain("yuv420p"),
    }
}

/// The source's own pixel format and range, as far as the encoder takes them.
fn as_source(track: &VideoTrack, source: &Assumed, encoder: &str) -> Look {
    let pixel_format = carried(&track.pix_fmt, track.bit_depth, source.is_rgb, encoder);
    let stays_rgb = source.is_rgb && pixel_format.starts_with("gbr");
    let color = if stays_rgb { source.color.clone() } else { source.in_yuv(&source.color.range) };
    let mut look = Look { pixel_format, color, needs_tone_map: false, flattens: false, notes: Vec::new() };
    if source.is_rgb && !stays_rgb {
        let reason = format!("{encoder} takes no RGB; each pixel is rounded once");
        look.notes.push((format!("{} as {} in BT.709", track.pix_fmt, look.pixel_format), reason));
    } else if !source.filled.is_empty() {
        look.notes = notes(source);
    }
    look
}

/// What becomes of colours that are not stated, or not those of video.
fn notes(source: &Assumed) -> Vec<(String, String)> {
    let mut notes = Vec::new();
    if source.is_rgb {
        let reason = "the source is RGB, which few players take in video";
        notes.push(("converted to BT.709, limited range".to_owned(), reason.to_owned()));
    } else if source.color.range == "pc" {
        let reason = "the source has full range, which some players show with the wrong contrast";
        notes.push(("converted to limited range".to_owned(), reason.to_owned()));
    }
    // An unstated range is limited in every player; the other tags change what is shown.
    let missing: Vec<&str> = source.filled.iter().copied().filter(|name| *name != "range").collect();
    if !source.is_rgb && missing.contains(&"matrix") {
        let reason = format!(
            "the source states no {}; players assume the same at the source's size, and every rendition states it",
            missing.join(", ")
        );
        notes.push((format!("tagged {}", source.color.space), reason));
    }
    notes
}

/// The operations of a rendition, in order. Operations that renditions may share come first.
pub(super) fn ops(
    track: &VideoTrack,
    deinterlace: Option<VideoOp>,
    look: &Look,
    list: &Chosen,
    rung: &ResolvedRung<'_>,
) -> Vec<VideoOp> {
    let source = Assumed::of(track);
    let mut ops: Vec<VideoOp> = deinterlace.into_iter().collect();
    if look.flattens {
        ops.push(VideoOp::Flatten { pixel_format: track.pix_fmt.clone() });
    }
    if look.needs_tone_map {
        ops.push(VideoOp::ToneMap { from: source.color.clone() });
    }
    if list.rule != FrameRule::All {
        ops.push(VideoOp::Choose { rule: list.rule });
    }
    let to = Levels { is_full: look.color.range == "pc", matrix: look.color.space.clone() };
    let from = if look.needs_tone_map { to.clone() } else { source.levels() };
    ops.push(VideoOp::Scale { width: rung.width, height: rung.height, from, to });
    ops.push(VideoOp::Format { pixel_format: look.pixel_format.clone() });
    ops.push(VideoOp::SampleAspect { sar: rung.sar });
    ops
}
