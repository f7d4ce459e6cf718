//! Planning of the video track: timescale, segments, renditions, filters.

use super::{Capabilities, Notes, cuts, ticks_between};
use crate::failure::Failure;
use crate::ladder::{self, Picture};
use crate::plan::{MediaSegmentPlan, Rendition, Segment, VideoPlan, pts_fingerprint};
use crate::profile::{PixelFormat, Profile, VideoCodec};
use crate::source::{Color, SourceInfo, VideoTrack};
use crate::time::{MediaTime, Rational, rescale};

/// A last media segment shorter than this stops some engines from ever signalling the end.
const MIN_TAIL_SECONDS: f64 = 0.5;
/// Encoder threads of a whole task. A constant: the output must not depend on the machine.
const WHOLE_THREADS: u32 = 4;
/// In auto mode a segment may be so much longer or shorter to start on a source keyframe: a second that need not be
/// decoded twice saves more than even lengths do.
const AUTO_REACH_SECONDS: f64 = 4.0;
/// A source that cannot be sought is split only up to this length: every segment decodes from the start.
const UNSEEKABLE_SPLIT_SECONDS: f64 = 120.0;

/// Keeps a frame only when it is later than the one before.
const DROP_REPEATS: &str = r"select=isnan(prev_selected_pts)+gt(pts\,prev_selected_pts)";

pub(super) fn plan_video(
    info: &SourceInfo,
    track: &VideoTrack,
    profile: &Profile,
    caps: &Capabilities,
    origin: MediaTime,
    notes: &mut Notes,
) -> Result<VideoPlan, Failure> {
    let is_copy = profile.video.codec == VideoCodec::Copy;
    if is_copy && !matches!(track.codec.as_str(), "h264" | "hevc" | "av1" | "vp9") {
        return Err(Failure::source(
            "copy_unsupported",
            format!(
                "{} video cannot be carried in fMP4 unchanged: use --profile universal to re-encode it",
                track.codec
            ),
        ));
    }
    let tb = track.timebase;
    let frames: Vec<i64> = track.frames.pts.iter().collect();
    let (Some(&first_pts), Some(&last_pts)) = (frames.first(), frames.last()) else {
        return Err(Failure::source("no_frames", "the video track has no frames"));
    };
    let timescale = timescale(&frames, tb);
    let out_tb = Rational::new(1, i64::from(timescale)).unwrap_or(Rational::ONE);
    let first_output = ticks_between(origin, MediaTime::new(first_pts, tb), out_tb).max(0);
    let out = |pts: i64| first_output + rescale(pts - first_pts, tb, out_tb);
    let out_frames: Vec<i64> = frames.iter().map(|p| out(*p)).collect();
    if out_frames.windows(2).any(|w| w[0] >= w[1]) {
        return Err(Failure::source("timebase", "the source's timebase is too fine to be kept exactly"));
    }
    let end_output = out(last_pts.saturating_add(track.frames.last_duration.max(1)))
        .max(out_frames.last().copied().unwrap_or(0) + 1);
    let seconds = |i: usize| MediaTime::new(out_frames[i] - first_output, out_tb).seconds();
    let total = MediaTime::new(end_output - first_output, out_tb).seconds();
    let nominal = track.frames.pts.nominal_delta().map_or(end_output - first_output, |d| rescale(d, tb, out_tb)).max(1);

    let cut_at = choose_cuts(info, track, profile, &frames, seconds, total, notes);
    let is_whole = cut_at.len() == 1;
    let ticks = |s: f64| (s * f64::from(timescale)).round() as i64;
    let gop = ticks(profile.video.gop_seconds);
    let tail = ticks(MIN_TAIL_SECONDS);
    let copy_keys: Vec<i64> = if is_copy { copied_keyframes(track, &frames, out) } else { Vec::new() };

    let mut segments = Vec::with_capacity(cut_at.len());
    let mut number = 1u32;
    for (index, &a) in cut_at.iter().enumerate() {
        let b = cut_at.get(index + 1).copied();
        let inside = &out_frames[a..b.unwrap_or(out_frames.len())];
        let output_start = inside.first().copied().unwrap_or(first_output);
        let output_end = b.map_or(end_output, |b| out_frames[b]);
        let keyframes = if is_copy { copy_keys.clone() } else { cuts::grid(inside, output_end, gop, tail) };
        let starts = cuts::media_starts(&keyframes, output_end, ticks(profile.packaging.media_segment_seconds), tail);
        let media_segments = starts
            .iter()
            .enumerate()
            .map(|(i, &start)| {
                let end = starts.get(i + 1).copied().unwrap_or(output_end);
                let m = MediaSegmentPlan { number, start, duration: end - start };
                number += 1;
                m
            })
            .collect();
        let seek = if is_copy || index == 0 { Vec::new() } else { seek_points(track, frames[a], first_pts) };
        segments.push(Segment {
            index: index as u32,
            start: frames[a],
            end: b.map(|b| frames[b]),
            output_start,
            output_end,
            seek_limit: seek.first().and_then(|key| keyframe_after(track, *key)),
            seek,
            num_frames: inside.len() as u64,
            pts_sha256: pts_fingerprint(inside.iter().copied()),
            keyframes,
            media_segments,
        });
    }

    let frame_rate = frame_rate(out_frames.len(), end_output - first_output, timescale);
    let (pix_fmt, color, filters) = if is_copy {
        (track.pix_fmt.clone(), track.color.clone(), Vec::new())
    } else {
        picture_format(track, profile, caps, notes)
    };
    let repeats = (track.frames.has_repeats && !is_copy).then(|| DROP_REPEATS.to_owned());
    let filters: Vec<String> = repeats.into_iter().chain(filters).collect();
    let encoder = choose_encoder(profile, caps)?;
    let picture = Picture::rotated(track.width, track.height, track.sar, track.rotation);
    let renditions = if is_copy {
        notes.add("video", "copy", format!("the profile asks for it and fMP4 carries {}", track.codec));
        vec![Rendition {
            id: "source".into(),
            width: track.width,
            height: track.height,
            sar: track.sar,
            crf: None,
            qp: None,
            max_kbps: None,
            level: String::new(),
        }]
    } else {
        let why = format!(
            "the profile asks for {}; a ladder needs keyframes at the same places in every rendition",
            profile.video.codec.as_str()
        );
        notes.add("video", format!("encode with {encoder}"), why);
        ladder::resolve(&profile.video, picture, frame_rate.to_f64(), track.bits_per_second / 1000)
    };
    for r in &renditions {
        let cap = r.max_kbps.map_or(String::new(), |k| format!(", at most {k} kbit/s"));
        let rate = match (r.crf, r.qp) {
            (Some(c), _) => format!("crf {c}{cap}"),
            (_, Some(q)) => format!("qp {q}"),
            _ => "unchanged".to_owned(),
        };
        notes.add(
            format!("rendition {}", r.id),
            format!("{}x{}, {rate}", r.width, r.height),
            format!("source is {}x{}", picture.width, picture.height),
        );
    }
    // libx264 and libx265 with B-pyramids hold two pictures back; VP9 and AV1 hide theirs inside packets.
    let delay = match profile.video.codec {
        VideoCodec::H264 | VideoCodec::Hevc => 2 * nominal,
        VideoCodec::Vp9 | VideoCodec::Av1 => 0,
        VideoCodec::Copy if matches!(track.codec.as_str(), "h264" | "hevc") => 4 * nominal,
        VideoCodec::Copy => 0,
    };
    Ok(VideoPlan {
        stream: track.stream,
        evidence: track.frames.evidence,
        source_timebase: tb,
        timescale,
        first_pts,
        first_output,
        end_output,
        delay,
        frame_rate,
        codec: profile.video.codec,
        encoder,
        preset: profile.video.preset.clone(),
        threads: if is_whole { WHOLE_THREADS } else { 1 },
        filters,
        pix_fmt,
        color,
        renditions,
        segments,
    })
}

/// Ticks per second in which every frame time of the source is a whole number (as far as 32 bits reach).
fn timescale(frames: &[i64], tb: Rational) -> u32 {
    let den = tb.den();
    let exact = if 90_000 % den == 0 {
        90_000
    } else if den >= 10_000 {
        den
    } else {
        den * (10_000 + den - 1).div_euclid(den)
    };
    // Sample durations are 32-bit ticks: a frame that stands for hours must still fit.
    let longest = frames.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(1);
    let fits = |ts: i64| rescale(longest, tb, Rational::new(1, ts).unwrap_or(Rational::ONE)) < i64::from(u32::MAX) / 2;
    let chosen = if exact <= 10_000_000 && fits(exact) {
        exact
    } else if fits(1_000_000) {
        1_000_000
    } else {
        1_000
    };
    u32::try_from(chosen).unwrap_or(90_000)
}

fn choose_cuts(
    info: &SourceInfo,
    track: &VideoTrack,
    profile: &Profile,
    frames: &[i64],
    seconds: impl Fn(usize) -> f64,
    total: f64,
    notes: &mut Notes,
) -> Vec<usize> {
    let split = &profile.split;
    let whole = |notes: &mut Notes, reason: String| {
        notes.add("split", "whole", reason);
        vec![0]
    };
    if profile.video.codec == VideoCodec::Copy {
        return whole(notes, "nothing is re-encoded: copying is bound by the disk, splitting cannot help".into());
    }
    let is_auto = split.segment_seconds == 0.0;
    if is_auto && total < split.whole_below_seconds {
        return whole(notes, format!("the source lasts {total:.1} s, less than {} s", split.whole_below_seconds));
    }
    if !track.frames.is_seekable && (is_auto || total > UNSEEKABLE_SPLIT_SECONDS) {
        return whole(
            notes,
            format!("seeking in this {} source is not exact: every segment would decode from the start", info.demuxer),
        );
    }
    let keys: Vec<usize> = track.frames.keyframes.iter().filter_map(|k| frames.binary_search(&k.pts).ok()).collect();
    if is_auto && keys.len() < 2 && total < 600.0 {
        return whole(notes, "the source has a single keyframe: every segment would decode from the start".into());
    }
    let ((targets, min_tail), reach) = if is_auto {
        (cuts::auto_targets(total), AUTO_REACH_SECONDS)
    } else {
        (cuts::even_targets(total, split.segment_seconds), (split.segment_seconds * 0.2).min(2.0))
    };
    let cut = cuts::cut_frames(frames.len(), &seconds, total, &targets, &keys, reach, min_tail);
    let on_keys = cut.iter().filter(|c| keys.binary_search(c).is_ok()).count();
    let how = if is_auto {
        "a short first segment to play early, short last ones to end together".to_owned()
    } else {
        format!("every {} s as asked", split.segment_seconds)
    };
    notes.add(
        "split",
        format!("{} segments", cut.len()),
        format!("{how}; {on_keys} of {} start on a source keyframe, tails are merged", cut.len()),
    );
    cut
}

/// Keyframes to seek to for a segment start, nearest first. Empty means: decode from the beginning.
fn seek_points(track: &VideoTrack, start: i64, first_pts: i64) -> Vec<i64> {
    let index = &track.frames;
    if !index.is_seekable {
        return Vec::new();
    }
    let before = index.keyframes.iter().rev().map(|k| k.pts).filter(|k| *k <= start);
    before.skip(usize::from(index.needs_run_in)).take(2).filter(|k| *k > first_pts).collect()
}

fn keyframe_after(track: &VideoTrack, key: i64) -> Option<i64> {
    let keyframes = &track.frames.keyframes;
    keyframes.get(keyframes.partition_point(|k| k.pts <= key)).map(|k| k.pts)
}

/// Keyframes of a copied track as output ticks; the first frame counts as one even when it is not flagged.
fn copied_keyframes(track: &VideoTrack, frames: &[i64], out: impl Fn(i64) -> i64) -> Vec<i64> {
    let mut keys: Vec<i64> =
        track.frames.keyframes.iter().map(|k| k.pts).filter(|k| frames.binary_search(k).is_ok()).map(&out).collect();
    if let Some(first) = frames.first().map(|f| out(*f))
        && keys.first() != Some(&first)
    {
        keys.insert(0, first);
    }
    keys
}

/// The rate told to players: the common rate nearby, else the mean to three decimals.
fn frame_rate(num_frames: usize, ticks: i64, timescale: u32) -> Rational {
    let mean = num_frames as f64 * f64::from(timescale) / ticks.max(1) as f64;
    const COMMON: [(i64, i64); 12] = [
        (24_000, 1001),
        (24, 1),
        (25, 1),
        (30_000, 1001),
        (30, 1),
        (48, 1),
        (50, 1),
        (60_000, 1001),
        (60, 1),
        (12, 1),
        (15, 1),
        (120, 1),
    ];
    COMMON
        .iter()
        .filter_map(|(n, d)| Rational::new(*n, *d))
        .find(|r| (r.to_f64() / mean - 1.0).abs() < 0.0003)
        .or_else(|| Rational::new((mean * 1000.0).round().clamp(1.0, 1e12) as i64, 1000))
        .unwrap_or(Rational::ONE)
}

/// Pixel format, colour tags and the filters that lead there.
fn picture_format(
    track: &VideoTrack,
    profile: &Profile,
    caps: &Capabilities,
    notes: &mut Notes,
) -> (String, Color, Vec<String>) {
    let ten_bit = track.bit_depth > 8;
    let plain = |mut c: Color| {
        if c.range.is_empty() || c.range == "pc" {
            c.range = "tv".into();
        }
        c
    };
    match profile.video.pixel_format {
        PixelFormat::Source => {
            let pix_fmt = track.pix_fmt.strip_prefix("yuvj").map_or(track.pix_fmt.clone(), |rest| format!("yuv{rest}"));
            (pix_fmt, track.color.clone(), Vec::new())
        }
        PixelFormat::Auto420 if ten_bit => ("yuv420p10le".into(), plain(track.color.clone()), Vec::new()),
        _ if track.color.is_hdr() && caps.has_filter("zscale") && caps.has_filter("tonemap") => {
            notes.add(
                "colour",
                "tone-map to SDR",
                format!("the source is HDR ({}) and the profile is 8-bit", track.color.transfer),
            );
            let sdr = Color {
                range: "tv".into(),
                space: "bt709".into(),
                transfer: "bt709".into(),
                primaries: "bt709".into(),
            };
            let filters = vec![
                "zscale=t=linear:npl=100".to_owned(),
                "format=gbrpf32le".to_owned(),
                "zscale=p=bt709".to_owned(),
                "tonemap=tonemap=hable:desat=0".to_owned(),
                "zscale=t=bt709:m=bt709:r=tv".to_owned(),
            ];
            ("yuv420p".into(), sdr, filters)
        }
        _ => {
            if track.color.is_hdr() {
                notes.add(
                    "colour",
                    "kept as HDR in 8 bit",
                    "this ffmpeg has no zscale and tonemap filters; install one that has",
                );
            }
            ("yuv420p".into(), plain(track.color.clone()), Vec::new())
        }
    }
}

fn choose_encoder(profile: &Profile, caps: &Capabilities) -> Result<String, Failure> {
    let v = &profile.video;
    if v.codec == VideoCodec::Copy {
        return Ok(String::new());
    }
    let wanted: Vec<&str> = if v.encoder.is_empty() { v.codec.encoders().to_vec() } else { vec![&v.encoder] };
    wanted.iter().find(|e| caps.has_encoder(e)).map(|e| (*e).to_owned()).ok_or_else(|| {
        Failure::permanent(
            "encoder_unknown",
            format!("ffmpeg has no encoder {}: install an ffmpeg that has it, or choose another codec; `splitreel doctor` lists what is there", wanted.join(" or ")),
        )
    })
}
