//! Options before `-i`: the same for probing and for encoding, so that both see the same streams and frames.

use crate::detect::Version;
use splitreel_core::{MediaTime, Rational};

/// Pictures with more pixels are refused by the decoder (16384 × 8704: 16K).
const MAX_PIXELS: u64 = 16_384 * 8_704;

/// How an option is spelled, by the release that ffmpeg behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelling {
    /// `-enc_time_base demux` is known (7.0); `-1` before.
    pub has_named_time_base: bool,
    /// `-apply_cropping codec` is known (8.0). Such releases also crop by the container (`clap`), which older ones and
    /// browsers do not.
    pub crops_by_container: bool,
}

impl Spelling {
    /// The spelling of a release.
    pub fn of(version: Version) -> Self {
        Spelling {
            has_named_time_base: version >= Version { major: 7, minor: 0 },
            crops_by_container: version >= Version { major: 8, minor: 0 },
        }
    }

    /// The picture as every release decodes it.
    pub(crate) fn cropping(self) -> &'static [&'static str] {
        if self.crops_by_container { &["-apply_cropping:v", "codec"] } else { &[] }
    }

    /// Frames pass with the demuxer's own timestamps, none dropped, none repeated.
    pub(crate) fn passthrough(self) -> [&'static str; 4] {
        let time_base = if self.has_named_time_base { "demux" } else { "-1" };
        ["-fps_mode", "passthrough", "-enc_time_base", time_base]
    }

    /// The same for frames on a clock of their own.
    pub(crate) fn passthrough_on(timebase: Rational) -> [String; 4] {
        let time_base = format!("{}/{}", timebase.num(), timebase.den());
        ["-fps_mode".into(), "passthrough".into(), "-enc_time_base".into(), time_base]
    }
}

/// Options for opening the source with its one demuxer: local files only, nothing nested.
pub(crate) fn input_options(demuxer: &str) -> Vec<String> {
    let mut args = words(&["-protocol_whitelist", "file", "-format_whitelist", demuxer, "-f", demuxer]);
    // A transport stream may announce or start a track late; the index of a stream depends on how far ffmpeg looked.
    let (probe, analyze) = match demuxer {
        "mpegts" | "mpeg" => ("50M", "30M"),
        _ => ("20M", "10M"),
    };
    args.extend(words(&["-probesize", probe, "-analyzeduration", analyze]));
    args
}

/// Options that guard the decoder.
pub(crate) fn decoder_options() -> Vec<String> {
    vec!["-max_pixels:v".into(), MAX_PIXELS.to_string()]
}

/// How a demuxer is sent to a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seeking {
    /// The index finds the last keyframe not after the given time: aim just after it.
    JustAfter,
    /// The same, but ffmpeg may aim up to [`PULLED_BACK_US`] before the given time when frames are reordered.
    SomewhatAfter,
    /// A seek lands anywhere near: aim well before it.
    WellBefore,
    /// Not known to be exact: decode from the start.
    Never,
}

impl Seeking {
    pub(crate) fn of(demuxer: &str) -> Self {
        match demuxer {
            "mov" => Seeking::JustAfter,
            "matroska" => Seeking::SomewhatAfter,
            "mpegts" | "avi" => Seeking::WellBefore,
            _ => Seeking::Never,
        }
    }

    /// Microseconds to seek to for a keyframe; `None` starts at the beginning. `next` is the keyframe behind it.
    pub(crate) fn target(self, keyframe: MediaTime, next: Option<MediaTime>, first: MediaTime) -> Option<i64> {
        const AFTER_US: i64 = 1_000;
        let at = keyframe.micros_floor();
        let target = match self {
            Seeking::JustAfter => at.saturating_add(AFTER_US),
            Seeking::SomewhatAfter if has_seek_room(keyframe, next) => {
                at.saturating_add(AFTER_US).saturating_add(PULLED_BACK_US)
            }
            Seeking::SomewhatAfter => at.saturating_add(AFTER_US),
            Seeking::WellBefore => at.saturating_sub(WELL_BEFORE_US),
            Seeking::Never => return None,
        };
        (keyframe > first && target > first.micros_floor()).then_some(target)
    }
}

/// How far before a keyframe a seek aims where it lands anywhere near, in microseconds.
pub(crate) const WELL_BEFORE_US: i64 = 500_000;
/// ffmpeg takes 3/23 s off a seek's time where a demuxer seeks by decode time and pictures are reordered.
pub(crate) const PULLED_BACK_US: i64 = 131_000;

/// Whether a seek may aim far enough behind `keyframe` to find it in any case, without reaching the `next` one.
pub(crate) fn has_seek_room(keyframe: MediaTime, next: Option<MediaTime>) -> bool {
    const ROOM_US: i64 = PULLED_BACK_US + 10_000;
    next.is_none_or(|next| next.micros_floor().saturating_sub(keyframe.micros_floor()) > ROOM_US)
}

/// Microseconds as decimal seconds, exactly.
pub(crate) fn seconds(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Nearest microsecond of a time, as decimal seconds.
pub(crate) fn nearest_seconds(time: MediaTime) -> String {
    match Rational::new(1, 1_000_000) {
        Some(micro) => seconds(time.rescale(micro).ticks),
        None => seconds(0),
    }
}

pub(crate) fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_seconds_are_exact() {
        assert_eq!(seconds(1_500_000), "1.500000");
        assert_eq!(seconds(-1), "-0.000001");
        assert_eq!(seconds(i64::MIN), "-9223372036854.775808");
    }

    #[test]
    fn seeks_by_demuxer() {
        let ms = Rational::new(1, 1000).unwrap();
        let at = |ticks| MediaTime::new(ticks, ms);
        let target = |demuxer, key, first| Seeking::of(demuxer).target(at(key), Some(at(key + 40)), at(first));
        assert_eq!(target("mov", 2000, 0), Some(2_001_000));
        assert_eq!(target("mpegts", 2000, 0), Some(1_500_000));
        assert_eq!(target("mpegts", 1400, 1000), None);
        assert_eq!(target("mov", 0, 0), None);
        assert_eq!(target("flv", 2000, 0), None);
        assert_eq!(target("matroska", 2000, 0), Some(2_001_000));
        let matroska = |next: Option<i64>| Seeking::of("matroska").target(at(2000), next.map(at), at(0));
        assert_eq!([matroska(Some(2200)), matroska(None)], [Some(2_132_000); 2]);
    }
}
