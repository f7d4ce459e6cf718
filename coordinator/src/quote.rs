//! Cost estimates of jobs from the size or the duration of the source, and the profile. Pure: no source is opened.

use splitreel_client::types::{Quote, QuoteBasis, Span};
use splitreel_core::profile::{FrameRate, FrameRateWord, Profile, Rung, RungHeight, VideoCodec};

/// Sources have between these and, most often, 8 Mbit/s.
const SOURCE_BITS: Span = Span { low: 2_000_000.0, high: 20_000_000.0 };
/// A true cost lies within this factor of the estimate.
const COST_FACTOR: f64 = 2.0;
/// Megapixels that one core decodes in a second.
const DECODED_MEGAPIXELS: f64 = 250.0;
const AUDIO_KBPS: f64 = 128.0;
/// CPU seconds for one second of audio.
const AUDIO_CPU: f64 = 0.02;
const ASPECT: f64 = 16.0 / 9.0;

/// Known or assumed properties of a source.
struct Source {
    seconds: Span,
    height: u32,
    frame_rate: f64,
    bits_per_second: f64,
}

/// Megapixels that one core encodes in a second.
fn encoded_megapixels(codec: VideoCodec, preset: &str) -> f64 {
    let by_preset = match preset {
        "ultrafast" | "superfast" => 120.0,
        "veryfast" | "" => 70.0,
        "faster" => 50.0,
        "fast" => 40.0,
        "medium" => 30.0,
        "slow" => 15.0,
        "slower" | "veryslow" | "placebo" => 5.0,
        _ => 30.0,
    };
    match codec {
        VideoCodec::H264 => by_preset,
        VideoCodec::Hevc => by_preset / 4.0,
        VideoCodec::Vp9 => 8.0,
        VideoCodec::Av1 => 10.0,
        VideoCodec::Copy => f64::INFINITY,
    }
}

/// Kilobits per second of a rung without a cap, about.
fn free_kbps(height: u32, codec: VideoCodec) -> f64 {
    let h264 = 4_500.0 * (f64::from(height) / 1080.0).powf(1.5);
    match codec {
        VideoCodec::H264 | VideoCodec::Copy => h264,
        VideoCodec::Hevc | VideoCodec::Vp9 => h264 * 0.6,
        VideoCodec::Av1 => h264 * 0.5,
    }
}

/// Frames per second of a rung.
fn frame_rate(wanted: FrameRate, source: f64) -> f64 {
    match wanted {
        FrameRate::Named(FrameRateWord::Source) => source,
        FrameRate::Named(FrameRateWord::Half) => source / 2.0,
        FrameRate::Number(rate) => rate.min(source),
    }
}

fn estimate(profile: &Profile, source: &Source) -> (u32, Span, Span) {
    let video = &profile.video;
    let pixels = |height: u32, rate: f64| f64::from(height) * f64::from(height) * ASPECT * rate / 1e6;
    let height_of = |rung: &Rung| match rung.height {
        RungHeight::Pixels(h) => h,
        RungHeight::Named(_) => source.height,
    };
    let kept = video.ladder().iter().map(|r| (height_of(r), r)).filter(|(h, _)| video.upscale || *h <= source.height);
    let mut rungs: Vec<(u32, &Rung)> = kept.collect();
    // As the planner does: no rung above the source, but at least one.
    if rungs.is_empty() {
        rungs.extend(video.ladder().last().map(|r| (source.height, r)));
    }
    let encodes: f64 = rungs
        .iter()
        .map(|(h, r)| {
            let settings = video.settings(r);
            pixels(*h, frame_rate(settings.fps, source.frame_rate))
                / encoded_megapixels(settings.codec, settings.preset)
        })
        .sum();
    let decode = if rungs.is_empty() { 0.0 } else { pixels(source.height, source.frame_rate) / DECODED_MEGAPIXELS };
    let cpu = encodes + decode + AUDIO_CPU;
    let free = |(h, r): &(u32, &Rung)| free_kbps(*h, video.settings(r).codec);
    let kbps: f64 = rungs
        .iter()
        .map(|rung| match rung.1.max_kbps {
            Some(0) => free(rung).min(source.bits_per_second / 1000.0),
            Some(cap) => free(rung).min(f64::from(cap)),
            None => free(rung),
        })
        .sum();
    let kbps = if rungs.is_empty() { source.bits_per_second / 1000.0 } else { kbps + AUDIO_KBPS };
    // The progressive file repeats the best rendition; HLS and DASH share their segments.
    let best = rungs.first().map_or(kbps, free);
    let kbps = if profile.packaging.progressive { kbps + best.min(kbps) } else { kbps };
    let spread = |per_second: f64| Span {
        low: (per_second * source.seconds.low / COST_FACTOR).round(),
        high: (per_second * source.seconds.high * COST_FACTOR).round(),
    };
    let renditions = u32::try_from(rungs.len()).unwrap_or(u32::MAX).max(u32::from(video.codec == VideoCodec::Copy));
    (renditions, spread(cpu), spread(kbps * 125.0))
}

/// Estimates the cost of a job. `bytes`: size of the source; `duration`: its length in seconds; one of them is given.
/// `height` in pixels and `frame_rate` in frames per second are those of the source, given or assumed.
pub(crate) fn quote(
    profile: &Profile,
    bytes: Option<u64>,
    duration: Option<f64>,
    height: u32,
    frame_rate: f64,
) -> Quote {
    let mut assumptions =
        vec![format!("the picture is {height} pixels high, 16:9, with {frame_rate} frames per second")];
    let (basis, seconds) = match (duration, bytes) {
        (Some(seconds), _) => (QuoteBasis::Duration, Span { low: seconds, high: seconds }),
        (None, bytes) => {
            let bits = bytes.unwrap_or(0) as f64 * 8.0;
            assumptions.push(format!("the source has {} to {} Mbit/s", SOURCE_BITS.low / 1e6, SOURCE_BITS.high / 1e6));
            (QuoteBasis::Size, Span { low: (bits / SOURCE_BITS.high).round(), high: (bits / SOURCE_BITS.low).round() })
        }
    };
    assumptions.push("one CPU second is one of a common server core of 2020".to_owned());
    let bits_per_second = match bytes {
        Some(bytes) if seconds.high > 0.0 => bytes as f64 * 8.0 / seconds.high,
        _ => 8_000_000.0,
    };
    let source = Source { seconds, height, frame_rate, bits_per_second };
    let (renditions, cpu_seconds, output_bytes) = estimate(profile, &source);
    Quote { basis, assumptions, duration_seconds: seconds, renditions, cpu_seconds, output_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profile: &str, height: u32) -> (u32, Span, Span) {
        let seconds = Span { low: 60.0, high: 60.0 };
        let source = Source { seconds, height, frame_rate: 30.0, bits_per_second: 8e6 };
        estimate(&Profile::built_in(profile).unwrap(), &source)
    }

    #[test]
    fn more_pixels_and_harder_codecs_cost_more() {
        let (full, half) = (of("universal", 1080), of("universal", 540));
        assert_eq!((full.0, half.0), (4, 2));
        assert!(full.1.high > half.1.high && full.2.high > half.2.high);
        assert!(of("efficiency", 1080).1.low > full.1.low);
        assert!(of("efficiency", 1080).2.low < full.2.low);
        // A minute of 1080p in four renditions costs between half a minute and ten minutes of one core.
        assert!(full.1.low > 30.0 && full.1.high < 600.0, "{:?}", full.1);
    }

    #[test]
    fn a_rung_is_estimated_by_its_own_settings() {
        let seconds = Span { low: 60.0, high: 60.0 };
        let source = Source { seconds, height: 1080, frame_rate: 30.0, bits_per_second: 8e6 };
        let mut profile = Profile::built_in("universal").unwrap();
        let plain = estimate(&profile, &source);
        profile.video.rungs[0].fps = Some(FrameRate::Named(FrameRateWord::Half));
        assert!(estimate(&profile, &source).1.high < plain.1.high);
        profile.video.rungs[0].codec = Some(VideoCodec::Av1);
        assert!(estimate(&profile, &source).1.high > plain.1.high);
    }

    #[test]
    fn copying_costs_next_to_nothing() {
        let (renditions, cpu, bytes) = of("passthrough", 1080);
        assert_eq!(renditions, 1);
        assert!(cpu.high < 5.0, "{cpu:?}");
        assert!(bytes.low > 0.0 && bytes.high > bytes.low);
    }
}
