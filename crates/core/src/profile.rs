//! Profiles: named settings, the three built-in ones, and validation that reports every mistake at once.

use serde::{Deserialize, Serialize};

/// Named settings: source in, presentation out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name: letters, digits, `-`, `_`.
    pub name: String,
    /// One plain sentence for people.
    #[serde(default)]
    pub description: String,
    /// Video settings.
    #[serde(default)]
    pub video: VideoProfile,
    /// Audio settings.
    #[serde(default)]
    pub audio: AudioProfile,
    /// Packaging settings.
    #[serde(default)]
    pub packaging: PackagingProfile,
    /// How the source is split.
    #[serde(default)]
    pub split: SplitProfile,
}

/// Output video codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoCodec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    Hevc,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
    /// The source's packets, not re-encoded.
    Copy,
}

impl VideoCodec {
    /// The word used in profile files.
    pub const fn as_str(self) -> &'static str {
        match self {
            VideoCodec::H264 => "h264",
            VideoCodec::Hevc => "hevc",
            VideoCodec::Vp9 => "vp9",
            VideoCodec::Av1 => "av1",
            VideoCodec::Copy => "copy",
        }
    }

    /// ffmpeg encoders that make it, best first.
    pub const fn encoders(self) -> &'static [&'static str] {
        match self {
            VideoCodec::H264 => &["libx264"],
            VideoCodec::Hevc => &["libx265"],
            VideoCodec::Vp9 => &["libvpx-vp9"],
            VideoCodec::Av1 => &["libsvtav1", "libaom-av1"],
            VideoCodec::Copy => &[],
        }
    }
}

/// Output audio codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioCodec {
    /// AAC-LC.
    Aac,
    /// Opus.
    Opus,
    /// The source's packets, not re-encoded.
    Copy,
}

impl AudioCodec {
    /// The word used in profile files.
    pub const fn as_str(self) -> &'static str {
        match self {
            AudioCodec::Aac => "aac",
            AudioCodec::Opus => "opus",
            AudioCodec::Copy => "copy",
        }
    }
}

/// Video settings of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VideoProfile {
    /// Codec.
    pub codec: VideoCodec,
    /// Encoder by ffmpeg's name; empty picks one for the codec.
    pub encoder: String,
    /// Encoder preset, by the encoder's own names.
    pub preset: String,
    /// Seconds between keyframes.
    pub gop_seconds: f64,
    /// Pixel format.
    pub pixel_format: PixelFormat,
    /// The ladder, best first. Rungs above the source are dropped, unless `upscale`.
    pub rungs: Vec<Rung>,
    /// Allow rungs larger than the source.
    pub upscale: bool,
}

/// Pixel format policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PixelFormat {
    /// 8-bit 4:2:0: plays everywhere; HDR is tone-mapped.
    Yuv420p,
    /// 10-bit 4:2:0 for 10-bit sources, 8-bit 4:2:0 for the rest; HDR is kept.
    Auto420,
    /// As the source, where the encoder takes it.
    Source,
}

/// Height of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RungHeight {
    /// Height class in pixels (of a landscape picture; the short side for portrait ones).
    Pixels(u32),
    /// The source's own size.
    Named(SourceWord),
}

/// The word `"source"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceWord {
    /// The source's own size.
    Source,
}

/// One entry of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// Height class, or `"source"`.
    pub height: RungHeight,
    /// Constant rate factor (quality); exactly one of `crf` and `qp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crf: Option<f64>,
    /// Constant quantiser; 0 is lossless for H.264.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qp: Option<u32>,
    /// Cap in kbit/s; 0 follows the source's own rate; absent = uncapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_kbps: Option<u32>,
}

impl Default for VideoProfile {
    fn default() -> Self {
        VideoProfile {
            codec: VideoCodec::H264,
            encoder: String::new(),
            preset: String::new(),
            gop_seconds: 2.0,
            pixel_format: PixelFormat::Yuv420p,
            rungs: standard_rungs(22.0, [5_500, 3_000, 1_400, 800]),
            upscale: false,
        }
    }
}

fn standard_rungs(crf: f64, max_kbps: [u32; 4]) -> Vec<Rung> {
    [1080, 720, 480, 360]
        .into_iter()
        .zip(max_kbps)
        .map(|(h, kbps)| Rung { height: RungHeight::Pixels(h), crf: Some(crf), qp: None, max_kbps: Some(kbps) })
        .collect()
}

/// Audio settings of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioProfile {
    /// Codec.
    pub codec: AudioCodec,
    /// kbit/s for mono and stereo; more channels get 64 each. 0 = 128 for stereo, 80 for mono.
    pub kbps: u32,
    /// Channels kept at most; more are mixed down to stereo.
    pub max_channels: u16,
}

impl Default for AudioProfile {
    fn default() -> Self {
        AudioProfile { codec: AudioCodec::Aac, kbps: 0, max_channels: 6 }
    }
}

/// Container of media segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerRule {
    /// fMP4 for everything modern.
    Auto,
    /// Fragmented MP4 (CMAF).
    Fmp4,
    /// MPEG-TS: copy, H.264 or HEVC with AAC only.
    Mpegts,
}

/// Packaging settings of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PackagingProfile {
    /// Container of media segments.
    pub container: ContainerRule,
    /// Target seconds of a media segment.
    pub media_segment_seconds: f64,
    /// Make the progressive MP4.
    pub progressive: bool,
    /// Size of chunk-set entries in MiB, 16 to 128; 0 = no chunk set.
    pub chunk_mb: u32,
    /// Keep the single MP4 beside the chunk set.
    pub keep_full: bool,
}

impl Default for PackagingProfile {
    fn default() -> Self {
        PackagingProfile {
            container: ContainerRule::Auto,
            media_segment_seconds: 4.0,
            progressive: true,
            chunk_mb: 0,
            keep_full: false,
        }
    }
}

/// How the source is split into segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitProfile {
    /// Seconds per segment; 0 = auto.
    pub segment_seconds: f64,
    /// In auto mode, sources shorter than this many seconds run whole.
    pub whole_below_seconds: f64,
}

impl Default for SplitProfile {
    fn default() -> Self {
        SplitProfile { segment_seconds: 0.0, whole_below_seconds: 30.0 }
    }
}

/// One mistake in a profile: where, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field}: {message} ({hint})")]
pub struct ProfileError {
    /// Dotted path of the field, for example `video.rungs[1].crf`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Profile {
    /// The names of the built-in profiles.
    pub const BUILT_IN: [&'static str; 3] = ["universal", "efficiency", "passthrough"];

    /// A built-in profile by name.
    pub fn built_in(name: &str) -> Option<Profile> {
        let base = |description: &str| Profile {
            name: name.to_owned(),
            description: description.to_owned(),
            video: VideoProfile::default(),
            audio: AudioProfile::default(),
            packaging: PackagingProfile::default(),
            split: SplitProfile::default(),
        };
        match name {
            "universal" => {
                let mut p = base("H.264 and AAC in a ladder not above the source: plays everywhere.");
                p.video.preset = "veryfast".into();
                Some(p)
            }
            "efficiency" => {
                let mut p =
                    base("HEVC and AAC: about half the bytes, for players that know HEVC; 10 bit and HDR are kept.");
                p.video.codec = VideoCodec::Hevc;
                p.video.preset = "fast".into();
                p.video.pixel_format = PixelFormat::Auto420;
                p.video.rungs = standard_rungs(25.0, [3_300, 1_800, 850, 500]);
                Some(p)
            }
            "passthrough" => {
                let mut p = base("The source's own video and audio, repackaged without re-encoding.");
                p.video.codec = VideoCodec::Copy;
                p.video.pixel_format = PixelFormat::Source;
                p.video.rungs = Vec::new();
                p.audio.codec = AudioCodec::Copy;
                Some(p)
            }
            _ => None,
        }
    }

    /// Every mistake, in the order of the fields. Empty: the profile is good.
    pub fn validate(&self) -> Vec<ProfileError> {
        let mut errors = Vec::new();
        let mut err = |field: &str, message: String, hint: &str| {
            errors.push(ProfileError { field: field.to_owned(), message, hint: hint.to_owned() });
        };
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            err("name", format!("{:?} is not a profile name", self.name), "use letters, digits, - and _");
        }
        let v = &self.video;
        if !(v.gop_seconds.is_finite() && (0.1..=20.0).contains(&v.gop_seconds)) {
            err("video.gop_seconds", format!("{} is out of range", v.gop_seconds), "use 0.1 to 20 seconds; 2 is usual");
        }
        if v.codec == VideoCodec::Copy {
            if !v.rungs.is_empty() {
                err(
                    "video.rungs",
                    "a copied video has no ladder".into(),
                    "remove the rungs, or choose a codec other than copy",
                );
            }
        } else if v.rungs.is_empty() {
            err("video.rungs", "the ladder is empty".into(), "add at least one [[video.rungs]] with height and crf");
        }
        if v.rungs.len() > 12 {
            err("video.rungs", format!("{} rungs", v.rungs.len()), "use at most 12");
        }
        let max_crf = if matches!(v.codec, VideoCodec::Vp9 | VideoCodec::Av1) { 63.0 } else { 51.0 };
        for (i, r) in v.rungs.iter().enumerate() {
            let at = |f: &str| format!("video.rungs[{i}].{f}");
            if let RungHeight::Pixels(h) = r.height
                && !(16..=8192).contains(&h)
            {
                err(&at("height"), format!("{h} is out of range"), "use 16 to 8192, or \"source\"");
            }
            match (r.crf, r.qp) {
                (Some(_), Some(_)) => err(&at("crf"), "crf and qp exclude each other".into(), "keep one of them"),
                (None, None) => {
                    err(&at("crf"), "no rate control".into(), "set crf = 22 (quality) or qp = 0 (lossless)")
                }
                (Some(c), None) if !(c.is_finite() && (0.0..=max_crf).contains(&c)) => {
                    err(
                        &at("crf"),
                        format!("{c} is out of range"),
                        "use 0 to 51 for h264 and hevc, 0 to 63 for vp9 and av1",
                    );
                }
                (None, Some(q)) if f64::from(q) > max_crf => err(
                    &at("qp"),
                    format!("{q} is out of range"),
                    "use 0 to 51 for h264 and hevc, 0 to 63 for vp9 and av1",
                ),
                (None, Some(_)) if r.max_kbps.is_some() => {
                    err(&at("max_kbps"), "a constant quantiser cannot be capped".into(), "remove max_kbps, or use crf");
                }
                _ => {}
            }
            if r.max_kbps.is_some_and(|k| k > 400_000) {
                err(&at("max_kbps"), "more than 400000 kbit/s".into(), "give kbit/s, not bit/s");
            }
        }
        let is_word = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !is_word(&v.encoder) {
            err("video.encoder", format!("{:?} is not an encoder name", v.encoder), "see ffmpeg -encoders");
        }
        if !is_word(&v.preset) {
            err("video.preset", format!("{:?} is not a preset name", v.preset), "for example veryfast, medium or 8");
        }
        let a = &self.audio;
        if a.kbps > 1_000 {
            err("audio.kbps", format!("{} is out of range", a.kbps), "use 0 (automatic) to 1000");
        }
        if !(1..=8).contains(&a.max_channels) {
            err("audio.max_channels", format!("{} is out of range", a.max_channels), "use 1 to 8");
        }
        let p = &self.packaging;
        if p.container == ContainerRule::Mpegts {
            if matches!(v.codec, VideoCodec::Vp9 | VideoCodec::Av1) {
                err(
                    "packaging.container",
                    format!("MPEG-TS cannot carry {}", v.codec.as_str()),
                    "VP9 and AV1 need fMP4: use container = \"fmp4\" or \"auto\", or codec = \"h264\"",
                );
            }
            if a.codec == AudioCodec::Opus {
                err(
                    "packaging.container",
                    "MPEG-TS cannot carry opus here".into(),
                    "Opus needs fMP4: use container = \"fmp4\" or \"auto\", or audio codec = \"aac\"",
                );
            }
        }
        if !(p.media_segment_seconds.is_finite() && (1.0..=20.0).contains(&p.media_segment_seconds)) {
            err(
                "packaging.media_segment_seconds",
                format!("{} is out of range", p.media_segment_seconds),
                "use 1 to 20; 4 to 6 is usual",
            );
        }
        if p.chunk_mb != 0 && !(16..=128).contains(&p.chunk_mb) {
            err(
                "packaging.chunk_mb",
                format!("{} is out of range", p.chunk_mb),
                "use 16 to 128 MiB (48 is usual), or 0 for no chunk set",
            );
        }
        let s = &self.split;
        if s.segment_seconds != 0.0 && !(s.segment_seconds.is_finite() && (0.5..=86_400.0).contains(&s.segment_seconds))
        {
            err(
                "split.segment_seconds",
                format!("{} is out of range", s.segment_seconds),
                "use 0.5 to 86400 seconds, or 0 for auto",
            );
        }
        if !(s.whole_below_seconds.is_finite() && s.whole_below_seconds >= 0.0) {
            err(
                "split.whole_below_seconds",
                format!("{} is out of range", s.whole_below_seconds),
                "use 0 or more seconds",
            );
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_are_valid() {
        for name in Profile::BUILT_IN {
            assert_eq!(Profile::built_in(name).unwrap().validate(), vec![], "{name}");
        }
        assert!(Profile::built_in("nope").is_none());
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mut p = Profile::built_in("universal").unwrap();
        p.name = "a b".into();
        p.video.rungs[0].qp = Some(0);
        p.video.gop_seconds = f64::NAN;
        p.packaging.chunk_mb = 8;
        p.packaging.container = ContainerRule::Mpegts;
        p.video.codec = VideoCodec::Av1;
        p.audio.codec = AudioCodec::Opus;
        let fields: Vec<_> = p.validate().into_iter().map(|e| e.field).collect();
        assert_eq!(
            fields,
            [
                "name",
                "video.gop_seconds",
                "video.rungs[0].crf",
                "packaging.container",
                "packaging.container",
                "packaging.chunk_mb"
            ]
        );
    }

    #[test]
    fn transport_stream_with_vp9_says_that_it_needs_fmp4() {
        let mut p = Profile::built_in("universal").unwrap();
        p.video.codec = VideoCodec::Vp9;
        p.packaging.container = ContainerRule::Mpegts;
        let e = p.validate();
        assert!(e[0].to_string().contains("need fMP4"), "{}", e[0]);
    }
}
