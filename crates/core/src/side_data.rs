//! What a stream states of its pictures beside size and colour tags: how to turn them, the light of the display that
//! they were graded on, Dolby Vision.

use serde::{Deserialize, Serialize};

/// Side data of a video track.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideData {
    /// How to turn the stored pictures; `None`: they are shown as they are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<DisplayMatrix>,
    /// Colour volume of the mastering display.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mastering: Option<Mastering>,
    /// Light level of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub light: Option<ContentLight>,
    /// Dolby Vision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dolby_vision: Option<DolbyVision>,
    /// Whether the first pictures carry closed captions (CEA-608, CEA-708).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_captions: bool,
}

impl SideData {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == SideData::default()
    }

    /// The light metadata alone: what encoded HDR pictures keep.
    #[must_use]
    pub fn light_only(&self) -> SideData {
        SideData { mastering: self.mastering, light: self.light, ..SideData::default() }
    }
}

/// Display matrix {a b u, c d v, x y w} of a track header (ISO/IEC 14496-12 §8.3.2); u, v, w are 2.30 fixed point, the
/// others 16.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DisplayMatrix(pub [i32; 9]);

impl DisplayMatrix {
    const ONE: i32 = 1 << 16;

    /// Whether pictures are only moved, or left alone.
    pub fn is_upright(&self) -> bool {
        let [a, b, _, c, d, ..] = self.0;
        (a, b, c, d) == (Self::ONE, 0, 0, Self::ONE)
    }

    /// Whether width and height of the shown picture are those of the stored one the other way round.
    pub fn swaps_sides(&self) -> bool {
        let [a, b, _, c, d, ..] = self.0.map(i32::unsigned_abs);
        b.saturating_add(c) > a.saturating_add(d)
    }
}

/// Colour volume of the display that pictures were graded on (SMPTE ST 2086), in the units of the box `mdcv`
/// (ISO/IEC 14496-12 §12.1.6): chromaticities in 0.00002, luminances in 0.0001 cd/m².
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mastering {
    /// x and y of green, blue and red.
    pub primaries: [[u16; 2]; 3],
    /// x and y of white.
    pub white: [u16; 2],
    /// Brightest luminance.
    pub max_luminance: u32,
    /// Darkest luminance.
    pub min_luminance: u32,
}

/// Light level of the content (CTA-861.3), in cd/m² as in the box `clli` (ISO/IEC 14496-12 §12.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentLight {
    /// Of the brightest pixel, MaxCLL.
    pub max_content: u16,
    /// Of the picture that is brightest on average, MaxFALL.
    pub max_average: u16,
}

/// Dolby Vision configuration record (Dolby Vision Streams Within the ISO Base Media File Format, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DolbyVision {
    /// `dv_profile`.
    pub profile: u8,
    /// `dv_level`.
    pub level: u8,
    /// `dv_bl_signal_compatibility_id`: what the base layer is without the metadata. 0: nothing that players know.
    pub compatibility: u8,
}

impl DolbyVision {
    /// What the base layer is by itself; `None`: no other player shows it right.
    pub const fn base_layer(self) -> Option<&'static str> {
        match self.compatibility {
            0 => None,
            1 | 6 => Some("HDR10"),
            2 => Some("SDR"),
            4 => Some("HLG"),
            _ => Some("a base layer"),
        }
    }

    /// Codec string and brand that name the Dolby Vision of a track whose CODECS names the base layer alone (HLS
    /// SUPPLEMENTAL-CODECS). `None` where no brand exists: then only the base layer is announced.
    pub fn supplemental_codec(self, codec: &str) -> Option<String> {
        let entry = match (codec, self.profile) {
            ("hevc", 8) => "dvh1",
            ("av1", 10) => "dav1",
            _ => return None,
        };
        let brand = match self.compatibility {
            1 => "db1p",
            2 => "db2g",
            4 => "db4h",
            _ => return None,
        };
        Some(format!("{entry}.{:02}.{:02}/{brand}", self.profile, self.level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i32 = 1 << 16;

    fn matrix(a: i32, b: i32, c: i32, d: i32) -> DisplayMatrix {
        DisplayMatrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
    }

    #[test]
    fn a_quarter_turn_swaps_sides_and_a_mirror_does_not() {
        assert!(matrix(0, ONE, -ONE, 0).swaps_sides());
        assert!(matrix(0, ONE, ONE, 0).swaps_sides());
        assert!(!matrix(-ONE, 0, 0, ONE).swaps_sides() && !matrix(-ONE, 0, 0, ONE).is_upright());
        assert!(matrix(ONE, 0, 0, ONE).is_upright());
        assert!(!matrix(i32::MIN, i32::MIN, i32::MIN, i32::MIN).is_upright());
    }

    #[test]
    fn dolby_vision_is_announced_beside_a_base_layer_that_players_know() {
        let phone = DolbyVision { profile: 8, level: 4, compatibility: 4 };
        assert_eq!(phone.supplemental_codec("hevc").as_deref(), Some("dvh1.08.04/db4h"));
        assert_eq!(phone.base_layer(), Some("HLG"));
        let film = DolbyVision { profile: 5, level: 6, compatibility: 0 };
        assert_eq!((film.supplemental_codec("hevc"), film.base_layer()), (None, None));
        let av1 = DolbyVision { profile: 10, level: 9, compatibility: 1 };
        assert_eq!(av1.supplemental_codec("av1").as_deref(), Some("dav1.10.09/db1p"));
    }
}
