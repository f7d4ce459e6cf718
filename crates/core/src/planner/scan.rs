//! Whether frames are deinterlaced, and why. Pure.

use super::{Context, Notes};
use crate::plan::VideoOp;
use crate::profile::Deinterlace;
use crate::source::{FieldOrder, Scan, VideoTrack};

/// The filter that makes one frame from each interlaced frame.
pub(super) const FILTER: &str = "bwdif";

/// How to deinterlace; `None`: frames stay as they are. Notes the decision where a reader would ask.
pub(super) fn deinterlace(context: &Context<'_>, track: &VideoTrack, notes: &mut Notes) -> Option<VideoOp> {
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
    let (choice, reason) = match (context.each_field, context.profile.video.deinterlace) {
        (true, _) => ("deinterlaced, one frame from each field", reason),
        (false, Deinterlace::Fields) => (
            "deinterlaced, one frame from each frame",
            format!("{reason}; the times of its fields are not known, since not every frame has a time of its own"),
        ),
        (false, _) => ("deinterlaced, one frame from each frame", reason),
    };
    notes.add("scan", choice, reason);
    Some(VideoOp::Deinterlace { order, each_field: context.each_field })
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
