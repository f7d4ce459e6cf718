//! From the profile's ladder to the renditions of one source: sizes, sample aspect ratios, levels.

use crate::plan::VideoRate;
use crate::profile::{Rung, RungHeight, VideoCodec, VideoProfile};
use crate::time::Rational;

/// A rung with its size for one source.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedRung<'a> {
    /// `720p` and the like; unique in the ladder.
    pub id: String,
    /// Storage width in pixels, even.
    pub width: u32,
    /// Storage height in pixels, even.
    pub height: u32,
    /// Sample aspect ratio: keeps the display aspect exact.
    pub sar: Rational,
    /// Rate control.
    pub rate: VideoRate,
    /// The profile's rung.
    pub rung: &'a Rung,
}

/// The picture as it is displayed after rotation, in storage pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Sample aspect ratio.
    pub sar: Rational,
}

impl Picture {
    /// The stored picture turned by `rotation` degrees.
    pub fn rotated(width: u32, height: u32, sar: Rational, rotation: u16) -> Picture {
        if rotation % 180 == 90 {
            let sar = Rational::ONE.over(sar).unwrap_or(Rational::ONE);
            Picture { width: height, height: width, sar }
        } else {
            Picture { width, height, sar }
        }
    }

    /// What rungs are measured by: lines of the 16:9 frame around a landscape picture, columns for portrait ones. A film
    /// in scope, 1920x800, is of the class 1080 as it would be with its black bars.
    pub fn class(&self) -> u32 {
        let (long, short) = (self.width.max(self.height), self.width.min(self.height));
        let framed = (u64::from(long) * 9 + 8) / 16;
        short.max(u32::try_from(framed).unwrap_or(u32::MAX))
    }
}

/// What a source spends on its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spending<'a> {
    /// ffmpeg's name of the codec.
    pub codec: &'a str,
    /// kbit/s of the busiest two seconds; 0 when unknown.
    pub peak_kbps: u64,
    /// Frames per second.
    pub frame_rate: f64,
}

/// Resolves the ladder: rungs above the source fall away (unless `upscale`); a source between two rungs gets
/// one at its own size with the settings of the rung above; there is always at least one. Best first.
pub fn resolve<'a>(profile: &'a VideoProfile, picture: Picture, spending: Spending<'_>) -> Vec<ResolvedRung<'a>> {
    let class = picture.class();
    let mut wanted: Vec<(u32, bool, &Rung)> = profile
        .rungs
        .iter()
        .map(|r| match r.height {
            RungHeight::Pixels(p) => (p, false, r),
            RungHeight::Named(_) => (class, true, r),
        })
        .collect();
    wanted.sort_by_key(|(p, ..)| std::cmp::Reverse(*p));
    let (above, mut kept): (Vec<_>, Vec<_>) =
        if profile.upscale { (Vec::new(), wanted) } else { wanted.into_iter().partition(|(p, ..)| *p > class) };
    // A rung within a tenth of the source is the source's own rung and keeps its size; the highest one takes sources that
    // are up to a quarter larger, such as screens of other shapes.
    let percent = if above.is_empty() { 80 } else { 90 };
    match kept.first().map(|(p, ..)| *p) {
        Some(p) if p >= class => {}
        Some(p) if u64::from(p) * 100 >= u64::from(class) * percent => {
            kept.iter_mut().take(1).for_each(|(p, is_source, _)| (*p, *is_source) = (class, true));
        }
        _ => kept.splice(0..0, above.last().map(|(.., rung)| (class, true, *rung))).for_each(drop),
    }
    let mut out: Vec<ResolvedRung<'_>> = Vec::new();
    for (p, is_source, rung) in kept {
        let (width, height) = size(picture, if is_source { class } else { p });
        let settings = profile.settings(rung);
        let is_same = |other: &ResolvedRung<'_>| {
            let theirs = profile.settings(other.rung);
            (other.width, other.height) == (width, height)
                && (theirs.codec, theirs.pixel_format, theirs.fps)
                    == (settings.codec, settings.pixel_format, settings.fps)
        };
        if out.iter().any(is_same) {
            continue;
        }
        out.push(ResolvedRung {
            id: unique_id(&out, profile, rung, p, (width, height)),
            width,
            height,
            sar: sar_for(picture, width, height),
            rate: rate_control(rung, settings.codec, spending, (picture, width, height)),
            rung,
        });
    }
    out
}

/// `720p`; where another rung has that id, `720p-av1` for another codec, `1280x720` for another size, else `720p-2`.
fn unique_id(
    known: &[ResolvedRung<'_>],
    profile: &VideoProfile,
    rung: &Rung,
    class: u32,
    (width, height): (u32, u32),
) -> String {
    let plain = format!("{class}p");
    let codec = profile.settings(rung).codec;
    let second = match known.iter().find(|r| r.id == plain) {
        None => return plain,
        Some(holder) if profile.settings(holder.rung).codec != codec => format!("{plain}-{}", codec.as_str()),
        Some(holder) if (holder.width, holder.height) != (width, height) => format!("{width}x{height}"),
        Some(_) => format!("{plain}-2"),
    };
    let mut others = std::iter::once(second).chain((2..).map(|n| format!("{plain}-{n}")));
    others.find(|id| known.iter().all(|r| r.id != *id)).unwrap_or(plain)
}

/// Validation guarantees that a rung has one of the two; 23 is the usual quality of H.264.
fn rate_control(
    rung: &Rung,
    codec: VideoCodec,
    spending: Spending<'_>,
    (picture, width, height): (Picture, u32, u32),
) -> VideoRate {
    match (rung.crf, rung.qp) {
        (None, Some(qp)) => VideoRate::Quantiser { qp },
        (crf, _) => {
            let area = f64::from(width) * f64::from(height);
            let source_area = f64::from(picture.width.max(1)) * f64::from(picture.height.max(1));
            let follow = || following_kbps(codec, spending, area, area / source_area);
            let cap = |kbps| if kbps == 0 { follow() } else { kbps };
            VideoRate::Quality { crf: crf.unwrap_or(23.0), max_kbps: rung.max_kbps.map(cap) }
        }
    }
}

/// The cap of a rung that follows its source, in kbit/s: what its size and frame rate are worth, and never much more than
/// the source spends on its busiest seconds, scaled by area.
fn following_kbps(codec: VideoCodec, spending: Spending<'_>, area: f64, part_of_source: f64) -> u32 {
    /// H.264 of 1920x1080 pixels at up to 30 frames per second.
    const FULL_HD: f64 = 5_500.0;
    const FULL_HD_AREA: f64 = 1920.0 * 1080.0;
    /// What another encoder needs more than the one that made the source.
    const MARGIN: f64 = 1.2;
    const LEAST: f64 = 64.0;
    let need = match codec {
        VideoCodec::H264 | VideoCodec::Copy => 1.0,
        VideoCodec::Hevc | VideoCodec::Vp9 => 0.6,
        VideoCodec::Av1 => 0.5,
    };
    let source_need = match spending.codec {
        "hevc" | "vp9" => 0.6,
        "av1" => 0.5,
        "vvc" => 0.4,
        _ => 1.0,
    };
    let rate = (spending.frame_rate / 30.0).clamp(1.0, 8.0);
    let worth = FULL_HD * need * power(area / FULL_HD_AREA) * power(rate);
    let spent = match spending.peak_kbps {
        0 => f64::INFINITY,
        kbps => kbps as f64 * MARGIN * (need / source_need).max(1.0) * power(part_of_source.min(1.0)),
    };
    worth.min(spent).max(LEAST).round() as u32
}

/// The power of 3/4: larger pictures need fewer bits for each pixel. By square roots, which are the same on every machine.
fn power(ratio: f64) -> f64 {
    ratio.sqrt() * ratio.sqrt().sqrt()
}

/// Even storage size of a class: the exact aspect where the aspect's unit is small enough, else the nearest
/// even sizes (the sample aspect ratio then takes up the difference).
fn size(picture: Picture, class: u32) -> (u32, u32) {
    let (w, h) = (picture.width.max(1), picture.height.max(1));
    let own = u64::from(picture.class().max(1));
    if u64::from(class) == own {
        return (even(w), even(h));
    }
    let scale = |side: u32| {
        let side = (u64::from(side) * u64::from(class) * 2 + own) / (own * 2);
        u32::try_from(side).unwrap_or(u32::MAX)
    };
    let g = gcd(w, h);
    let (a, b) = (2 * (w / g), 2 * (h / g));
    let unit = a.min(b);
    let count = u64::from(w.min(h)) * u64::from(class) / (u64::from(unit) * own);
    match u32::try_from(count).ok().filter(|count| *count > 0 && unit <= class / 8) {
        Some(count) => (a.saturating_mul(count), b.saturating_mul(count)),
        None => (even(scale(w)), even(scale(h))),
    }
}

fn even(v: u32) -> u32 {
    (v & !1).max(2)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// The sample aspect ratio that keeps the source's display aspect exact at another storage size.
fn sar_for(picture: Picture, width: u32, height: u32) -> Rational {
    let change = Rational::new(
        i64::from(picture.width) * i64::from(height),
        i64::from(picture.height.max(1)) * i64::from(width.max(1)),
    );
    change
        .and_then(|c| picture.sar.times(c))
        .filter(|s| s.num() <= 65_535 && s.den() <= 65_535 && s.is_positive())
        .unwrap_or(Rational::ONE)
}

/// Smallest H.264 level (ITU-T H.264 table A-1) for size, rate and cap; empty when none fits.
pub(crate) fn h264_level(width: u32, height: u32, frame_rate: f64, max_kbps: Option<u32>) -> String {
    const LEVELS: [(&str, u64, u64, u64); 17] = [
        ("1.0", 1_485, 99, 64),
        ("1.1", 3_000, 396, 192),
        ("1.2", 6_000, 396, 384),
        ("1.3", 11_880, 396, 768),
        ("2.0", 11_880, 396, 2_000),
        ("2.1", 19_800, 792, 4_000),
        ("2.2", 20_250, 1_620, 4_000),
        ("3.0", 40_500, 1_620, 10_000),
        ("3.1", 108_000, 3_600, 14_000),
        ("3.2", 216_000, 5_120, 20_000),
        ("4.0", 245_760, 8_192, 20_000),
        ("4.2", 522_240, 8_704, 50_000),
        ("5.0", 589_824, 22_080, 135_000),
        ("5.1", 983_040, 36_864, 240_000),
        ("5.2", 2_073_600, 36_864, 240_000),
        ("6.0", 4_177_920, 139_264, 240_000),
        ("6.2", 16_711_680, 139_264, 800_000),
    ];
    let mbs = u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16));
    let rate = (mbs as f64 * frame_rate.clamp(1.0, 1_000.0)).ceil() as u64;
    let kbps = u64::from(max_kbps.unwrap_or(0));
    // Below 3.0 the decoded picture buffer is too small for the reference frames that presets use.
    LEVELS
        .iter()
        .skip(7)
        .find(|(_, mbps, fs, br)| rate <= *mbps && mbs <= *fs && kbps <= *br)
        .map_or_else(String::new, |(name, ..)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{FrameRate, FrameRateWord, Profile};
    use proptest::prelude::*;

    fn ladder(w: u32, h: u32) -> Vec<(String, u32, u32)> {
        let p = Profile::built_in("universal").unwrap();
        let pic = Picture { width: w, height: h, sar: Rational::ONE };
        resolve(&p.video, pic, Spending::default()).into_iter().map(|r| (r.id, r.width, r.height)).collect()
    }

    #[test]
    fn sixteen_by_nine_keeps_its_exact_aspect_on_every_rung() {
        let l = ladder(1920, 1080);
        assert_eq!(l.iter().map(|r| r.0.as_str()).collect::<Vec<_>>(), ["1080p", "720p", "480p", "360p"]);
        assert!(l.iter().all(|(_, w, h)| w * 9 == h * 16), "{l:?}");
    }

    #[test]
    fn a_source_between_rungs_gets_one_at_its_own_size() {
        assert_eq!(ladder(960, 540)[0], ("540p".into(), 960, 540));
        assert_eq!(ladder(320, 180), [("180p".into(), 320, 180)]);
        assert_eq!(ladder(16, 16), [("16p".into(), 16, 16)]);
    }

    #[test]
    fn films_in_scope_and_screens_keep_their_size_and_class() {
        assert_eq!(ladder(1920, 800)[..2], [("1080p".into(), 1920, 800), ("720p".into(), 1272, 530)]);
        assert_eq!(ladder(1920, 804)[1], ("720p".into(), 1280, 536));
        assert_eq!(ladder(1280, 536)[0], ("720p".into(), 1280, 536));
        assert_eq!(ladder(1920, 1200)[0], ("1200p".into(), 1920, 1200));
        assert_eq!(ladder(1366, 768)[..2], [("768p".into(), 1366, 768), ("480p".into(), 854, 480)]);
        assert_eq!(ladder(1680, 1050)[..2], [("1050p".into(), 1680, 1050), ("720p".into(), 1152, 720)]);
        assert_eq!(ladder(2400, 1080)[0], ("1350p".into(), 2400, 1080));
        assert_eq!(ladder(1080, 2400)[0], ("1350p".into(), 1080, 2400));
        assert_eq!(ladder(3840, 1600)[0].0, "1080p");
        assert_eq!(ladder(720, 576)[..2], [("576p".into(), 720, 576), ("480p".into(), 600, 480)]);
    }

    fn cap(picture: (u32, u32), spending: Spending<'_>) -> Vec<u32> {
        let p = Profile::built_in("universal").unwrap();
        let picture = Picture { width: picture.0, height: picture.1, sar: Rational::ONE };
        resolve(&p.video, picture, spending).iter().filter_map(|rung| rung.rate.max_kbps()).collect()
    }

    #[test]
    fn caps_that_follow_the_source_never_exceed_what_it_spends() {
        let spending = |codec, peak_kbps, frame_rate| Spending { codec, peak_kbps, frame_rate };
        assert_eq!(cap((1920, 1080), spending("h264", 0, 25.0)), [5_500, 2_994, 1_569, 1_058]);
        assert_eq!(cap((1920, 1080), spending("h264", 90_000, 25.0)), [5_500, 2_994, 1_569, 1_058]);
        assert_eq!(cap((1920, 1080), spending("h264", 1_000, 25.0)), [1_200, 653, 342, 231]);
        assert_eq!(cap((1920, 1080), spending("hevc", 1_000, 25.0))[0], 2_000);
        assert_eq!(cap((1920, 1080), spending("prores", 90_000, 60.0))[0], 9_250);
        assert_eq!(cap((320, 180), spending("h264", 10, 25.0)), [64]);
    }

    #[test]
    fn rungs_of_one_height_differ_by_their_settings() {
        let mut p = Profile::built_in("universal").unwrap();
        let rung = |codec, fps| Rung { codec, fps, ..Rung::of(RungHeight::Pixels(720), 22.0, None) };
        let half = Some(FrameRate::Named(FrameRateWord::Half));
        p.video.rungs = vec![rung(None, None), rung(Some(VideoCodec::Av1), None), rung(None, half), rung(None, None)];
        let picture = Picture { width: 1280, height: 720, sar: Rational::ONE };
        let ids: Vec<_> = resolve(&p.video, picture, Spending::default()).into_iter().map(|r| r.id).collect();
        assert_eq!(ids, ["720p", "720p-av1", "720p-2"]);
    }

    #[test]
    fn a_portrait_picture_is_measured_by_its_width() {
        assert_eq!(ladder(720, 1280)[0], ("720p".into(), 720, 1280));
        assert_eq!(ladder(720, 1280)[2], ("360p".into(), 360, 640));
    }

    #[test]
    fn levels_are_pinned_by_size_and_rate() {
        assert_eq!(h264_level(1280, 720, 30.0, Some(3000)), "3.1");
        assert_eq!(h264_level(1920, 1080, 60.0, None), "4.2");
        assert_eq!(h264_level(100_000, 100_000, 60.0, None), "");
    }

    proptest! {
        #[test]
        fn sizes_are_even_never_above_the_source_and_keep_the_display_aspect(w in 2u32..8000, h in 2u32..8000) {
            let p = Profile::built_in("universal").unwrap();
            let pic = Picture { width: w, height: h, sar: Rational::ONE };
            let l = resolve(&p.video, pic, Spending::default());
            prop_assert!(!l.is_empty());
            for r in &l {
                prop_assert!(r.width % 2 == 0 && r.height % 2 == 0);
                prop_assert!(r.width <= w + 1 && r.height <= h + 1);
                let dar = f64::from(r.width) / f64::from(r.height) * r.sar.to_f64();
                let want = f64::from(w) / f64::from(h);
                if r.sar != Rational::ONE { prop_assert!((dar / want - 1.0).abs() < 1e-9, "{r:?}"); }
            }
        }
    }
}
