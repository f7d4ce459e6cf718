//! What becomes of side data, and why: HDR metadata, Dolby Vision, orientation, captions. Pure.

use super::Notes;
use super::renditions::Rendition;
use crate::failure::{Failure, FailureCode};
use crate::profile::VideoCodec;
use crate::side_data::SideData;
use crate::source::VideoTrack;

/// Refuses pictures that lose their meaning in an encoder: Dolby Vision whose base layer is in a colour space of its own.
pub(super) fn check(track: &VideoTrack) -> Result<(), Failure> {
    match track.side_data.dolby_vision {
        Some(found) if found.base_layer().is_none() => {
            let message = format!(
                "the video is Dolby Vision profile {} without a base layer that other players show: an encoder would make it green and violet; use --profile passthrough to copy it for Dolby Vision players, or a source with an HDR10 or HLG base layer",
                found.profile
            );
            Err(Failure::of(FailureCode::DolbyVisionOnly, message))
        }
        _ => Ok(()),
    }
}

/// Notes what encoding does to Dolby Vision and to HDR.
pub(super) fn note_encoded(track: &VideoTrack, renditions: &[Rendition<'_>], notes: &mut Notes) {
    if let Some((found, base)) = track.side_data.dolby_vision.and_then(|found| Some((found, found.base_layer()?))) {
        let reason = format!("the source is Dolby Vision profile {}, which no encoder here writes", found.profile);
        notes.add("dolby vision", format!("left out, the base layer is {base}"), reason);
    }
    let drops = |rendition: &&Rendition<'_>| rendition.settings.codec != VideoCodec::H264;
    let without: Vec<&str> = renditions.iter().filter(drops).map(|rendition| rendition.rung.id.as_str()).collect();
    if track.side_data.has_captions {
        let (choice, reason) = match without.len() {
            0 => ("kept in the video".to_owned(), "the pictures carry closed captions"),
            n if n == renditions.len() => ("left out".to_owned(), "only H.264 encoders carry closed captions on"),
            _ => (format!("left out of {}", without.join(", ")), "only H.264 encoders carry closed captions on"),
        };
        notes.add("captions", choice, reason);
    }
    if renditions.iter().any(|rendition| rendition.look.color.is_hdr()) {
        let kept = described(&track.side_data.light_only());
        notes.add("hdr", format!("kept: {}{kept}", track.color.transfer), "the profile has more than 8 bits");
    }
}

/// Notes what a copy keeps.
pub(super) fn note_copied(track: &VideoTrack, notes: &mut Notes) {
    let side_data = &track.side_data;
    if let Some(found) = side_data.dolby_vision {
        let others = match found.base_layer() {
            Some(base) => format!("other players show {base}"),
            None => "only Dolby Vision players show the right colours".to_owned(),
        };
        notes.add("dolby vision", format!("kept, profile {}", found.profile), others);
    }
    if side_data.has_captions {
        notes.add("captions", "kept in the video", "packets are copied");
    }
    if track.color.is_hdr() {
        let kept = described(&side_data.light_only());
        notes.add("hdr", format!("kept: {}{kept}", track.color.transfer), "packets are copied");
    }
    if side_data.matrix.is_some() {
        let turned = match track.rotation {
            0 => "kept: mirrored or turned by the header".to_owned(),
            degrees => format!("kept: turned by {degrees} degrees by the header"),
        };
        notes.add("rotation", turned, "packets are copied, and players turn them");
    }
}

/// Light metadata as a continuation of a sentence.
fn described(light: &SideData) -> String {
    match (light.mastering.is_some(), light.light.is_some()) {
        (true, true) => ", with mastering display and light level".into(),
        (true, false) => ", with mastering display".into(),
        (false, true) => ", with light level".into(),
        (false, false) => String::new(),
    }
}
