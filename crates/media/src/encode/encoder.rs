//! Options of the video encoders that are known: rate control, closed GOPs, keyframes where the plan wants them and
//! nowhere else, and the same header for every piece.

use super::ArgsError;
use super::input::words;
use splitreel_core::Rational;
use splitreel_core::plan::{FrameRule, PlannedPart, VideoEncoding, VideoRate};
use splitreel_core::side_data::{ContentLight, Mastering, SideData};

/// Upper bound for the distance of keyframes: they come where the plan says, not by counting.
const NO_GOP_LIMIT: &str = "9999";

/// `-c:v` and everything that belongs to it. `side_data` is what the encoder writes into the stream itself.
pub(super) fn encoder_args(
    encoding: &VideoEncoding,
    side_data: &SideData,
    part: &PlannedPart<'_>,
) -> Result<Vec<String>, ArgsError> {
    let mut args = words(&["-c:v", &encoding.encoder]);
    // With a cap, x264 budgets each frame by the output of its other frame threads at that moment: not deterministic.
    let is_timing_dependent = encoding.encoder == "libx264" && encoding.rate.max_kbps().is_some();
    let threads = if is_timing_dependent { 1 } else { encoding.threads.max(1) };
    args.extend(["-threads:v".into(), threads.to_string()]);
    let specific = match encoding.encoder.as_str() {
        "libx264" => x264(encoding),
        "libx265" => x265(encoding, side_data, part, threads),
        "libvpx-vp9" => vpx(encoding),
        "libsvtav1" => svt(encoding, part, threads),
        "libaom-av1" => aom(encoding),
        _ => return Err(ArgsError::UnknownEncoder { name: encoding.encoder.clone() }),
    };
    args.extend(specific);
    args.extend(words(&["-flags:v", "+cgop+bitexact"]));
    Ok(args)
}

fn preset(encoding: &VideoEncoding) -> Vec<String> {
    if encoding.preset.is_empty() { Vec::new() } else { words(&["-preset", &encoding.preset]) }
}

/// Cap in kbit/s as `-maxrate`, with a buffer of two seconds of it.
fn cap(rate: VideoRate) -> Vec<String> {
    match rate.max_kbps().filter(|kbps| *kbps > 0) {
        Some(kbps) => {
            let buffer = u64::from(kbps).saturating_mul(2);
            vec!["-maxrate".into(), format!("{kbps}k"), "-bufsize".into(), format!("{buffer}k")]
        }
        None => Vec::new(),
    }
}

fn x264(encoding: &VideoEncoding) -> Vec<String> {
    let mut args = preset(encoding);
    match encoding.rate {
        VideoRate::Quantiser { qp } => args.extend(["-qp".into(), qp.to_string()]),
        VideoRate::Quality { crf, .. } => args.extend(["-crf".into(), quality(crf)]),
    }
    args.extend(cap(encoding.rate));
    if !encoding.level.is_empty() {
        args.extend(words(&["-level", &encoding.level]));
    }
    args.extend(words(&["-g", NO_GOP_LIMIT, "-sc_threshold", "0", "-forced-idr", "1"]));
    args
}

/// The rate of a list with fewer frames than the source: ffmpeg announces the source's rate to encoders, and rate control
/// with a cap counts in frames.
fn lower_rate(part: &PlannedPart<'_>) -> Option<Rational> {
    (part.list.rule != FrameRule::All).then_some(part.list.rate)
}

/// Light metadata as x265 writes it with every keyframe (ITU-T H.265 D.2.28, D.2.35).
fn x265_light(side_data: &SideData) -> Vec<String> {
    let mut params = Vec::new();
    if let Some(Mastering { primaries: [green, blue, red], white, max_luminance, min_luminance }) = side_data.mastering
    {
        let point = |name: &str, [x, y]: [u16; 2]| format!("{name}({x},{y})");
        let points = [("G", green), ("B", blue), ("R", red), ("WP", white)].map(|(name, at)| point(name, at));
        params.push(format!("master-display={}L({max_luminance},{min_luminance})", points.concat()));
    }
    if let Some(ContentLight { max_content, max_average }) = side_data.light {
        params.push(format!("max-cll={max_content},{max_average}"));
    }
    if !params.is_empty() {
        params.push("hdr10=1".into());
    }
    params
}

fn x265(encoding: &VideoEncoding, side_data: &SideData, part: &PlannedPart<'_>, threads: u32) -> Vec<String> {
    let mut args = preset(encoding);
    // The option string goes into the header: it must be the same for every piece, and say nothing of the machine.
    let mut params = words(&["info=0", "log-level=error", "repeat-headers=0", "open-gop=0", "scenecut=0"]);
    params.push(format!("keyint={NO_GOP_LIMIT}"));
    params.push("min-keyint=1".into());
    // More frame threads than one make capped rate control depend on timing.
    let frame_threads = if encoding.rate.max_kbps().is_some() { 1 } else { threads.min(16) };
    params.push(format!("frame-threads={frame_threads}"));
    params.push(if threads > 1 { format!("pools={threads}") } else { "pools=none".into() });
    if !encoding.level.is_empty() {
        params.push(format!("level-idc={}", encoding.level));
    }
    if let Some(rate) = lower_rate(part) {
        params.push(format!("fps={}/{}", rate.num(), rate.den()));
    }
    params.extend(x265_light(side_data));
    match encoding.rate {
        VideoRate::Quantiser { qp: 0 } => params.push("lossless=1".into()),
        VideoRate::Quantiser { qp } => params.push(format!("qp={qp}")),
        VideoRate::Quality { crf, .. } => args.extend(["-crf".into(), quality(crf)]),
    }
    args.extend(cap(encoding.rate));
    args.extend(words(&["-x265-params", &params.join(":")]));
    args.extend(words(&["-g", NO_GOP_LIMIT, "-sc_threshold", "0", "-forced-idr", "1", "-tag:v", "hvc1"]));
    args
}

fn vpx(encoding: &VideoEncoding) -> Vec<String> {
    let cpu_used = if encoding.preset.is_empty() { "4" } else { &encoding.preset };
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
    match encoding.rate {
        VideoRate::Quantiser { qp: 0 } => args.extend(words(&["-lossless", "1", "-b:v", "0"])),
        VideoRate::Quantiser { qp } => args.extend(constant_quantiser(qp)),
        VideoRate::Quality { crf, max_kbps } => args.extend(constrained_quality(crf, max_kbps)),
    }
    args.extend(words(&["-g", NO_GOP_LIMIT]));
    args
}

fn aom(encoding: &VideoEncoding) -> Vec<String> {
    let cpu_used = if encoding.preset.is_empty() { "6" } else { &encoding.preset };
    let mut args = words(&["-usage", "good", "-cpu-used", cpu_used, "-row-mt", "0"]);
    match encoding.rate {
        VideoRate::Quantiser { qp } => args.extend(constant_quantiser(qp)),
        VideoRate::Quality { crf, max_kbps } => args.extend(constrained_quality(crf, max_kbps)),
    }
    args.extend(words(&["-g", NO_GOP_LIMIT]));
    args
}

/// One quantiser for all frames, as libvpx and libaom express it.
fn constant_quantiser(qp: u32) -> Vec<String> {
    let qp = qp.to_string();
    words(&["-qmin", &qp, "-qmax", &qp, "-crf", &qp, "-b:v", "0"])
}

/// Quality with the bit rate as a ceiling, as libvpx and libaom express it.
fn constrained_quality(crf: f64, max_kbps: Option<u32>) -> Vec<String> {
    let rate = max_kbps.filter(|kbps| *kbps > 0).map_or_else(|| "0".to_owned(), |kbps| format!("{kbps}k"));
    // These take whole numbers only.
    vec!["-crf".into(), format!("{crf:.0}"), "-b:v".into(), rate]
}

fn svt(encoding: &VideoEncoding, part: &PlannedPart<'_>, threads: u32) -> Vec<String> {
    let speed = if encoding.preset.is_empty() { "8" } else { &encoding.preset };
    let mut args = words(&["-preset", speed]);
    match encoding.rate {
        VideoRate::Quantiser { qp } => args.extend(["-qp".into(), qp.to_string()]),
        VideoRate::Quality { crf, .. } => args.extend(["-crf".into(), format!("{crf:.0}")]),
    }
    args.extend(cap(encoding.rate));
    let rate = lower_rate(part).map_or(String::new(), |r| format!(":fps-num={}:fps-denom={}", r.num(), r.den()));
    args.extend(["-svtav1-params".into(), format!("scd=0:lp={threads}:enable-force-key-frames=1{rate}")]);
    // Old releases of the library force keyframes only when asked to, and newer ones only warn of the parameter. Where
    // even that is not known, an even grid is given by counting.
    let length = part.segment.duration().get();
    let keyframes: Vec<i64> = part.grid.keyframes.iter().map(|k| k.get()).collect();
    let gop = frames_per_gop(part.frames.num_frames, length, &keyframes);
    args.extend(["-g".into(), gop.map_or_else(|| NO_GOP_LIMIT.to_owned(), |frames| frames.to_string())]);
    args
}

/// Frames between planned keyframes, when those are an even grid over evenly spaced frames.
fn frames_per_gop(num_frames: u64, length: i64, keyframes: &[i64]) -> Option<u64> {
    let length = u64::try_from(length).ok().filter(|length| *length > 0)?;
    let [first, second, ..] = keyframes else {
        return None;
    };
    let distance = second.checked_sub(*first).filter(|distance| *distance > 0)?;
    let is_even = keyframes.iter().zip(keyframes.iter().skip(1)).all(|(a, b)| b.checked_sub(*a) == Some(distance));
    let scaled = u128::from(num_frames) * u128::from(distance.unsigned_abs());
    // Output ticks may be rounded: the count is good when it is a whole number within a tenth of a frame.
    let frames = (scaled + u128::from(length) / 2) / u128::from(length);
    let error = scaled.abs_diff(frames * u128::from(length));
    (is_even && frames > 0 && error * 10 <= u128::from(length)).then(|| u64::try_from(frames).ok()).flatten()
}

/// Two decimals, so that the text is the same however the number was written in the profile.
fn quality(crf: f64) -> String {
    let text = format!("{crf:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_grid_is_counted_in_frames() {
        assert_eq!(frames_per_gop(100, 51_200, &[0, 25_600]), Some(50));
        assert_eq!(frames_per_gop(100, 51_200, &[0, 12_800, 25_600]), Some(25));
        assert_eq!(frames_per_gop(100, 51_200, &[0, 12_800, 26_000]), None);
        assert_eq!(frames_per_gop(100, 51_200, &[0]), None);
        assert_eq!(frames_per_gop(0, 0, &[0, 1]), None);
    }
}
