//! Code points of colour (ISO/IEC 23091-2, "CICP"), which manifests state, from the names that ffmpeg uses.

use crate::source::Color;
use serde::{Deserialize, Serialize};

/// Colour of a video track as code points. `None`: unspecified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColorCodes {
    /// ColourPrimaries.
    pub primaries: Option<u8>,
    /// TransferCharacteristics.
    pub transfer: Option<u8>,
    /// MatrixCoefficients.
    pub matrix: Option<u8>,
}

/// Dynamic range of a video track, in the terms of HLS (RFC 8216bis, 4.4.6.2, VIDEO-RANGE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VideoRange {
    /// Standard dynamic range; also every track that does not state another one.
    #[default]
    Sdr,
    /// Hybrid log-gamma (ARIB STD-B67).
    Hlg,
    /// Perceptual quantiser (SMPTE ST 2084).
    Pq,
}

impl VideoRange {
    /// The value of VIDEO-RANGE.
    pub const fn as_str(self) -> &'static str {
        match self {
            VideoRange::Sdr => "SDR",
            VideoRange::Hlg => "HLG",
            VideoRange::Pq => "PQ",
        }
    }
}

impl ColorCodes {
    /// Dynamic range, by the transfer characteristics alone.
    pub const fn range(self) -> VideoRange {
        match self.transfer {
            Some(16) => VideoRange::Pq,
            Some(18) => VideoRange::Hlg,
            _ => VideoRange::Sdr,
        }
    }
}

impl Color {
    /// The code points of these names; a name without a code point counts as unspecified.
    pub fn codes(&self) -> ColorCodes {
        ColorCodes {
            primaries: primaries(&self.primaries),
            transfer: transfer(&self.transfer),
            matrix: matrix(&self.space),
        }
    }

    /// PQ or HLG: needs tone mapping for 8-bit SDR output.
    pub fn is_hdr(&self) -> bool {
        self.codes().range() != VideoRange::Sdr
    }
}

/// ISO/IEC 23091-2, 8.1.
fn primaries(name: &str) -> Option<u8> {
    Some(match name {
        "bt709" => 1,
        "bt470m" => 4,
        "bt470bg" => 5,
        "smpte170m" => 6,
        "smpte240m" => 7,
        "film" => 8,
        "bt2020" => 9,
        "smpte428" => 10,
        "smpte431" => 11,
        "smpte432" => 12,
        "ebu3213" | "jedec-p22" => 22,
        _ => return None,
    })
}

/// ISO/IEC 23091-2, 8.2.
fn transfer(name: &str) -> Option<u8> {
    Some(match name {
        "bt709" => 1,
        "bt470m" => 4,
        "bt470bg" => 5,
        "smpte170m" => 6,
        "smpte240m" => 7,
        "linear" => 8,
        "log100" => 9,
        "log316" => 10,
        "iec61966-2-4" => 11,
        "bt1361e" => 12,
        "iec61966-2-1" => 13,
        "bt2020-10" => 14,
        "bt2020-12" => 15,
        "smpte2084" => 16,
        "smpte428" => 17,
        "arib-std-b67" => 18,
        _ => return None,
    })
}

/// ISO/IEC 23091-2, 8.3.
fn matrix(name: &str) -> Option<u8> {
    Some(match name {
        "gbr" => 0,
        "bt709" => 1,
        "fcc" => 4,
        "bt470bg" => 5,
        "smpte170m" => 6,
        "smpte240m" => 7,
        "ycgco" => 8,
        "bt2020nc" => 9,
        "bt2020c" => 10,
        "smpte2085" => 11,
        "chroma-derived-nc" => 12,
        "chroma-derived-c" => 13,
        "ictcp" => 14,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn color(primaries: &str, transfer: &str, space: &str) -> Color {
        Color { range: "tv".into(), space: space.into(), transfer: transfer.into(), primaries: primaries.into() }
    }

    #[test]
    fn names_of_ffmpeg_have_their_code_points() {
        let codes = |p, t, m| ColorCodes { primaries: Some(p), transfer: Some(t), matrix: Some(m) };
        assert_eq!(color("bt709", "bt709", "bt709").codes(), codes(1, 1, 1));
        assert_eq!(color("bt2020", "smpte2084", "bt2020nc").codes(), codes(9, 16, 9));
        assert_eq!(color("bt2020", "arib-std-b67", "bt2020nc").codes(), codes(9, 18, 9));
        assert_eq!(color("", "unknown", "").codes(), ColorCodes::default());
    }

    #[test]
    fn only_pq_and_hlg_are_not_sdr() {
        let range = |transfer| color("bt2020", transfer, "bt2020nc").codes().range();
        assert_eq!(range("smpte2084"), VideoRange::Pq);
        assert_eq!(range("arib-std-b67"), VideoRange::Hlg);
        for sdr in ["bt709", "smpte170m", "iec61966-2-1", "bt2020-10", "bt2020-12", ""] {
            assert_eq!(range(sdr), VideoRange::Sdr, "{sdr}");
        }
    }
}
