//! From the profile's ladder to the renditions of one source: sizes, sample aspect ratios, levels.

use crate::plan::VideoRate;
use crate::profile::{Rung, RungHeight, VideoProfile};
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

    /// The side that rungs are measured by: height of landscape pictures, width of portrait ones.
    fn class(&self) -> u32 {
        self.width.min(self.height)
    }
}

/// Resolves the ladder: rungs above the source fall away (unless `upscale`); a source between two rungs gets
/// one at its own size with the settings of the rung above; there is always at least one. Best first.
pub fn resolve(profile: &VideoProfile, picture: Picture, source_kbps: u64) -> Vec<ResolvedRung<'_>> {
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
    // A rung within a tenth of the source is the source's own rung.
    let has_top = kept.first().is_some_and(|(p, ..)| u64::from(*p) * 10 >= u64::from(class) * 9);
    if !has_top && let Some((.., rung)) = above.last() {
        kept.insert(0, (class, true, *rung));
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
            rate: rate_control(rung, source_kbps, picture, width, height),
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
fn rate_control(rung: &Rung, source_kbps: u64, picture: Picture, width: u32, height: u32) -> VideoRate {
    match (rung.crf, rung.qp) {
        (None, Some(qp)) => VideoRate::Quantiser { qp },
        (crf, _) => VideoRate::Quality {
            crf: crf.unwrap_or(23.0),
            max_kbps: rung.max_kbps.map(|k| cap_kbps(k, source_kbps, picture, width, height)),
        },
    }
}

/// A cap of 0 follows the source: its own rate, scaled by area, and a fifth more.
fn cap_kbps(cap: u32, source_kbps: u64, picture: Picture, width: u32, height: u32) -> u32 {
    let area = u64::from(width) * u64::from(height);
    let source_area = (u64::from(picture.width) * u64::from(picture.height)).max(1);
    let follow = source_kbps.saturating_mul(area) / source_area * 6 / 5;
    let follow = u32::try_from(follow).unwrap_or(u32::MAX);
    match (cap, follow) {
        (0, 0) => 8_000,
        (0, f) => f.max(200),
        (c, _) => c,
    }
}

/// Even storage size of a class: the exact aspect where the aspect's unit is small enough, else the nearest
/// even sizes (the sample aspect ratio then takes up the difference).
fn size(picture: Picture, class: u32) -> (u32, u32) {
    let (w, h) = (picture.width.max(1), picture.height.max(1));
    let short = w.min(h);
    if class == short {
        return (even(w), even(h));
    }
    let g = gcd(w, h);
    let (a, b) = (2 * (w / g), 2 * (h / g));
    let unit = a.min(b);
    if unit <= class / 8 {
        let k = class / unit;
        return (a * k, b * k);
    }
    let scale = |side: u32| {
        let v = (u64::from(side) * u64::from(class) + u64::from(short) / 2) / u64::from(short);
        even(u32::try_from(v).unwrap_or(u32::MAX))
    };
    (scale(w), scale(h))
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
    use crate::profile::{FrameRate, FrameRateWord, Profile, VideoCodec};
    use proptest::prelude::*;

    fn ladder(w: u32, h: u32) -> Vec<(String, u32, u32)> {
        let p = Profile::built_in("universal").unwrap();
        let pic = Picture { width: w, height: h, sar: Rational::ONE };
        resolve(&p.video, pic, 0).into_iter().map(|r| (r.id, r.width, r.height)).collect()
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
    fn rungs_of_one_height_differ_by_their_settings() {
        let mut p = Profile::built_in("universal").unwrap();
        let rung = |codec, fps| Rung { codec, fps, ..Rung::of(RungHeight::Pixels(720), 22.0, None) };
        let half = Some(FrameRate::Named(FrameRateWord::Half));
        p.video.rungs = vec![rung(None, None), rung(Some(VideoCodec::Av1), None), rung(None, half), rung(None, None)];
        let picture = Picture { width: 1280, height: 720, sar: Rational::ONE };
        let ids: Vec<_> = resolve(&p.video, picture, 0).into_iter().map(|r| r.id).collect();
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
            let l = resolve(&p.video, pic, 0);
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
