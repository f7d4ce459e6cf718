//! Planning of the video: cuts, frame lists, grids and renditions put together.

use super::frames::{self, Chosen};
use super::grids::{self, Aim};
use super::renditions::{self, Rendition, Settings};
use super::timeline::Clock;
use super::{Context, Draft, Notes, cuts, ops, scan, side_data};
use crate::failure::{Failure, FailureCode};
use crate::ladder::{self, Picture, Spending};
use crate::plan::{FrameRule, Timeline, VideoOp};
use crate::profile::{FrameRate, VideoCodec};
use crate::source::{FrameIndex, PacketFault, VideoTrack};
use crate::stamping::Stamping;

/// Adds timeline, frame lists, grids and video tracks to the draft.
pub(super) fn produce(context: &Context<'_>, draft: &mut Draft) -> Result<(), Failure> {
    let Some(track) = context.info.video.as_ref().filter(|v| !v.frames.pts.is_empty()) else {
        draft.notes.add("video", "none", "the source has no video that decodes");
        draft.notes.add("split", "whole", "only audio: one task per track, splitting cannot help");
        return Ok(());
    };
    let clock = Clock::new(context, track)?;
    clock.note_edges(&mut draft.notes);
    if context.profile.video.codec == VideoCodec::Copy {
        copy(context, track, &clock, draft)
    } else {
        encode(context, track, &clock, draft)
    }
}

fn aim(context: &Context<'_>, gop_seconds: f64) -> Aim {
    Aim { gop_seconds, media_segment_seconds: context.profile.packaging.media_segment_seconds }
}

fn copy(context: &Context<'_>, track: &VideoTrack, clock: &Clock, draft: &mut Draft) -> Result<(), Failure> {
    let codec = &track.codec;
    if !matches!(codec.as_str(), "h264" | "hevc" | "av1" | "vp9") {
        let message =
            format!("{codec} video cannot be carried in fMP4 unchanged: use --profile universal to re-encode it");
        return Err(Failure::of(FailureCode::CopyUnsupported, message));
    }
    if context.info.clocks.contains_key(&track.stream) {
        let message = "the clock of the source jumps, and copied video would jump with it: use --profile universal to re-encode it";
        return Err(Failure::of(FailureCode::CopyUnsupported, message));
    }
    if let Some(fault) = fault_of_packets(&track.frames) {
        let message = format!("the video's packets cannot be copied: {fault}; use --profile universal to re-encode it");
        return Err(Failure::of(FailureCode::CopyUnsupported, message));
    }
    scan::note_kept(track, &mut draft.notes);
    side_data::note_copied(track, &mut draft.notes);
    let why = "nothing is re-encoded: copying is bound by the disk, splitting cannot help";
    draft.notes.add("split", "whole", why);
    draft.notes.add("video", "copy", format!("the profile asks for it and fMP4 carries {codec}"));
    let list = Chosen::new(clock, FrameRule::All);
    let planned = renditions::copy(clock, track, &list);
    let picture = Picture::rotated(track.width, track.height, track.sar, track.rotation);
    renditions::note(&planned, (picture.width, picture.height), &mut draft.notes);
    let cut_at = [0];
    draft.timeline = Some(Timeline { segments: clock.segments(track, &cut_at, false), ..clock.timeline.clone() });
    draft.frames = vec![list.list(clock, &cut_at)];
    draft.grids = vec![grids::copied(clock, track, &cut_at, aim(context, context.profile.video.gop_seconds))];
    draft.tracks.push(planned);
    Ok(())
}

/// Why the packets of a video cannot be copied with their times.
fn fault_of_packets(frames: &FrameIndex) -> Option<String> {
    let untimed = "some have no presentation times of their own, and fMP4 needs them";
    match (frames.packet_fault, &frames.stamping) {
        (Some(PacketFault::Undecodable { packets, frames }), _) => {
            Some(format!("{} of {packets} show no frame", packets.saturating_sub(frames)))
        }
        (Some(PacketFault::Untimed), _) | (None, Stamping::Tail(_) | Stamping::Counted(_)) => Some(untimed.to_owned()),
        (None, Stamping::Spaced(_)) => Some("some have presentation times that repeat or run back".to_owned()),
        (None, Stamping::Own) => None,
    }
}

fn encode(context: &Context<'_>, track: &VideoTrack, clock: &Clock, draft: &mut Draft) -> Result<(), Failure> {
    side_data::check(track)?;
    let picture = Picture::rotated(track.width, track.height, track.sar, track.rotation);
    let deinterlace = scan::deinterlace(context, track, &mut draft.notes);
    let (lists, renditions) = resolve(context, track, clock, (picture, deinterlace))?;
    note_end_of_ladder(context, picture, &renditions, &mut draft.notes);
    let common = frames::common(&lists);
    let cut_at = cuts::choose(context, track, clock, &common, &mut draft.notes);
    note_looks(&renditions, draft);
    side_data::note_encoded(track, &renditions, &mut draft.notes);
    note_encoders(&renditions, draft);
    note_rates(context, clock, &lists, &renditions, &mut draft.notes);
    draft.timeline = Some(Timeline { segments: clock.segments(track, &cut_at, true), ..clock.timeline.clone() });
    draft.frames = lists.iter().map(|list| list.list(clock, &cut_at)).collect();
    for rendition in &renditions {
        let Some(list) = lists.get(rendition.frames as usize) else { continue };
        let grid = grids::encoded(clock, &common, &cut_at, aim(context, rendition.settings.gop_seconds));
        let number = draft.grids.iter().position(|known| *known == grid).unwrap_or_else(|| {
            draft.grids.push(grid);
            draft.grids.len() - 1
        });
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let planned = renditions::track(clock, track, rendition, list, (number, cut_at.len() == 1));
        renditions::note(&planned, (picture.width, picture.height), &mut draft.notes);
        draft.tracks.push(planned);
    }
    Ok(())
}

/// The renditions of the ladder, best first, and the frame lists that they refer to.
fn resolve<'a>(
    context: &Context<'a>,
    track: &VideoTrack,
    clock: &Clock,
    (picture, deinterlace): (Picture, Option<VideoOp>),
) -> Result<(Vec<Chosen>, Vec<Rendition<'a>>), Failure> {
    let profile = &context.profile.video;
    let source_rate = frames::source_rate(clock);
    let spending = Spending {
        codec: &track.codec,
        peak_kbps: track.peak_bits_per_second.div_ceil(1000),
        frame_rate: source_rate.to_f64(),
    };
    let rungs = ladder::resolve(profile, picture, spending);
    let rule = |rung: &ladder::ResolvedRung<'_>| frames::rule(profile.settings(rung.rung).fps, source_rate);
    let mut rules: Vec<FrameRule> = Vec::new();
    for rung in &rungs {
        if !rules.contains(&rule(rung)) {
            rules.push(rule(rung));
        }
    }
    // The full list comes first where any rendition shows it.
    rules.sort_by_key(|rule| *rule != FrameRule::All);
    let mut renditions = Vec::new();
    for rung in rungs {
        let rule = rule(&rung);
        let number = rules.iter().position(|known| *known == rule).unwrap_or(0);
        let settings = Settings::of(profile.settings(rung.rung), context.caps)?;
        let look = ops::look(track, settings.pixel_format, &settings.encoder, context.caps);
        renditions.push(Rendition {
            rung,
            settings,
            look,
            deinterlace: deinterlace.clone(),
            frames: u32::try_from(number).unwrap_or(0),
        });
    }
    Ok((rules.into_iter().map(|rule| Chosen::new(clock, rule)).collect(), renditions))
}

/// Notes that the best rendition is smaller than the source.
fn note_end_of_ladder(context: &Context<'_>, picture: Picture, renditions: &[Rendition<'_>], notes: &mut Notes) {
    let Some(best) = renditions.first().map(|rendition| &rendition.rung) else { return };
    if (best.width + 1, best.height + 1) < (picture.width, picture.height) {
        let choice = format!("ends at {}, {}x{}", best.id, best.width, best.height);
        let reason = format!(
            "the source has {}x{}, and profile {} has no higher rung",
            picture.width, picture.height, context.profile.name
        );
        notes.add("ladder", choice, reason);
    }
}

/// Notes the frame rate of each rendition that asks for one.
fn note_rates(context: &Context<'_>, clock: &Clock, lists: &[Chosen], renditions: &[Rendition<'_>], notes: &mut Notes) {
    let source = frames::in_words(frames::source_rate(clock));
    for Rendition { rung, frames, .. } in renditions {
        let (Some(wanted), Some(list)) = (rung.rung.fps, lists.get(*frames as usize)) else { continue };
        let rate = frames::in_words(list.rate);
        let choice = match list.rule {
            FrameRule::All => "every frame of the source".to_owned(),
            FrameRule::EverySecond => format!("every second frame of the source: {rate} per second"),
            FrameRule::FirstOfSlot { rate: slots } => {
                format!("the first frame in each 1/{} s: {rate} per second", frames::in_words(slots))
            }
        };
        let profile = &context.profile.name;
        let reason = match wanted {
            FrameRate::Number(n) if list.rule == FrameRule::All => {
                format!("{n} frames per second are asked for, the source has {source}")
            }
            FrameRate::Number(n) => {
                format!("profile {profile} asks for {n} frames per second, the source has {source}")
            }
            FrameRate::Named(_) => format!("profile {profile} asks for it, the source has {source} per second"),
        };
        notes.add(format!("frames {}", rung.id), choice, reason);
    }
}

/// Notes how colours change: once when all renditions agree, else for each.
fn note_looks(renditions: &[Rendition<'_>], draft: &mut Draft) {
    let is_same = renditions.iter().zip(renditions.iter().skip(1)).all(|(a, b)| a.look == b.look);
    for rendition in renditions.iter().take(if is_same { 1 } else { usize::MAX }) {
        let subject = if is_same { "colour".to_owned() } else { format!("colour {}", rendition.rung.id) };
        for (choice, reason) in &rendition.look.notes {
            draft.notes.add(&subject, choice, reason);
        }
    }
}

/// Notes each encoder once, with its renditions when there are several encoders.
fn note_encoders(renditions: &[Rendition<'_>], draft: &mut Draft) {
    let mut seen: Vec<(&str, VideoCodec, Vec<&str>)> = Vec::new();
    for Rendition { rung, settings, .. } in renditions {
        match seen.iter_mut().find(|(encoder, ..)| *encoder == settings.encoder) {
            Some((.., ids)) => ids.push(&rung.id),
            None => seen.push((&settings.encoder, settings.codec, vec![&rung.id])),
        }
    }
    for (encoder, codec, ids) in &seen {
        let choice = match seen.len() {
            1 => format!("encode with {encoder}"),
            _ => format!("encode {} with {encoder}", ids.join(", ")),
        };
        let why = "a ladder needs keyframes at the same places in every rendition";
        draft.notes.add("video", choice, format!("the profile asks for {}; {why}", codec.as_str()));
    }
}
