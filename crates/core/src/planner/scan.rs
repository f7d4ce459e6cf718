//! Whether frames are deinterlaced, and why. Pure.

use super::{Context, Notes};
use crate::profile::Deinterlace;
use crate::source::{FieldOrder, Scan, VideoTrack};

/// The filter that makes one frame from each interlaced frame.
const FILTER: &str = "bwdif";

/// Field order to deinterlace with; `None`: frames stay as they are. Notes the decision where a reader would ask.
pub(super) fn deinterlace(context: &Context<'_>, track: &VideoTrack, notes: &mut Notes) -> Option<FieldOrder> {
    let scan = &track.scan;
    let Some(order) = scan.field_order() else {
        if scan.header.is_some() {
            notes.add("scan", "kept progressive", format!("the header says interlaced, but {}", seen(scan)));
        }
        return None;
    };
    let words = match order {
        FieldOrder::TopFirst => "top field first",
        FieldOrder::BottomFirst => "bottom field first",
    };
    let reason = match scan.header {
        _ if scan.num_sampled() > 0 => format!("{}: {words}", seen(scan)),
        _ => format!("the header says so: {words}"),
    };
    if context.profile.video.deinterlace == Deinterlace::Off {
        notes.add("scan", "left interlaced", format!("{reason}; profile {} asks for it", context.profile.name));
        return None;
    }
    if !context.caps.has_filter(FILTER) {
        notes.add(
            "scan",
            "left interlaced",
            format!("{reason}; this ffmpeg has no {FILTER} filter, install one that has"),
        );
        return None;
    }
    notes.add("scan", "deinterlaced, one frame from each frame", reason);
    Some(order)
}

/// Notes that a copy stays interlaced.
pub(super) fn note_kept(track: &VideoTrack, notes: &mut Notes) {
    if track.scan.field_order().is_some() {
        notes.add("scan", "left interlaced", "packets are copied; a profile that encodes deinterlaces");
    }
}

fn seen(scan: &Scan) -> String {
    let (combed, all) = (scan.combed(), scan.num_sampled());
    match combed {
        0 => format!("none of {all} sampled frames is interlaced"),
        1 => format!("1 of {all} sampled frames is interlaced"),
        _ => format!("{combed} of {all} sampled frames are interlaced"),
    }
}
