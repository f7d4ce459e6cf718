//! Colour of a source as planning takes it: tags that the source leaves out are filled in with what players assume, so
//! that every rendition states the same colour. Pure.

use crate::plan::Levels;
use crate::source::{Color, VideoTrack};

/// Lines from which players take an untagged picture for BT.709; below, for BT.601.
const HD_LINES: u32 = 720;

/// A source's colour, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assumed {
    /// Every field is set.
    pub(super) color: Color,
    /// Red, green and blue, not luma and chroma.
    pub(super) is_rgb: bool,
    /// Names of the fields that the source does not state.
    pub(super) filled: Vec<&'static str>,
}

impl Assumed {
    /// The colour of a track.
    pub(super) fn of(track: &VideoTrack) -> Self {
        let is_rgb = is_rgb(&track.pix_fmt);
        let is_full = is_rgb || track.pix_fmt.starts_with("yuvj");
        let mut color = track.color.clone();
        let mut filled = Vec::new();
        let mut fill = |field: &mut String, name: &'static str, value: &str| {
            if field.is_empty() {
                *field = value.to_owned();
                filled.push(name);
            }
        };
        // Matrix 0 means red, green and blue (ITU-T H.273, table 4): wrong in any other picture.
        if is_rgb {
            color.space = "gbr".into();
        } else if color.space == "gbr" {
            color.space.clear();
        }
        if is_full {
            color.range = "pc".into();
        }
        let guess = guess(&color, is_rgb || track.height >= HD_LINES);
        fill(&mut color.range, "range", "tv");
        fill(&mut color.space, "matrix", guess.space);
        fill(&mut color.transfer, "transfer", guess.transfer);
        fill(&mut color.primaries, "primaries", guess.primaries);
        Assumed { color, is_rgb, filled }
    }

    /// The matrix, where frames do not state it.
    pub(super) fn missing_matrix(&self) -> String {
        if self.filled.contains(&"matrix") { self.color.space.clone() } else { String::new() }
    }

    /// The samples as the decoder delivers them.
    pub(super) fn levels(&self) -> Levels {
        Levels { is_full: self.color.range == "pc", matrix: self.color.space.clone() }
    }

    /// The colour of an output with luma and chroma in the given range.
    pub(super) fn in_yuv(&self, range: &str) -> Color {
        let space = if self.is_rgb { "bt709" } else { &self.color.space };
        Color { range: range.into(), space: space.into(), ..self.color.clone() }
    }
}

/// Missing tags, from the stated ones, else from the picture's size.
struct Guess {
    space: &'static str,
    transfer: &'static str,
    primaries: &'static str,
}

const BT709: Guess = Guess { space: "bt709", transfer: "bt709", primaries: "bt709" };
const BT2020: Guess = Guess { space: "bt2020nc", transfer: "bt2020-10", primaries: "bt2020" };
const BT601_525: Guess = Guess { space: "smpte170m", transfer: "smpte170m", primaries: "smpte170m" };
const BT601_625: Guess = Guess { space: "bt470bg", transfer: "smpte170m", primaries: "bt470bg" };

fn guess(color: &Color, is_hd: bool) -> Guess {
    let states = |names: &[&str]| [&color.space, &color.primaries].iter().any(|tag| names.contains(&tag.as_str()));
    if color.is_hdr() || states(&["bt2020", "bt2020nc", "bt2020c"]) {
        BT2020
    } else if states(&["bt709"]) {
        BT709
    } else if states(&["bt470bg"]) {
        BT601_625
    } else if states(&["smpte170m"]) {
        BT601_525
    } else if is_hd {
        BT709
    } else {
        BT601_525
    }
}

/// Whether a pixel format holds red, green and blue, by ffmpeg's name.
fn is_rgb(pix_fmt: &str) -> bool {
    const STEMS: [&str; 11] = ["gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "pal8", "bayer", "x2rgb", "x2bgr"];
    STEMS.iter().any(|stem| pix_fmt.starts_with(stem))
}

/// Whether a pixel format holds transparency, by ffmpeg's name. Palettes may.
pub(super) fn has_alpha(pix_fmt: &str) -> bool {
    const STEMS: [&str; 11] = ["yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16", "pal8", "ayuv", "vuya"];
    STEMS.iter().any(|stem| pix_fmt.starts_with(stem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::time::Rational;

    fn assumed(pix_fmt: &str, height: u32, color: [&str; 4]) -> Assumed {
        let mut track = fixture::video_track(vec![0], Rational::ONE, 1);
        (track.pix_fmt, track.height) = (pix_fmt.into(), height);
        let [range, space, transfer, primaries] = color.map(str::to_owned);
        track.color = Color { range, space, transfer, primaries };
        Assumed::of(&track)
    }

    fn tags(color: &Color) -> [&str; 4] {
        [&color.range, &color.space, &color.transfer, &color.primaries].map(String::as_str)
    }

    #[test]
    fn untagged_pictures_get_the_tags_that_players_assume_for_their_size() {
        let hd = assumed("yuv420p", 720, [""; 4]);
        assert_eq!(tags(&hd.color), ["tv", "bt709", "bt709", "bt709"]);
        assert_eq!(hd.filled, ["range", "matrix", "transfer", "primaries"]);
        assert_eq!(tags(&assumed("yuv420p", 719, [""; 4]).color), ["tv", "smpte170m", "smpte170m", "smpte170m"]);
    }

    #[test]
    fn stated_tags_stay_and_decide_about_the_missing_ones() {
        let wide = assumed("yuv420p10le", 360, ["", "", "smpte2084", ""]);
        assert_eq!(tags(&wide.color), ["tv", "bt2020nc", "smpte2084", "bt2020"]);
        assert_eq!(tags(&assumed("yuv420p", 1080, ["tv", "bt470bg", "", ""]).color)[3], "bt470bg");
        assert_eq!(tags(&assumed("yuv420p", 360, ["pc", "", "", "bt709"]).color), ["pc", "bt709", "bt709", "bt709"]);
    }

    #[test]
    fn red_green_and_blue_become_bt709_and_never_matrix_0_in_luma_and_chroma() {
        let screen = assumed("gbrp", 360, ["pc", "gbr", "iec61966-2-1", "bt709"]);
        assert_eq!(screen.levels(), Levels { is_full: true, matrix: "gbr".into() });
        assert_eq!(tags(&screen.in_yuv("tv")), ["tv", "bt709", "iec61966-2-1", "bt709"]);
        assert_eq!(tags(&assumed("yuv420p", 1080, ["tv", "gbr", "", ""]).color)[1], "bt709");
        assert!(assumed("pal8", 100, [""; 4]).is_rgb && !assumed("gray", 100, [""; 4]).is_rgb);
    }

    #[test]
    fn jpeg_pictures_are_full_range_whatever_the_tag_says() {
        assert_eq!(tags(&assumed("yuvj422p", 480, ["tv", "bt470bg", "", ""]).color)[0], "pc");
    }
}
