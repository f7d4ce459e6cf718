//! Options of the video encoders that are known: rate control, closed GOPs, keyframes where the plan wants them and
//! nowhere else, and the same header for every piece.

use super::ArgsError;
use super::input::words;
use splitreel_core::plan::{Rendition, Segment, VideoPlan};

/// Upper bound for the distance of keyframes: they come where the plan says, not by counting.
const NO_GOP_LIMIT: &str = "9999";

/// `-c:v` and everything that belongs to it.
pub(super) fn encoder_args(
    plan: &VideoPlan,
    segment: &Segment,
    rendition: &Rendition,
) -> Result<Vec<String>, ArgsError> {
    let mut args = words(&["-c:v", &plan.encoder]);
    // With a cap, x264 plans each frame by what its other frame threads have written so far: chance decides.
    let is_by_chance = plan.encoder == "libx264" && rendition.max_kbps.is_some();
    let threads = if is_by_chance { 1 } else { plan.threads.max(1) };
    args.extend(["-threads:v".into(), threads.to_string()]);
    let specific = match plan.encoder.as_str() {
        "libx264" => x264(plan, rendition),
        "libx265" => x265(plan, rendition, threads),
        "libvpx-vp9" => vpx(plan, rendition),
        "libsvtav1" => svt(plan, segment, rendition, threads),
        "libaom-av1" => aom(plan, rendition),
        _ => return Err(ArgsError::UnknownEncoder { name: plan.encoder.clone() }),
    };
    args.extend(specific);
    args.extend(words(&["-flags:v", "+cgop+bitexact"]));
    Ok(args)
}

fn preset(plan: &VideoPlan) -> Vec<String> {
    if plan.preset.is_empty() { Vec::new() } else { words(&["-preset", &plan.preset]) }
}

/// Cap in kbit/s as `-maxrate`, with a buffer of two seconds of it.
fn cap(rendition: &Rendition) -> Vec<String> {
    match rendition.max_kbps.filter(|kbps| *kbps > 0) {
        Some(kbps) => {
            let buffer = u64::from(kbps).saturating_mul(2);
            vec!["-maxrate".into(), format!("{kbps}k"), "-bufsize".into(), format!("{buffer}k")]
        }
        None => Vec::new(),
    }
}

fn x264(plan: &VideoPlan, rendition: &Rendition) -> Vec<String> {
    let mut args = preset(plan);
    match rendition.qp {
        Some(qp) => args.extend(["-qp".into(), qp.to_string()]),
        None => args.extend(["-crf".into(), quality(rendition, 23.0)]),
    }
    args.extend(cap(rendition));
    if !rendition.level.is_empty() {
        args.extend(words(&["-level", &rendition.level]));
    }
    args.extend(words(&["-g", NO_GOP_LIMIT, "-sc_threshold", "0", "-forced-idr", "1"]));
    args
}

fn x265(plan: &VideoPlan, rendition: &Rendition, threads: u32) -> Vec<String> {
    let mut args = preset(plan);
    // The option string goes into the header: it must be the same for every piece, and say nothing of the machine.
    let mut params = words(&["info=0", "log-level=error", "repeat-headers=0", "open-gop=0", "scenecut=0"]);
    params.push(format!("keyint={NO_GOP_LIMIT}"));
    params.push("min-keyint=1".into());
    // More frame threads than one make capped rate control depend on timing.
    let frame_threads = if rendition.max_kbps.is_some() { 1 } else { threads.min(16) };
    params.push(format!("frame-threads={frame_threads}"));
    params.push(if threads > 1 { format!("pools={threads}") } else { "pools=none".into() });
    if !rendition.level.is_empty() {
        params.push(format!("level-idc={}", rendition.level));
    }
    match rendition.qp {
        Some(0) => params.push("lossless=1".into()),
        Some(qp) => params.push(format!("qp={qp}")),
        None => args.extend(["-crf".into(), quality(rendition, 28.0)]),
    }
    args.extend(cap(rendition));
    args.extend(words(&["-x265-params", &params.join(":")]));
    args.extend(words(&["-g", NO_GOP_LIMIT, "-sc_threshold", "0", "-forced-idr", "1", "-tag:v", "hvc1"]));
    args
}

fn vpx(plan: &VideoPlan, rendition: &Rendition) -> Vec<String> {
    let cpu_used = if plan.preset.is_empty() { "4" } else { &plan.preset };
    let mut args = words(&[
        "-deadline",
        "good",
        "-cpu-used",
        cpu_used,
        "-row-mt",
        "0",
        "-lag-in-frames",
        "25",
        "-auto-alt-ref",
        "1",
    ]);
    match rendition.qp {
        Some(0) => args.extend(words(&["-lossless", "1", "-b:v", "0"])),
        Some(qp) => {
            let qp = qp.to_string();
            args.extend(words(&["-qmin", &qp, "-qmax", &qp, "-crf", &qp, "-b:v", "0"]));
        }
        None => args.extend(constrained_quality(rendition, 31.0)),
    }
    args.extend(words(&["-g", NO_GOP_LIMIT]));
    args
}

fn aom(plan: &VideoPlan, rendition: &Rendition) -> Vec<String> {
    let cpu_used = if plan.preset.is_empty() { "6" } else { &plan.preset };
    let mut args = words(&["-usage", "good", "-cpu-used", cpu_used, "-row-mt", "0"]);
    match rendition.qp {
        Some(qp) => {
            let qp = qp.to_string();
            args.extend(words(&["-qmin", &qp, "-qmax", &qp, "-crf", &qp, "-b:v", "0"]));
        }
        None => args.extend(constrained_quality(rendition, 32.0)),
    }
    args.extend(words(&["-g", NO_GOP_LIMIT]));
    args
}

/// Quality with the bit rate as a ceiling, as libvpx and libaom express it.
fn constrained_quality(rendition: &Rendition, default: f64) -> Vec<String> {
    let rate = rendition.max_kbps.filter(|kbps| *kbps > 0).map_or_else(|| "0".to_owned(), |kbps| format!("{kbps}k"));
    // These take whole numbers only.
    let crf = format!("{:.0}", rendition.crf.unwrap_or(default));
    vec!["-crf".into(), crf, "-b:v".into(), rate]
}

fn svt(plan: &VideoPlan, segment: &Segment, rendition: &Rendition, threads: u32) -> Vec<String> {
    let speed = if plan.preset.is_empty() { "8" } else { &plan.preset };
    let mut args = words(&["-preset", speed]);
    match rendition.qp {
        Some(qp) => args.extend(["-qp".into(), qp.to_string()]),
        None => args.extend(["-crf".into(), format!("{:.0}", rendition.crf.unwrap_or(35.0))]),
    }
    args.extend(cap(rendition));
    args.extend(["-svtav1-params".into(), format!("scd=0:lp={threads}")]);
    // Old releases of the library know no forced keyframes: an even grid is told by counting, too.
    let gop = frames_per_gop(segment).map_or_else(|| NO_GOP_LIMIT.to_owned(), |frames| frames.to_string());
    args.extend(["-g".into(), gop]);
    args
}

/// Frames between planned keyframes, when those are an even grid over evenly spaced frames.
fn frames_per_gop(segment: &Segment) -> Option<u64> {
    let length =
        u64::try_from(segment.output_end.checked_sub(segment.output_start)?).ok().filter(|length| *length > 0)?;
    let [first, second, ..] = segment.keyframes.as_slice() else {
        return None;
    };
    let distance = second.checked_sub(*first).filter(|distance| *distance > 0)?;
    let is_even = segment
        .keyframes
        .iter()
        .zip(segment.keyframes.iter().skip(1))
        .all(|(a, b)| b.checked_sub(*a) == Some(distance));
    let scaled = u128::from(segment.num_frames) * u128::from(distance.unsigned_abs());
    // Output ticks may be rounded: the count is good when it is a whole number within a tenth of a frame.
    let frames = (scaled + u128::from(length) / 2) / u128::from(length);
    let error = scaled.abs_diff(frames * u128::from(length));
    (is_even && frames > 0 && error * 10 <= u128::from(length)).then(|| u64::try_from(frames).ok()).flatten()
}

fn quality(rendition: &Rendition, default: f64) -> String {
    // Two decimals, so that the text is the same however the number was written in the profile.
    let text = format!("{:.2}", rendition.crf.unwrap_or(default));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(frames: u64, length: i64, keyframes: Vec<i64>) -> Segment {
        Segment {
            index: 0,
            start: 0,
            end: None,
            output_start: 0,
            output_end: length,
            seek: vec![],
            seek_limit: None,
            num_frames: frames,
            pts_sha256: String::new(),
            keyframes,
            media_segments: vec![],
        }
    }

    #[test]
    fn an_even_grid_is_counted_in_frames() {
        assert_eq!(frames_per_gop(&segment(100, 51_200, vec![0, 25_600])), Some(50));
        assert_eq!(frames_per_gop(&segment(100, 51_200, vec![0, 12_800, 25_600])), Some(25));
        assert_eq!(frames_per_gop(&segment(100, 51_200, vec![0, 12_800, 26_000])), None);
        assert_eq!(frames_per_gop(&segment(100, 51_200, vec![0])), None);
        assert_eq!(frames_per_gop(&segment(0, 0, vec![0, 1])), None);
    }
}
