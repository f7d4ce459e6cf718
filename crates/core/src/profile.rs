//! Profiles: named settings and the three built-in ones. `validation` reports every mistake at once, `fields` lists the
//! names of the fields.

mod fields;
mod validation;

use serde::{Deserialize, Serialize};

/// Named settings: source in, presentation out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name: letters, digits, `-`, `_`.
    pub name: String,
    /// One plain sentence for people.
    #[serde(default)]
    pub description: String,
    /// What is taken from the source.
    #[serde(default)]
    pub source: SourceProfile,
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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

/// What is taken from the source.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(default))]
#[serde(deny_unknown_fields, default)]
pub struct SourceProfile {
    /// Number of the programme (service) of a transport stream; 0 takes the one with the chosen picture.
    pub programme: u32,
    /// Seconds beyond which a step of a transport stream's clock is a jump that is closed. Steps backwards by more than a
    /// second always are.
    pub clock_jump_seconds: f64,
}

impl Default for SourceProfile {
    fn default() -> Self {
        SourceProfile { programme: 0, clock_jump_seconds: 10.0 }
    }
}

/// Video settings of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(default))]
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
    /// What becomes of interlaced sources.
    pub deinterlace: Deinterlace,
    /// The ladder, best first. Rungs above the source are dropped, unless `upscale`.
    pub rungs: Vec<Rung>,
    /// Allow rungs larger than the source.
    pub upscale: bool,
}

/// Pixel format policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PixelFormat {
    /// 8-bit 4:2:0: plays everywhere; HDR is tone-mapped.
    Yuv420p,
    /// 10-bit 4:2:0 for 10-bit sources, 8-bit 4:2:0 for the rest; HDR is kept.
    Auto420,
    /// As the source, where the encoder takes it.
    Source,
}

/// What becomes of interlaced sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Deinterlace {
    /// Sources that are found to be interlaced are deinterlaced: one frame from each frame.
    #[default]
    Auto,
    /// The same, with a frame from each field: twice the frame rate.
    Fields,
    /// Frames stay as they are.
    Off,
}

/// Height of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum RungHeight {
    /// Height class: lines of the 16:9 frame around a landscape picture, columns for portrait ones.
    Pixels(u32),
    /// The source's own size.
    Named(SourceWord),
}

/// The word `"source"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SourceWord {
    /// The source's own size.
    Source,
}

/// One entry of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    /// Cap in kbit/s; 0 follows size, frame rate and the source's own rate; absent = uncapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_kbps: Option<u32>,
    /// Codec of this rung; absent = the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<VideoCodec>,
    /// Encoder of this rung by ffmpeg's name; only with `codec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Preset of this rung; absent = the profile's where the codec is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Seconds between keyframes of this rung; absent = the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gop_seconds: Option<f64>,
    /// Pixel format of this rung; absent = the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_format: Option<PixelFormat>,
    /// Frame rate of this rung; absent = the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<FrameRate>,
}

/// Frame rate of a rung. Frames are chosen from the source's; none is invented or moved in time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum FrameRate {
    /// Frames per second: the first frame of each slot of that length.
    Number(f64),
    /// A rate that follows the source's.
    Named(FrameRateWord),
}

/// The words for a frame rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FrameRateWord {
    /// Every frame of the source.
    Source,
    /// Every second frame of the source.
    Half,
}

impl Rung {
    /// A rung of constant quality with the profile's settings.
    pub const fn of(height: RungHeight, crf: f64, max_kbps: Option<u32>) -> Self {
        Rung {
            height,
            crf: Some(crf),
            qp: None,
            max_kbps,
            codec: None,
            encoder: None,
            preset: None,
            gop_seconds: None,
            pixel_format: None,
            fps: None,
        }
    }
}

/// Settings of a rung with the profile's where the rung has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RungSettings<'a> {
    /// Codec.
    pub codec: VideoCodec,
    /// Encoder by ffmpeg's name; empty picks one for the codec.
    pub encoder: &'a str,
    /// Encoder preset, may be empty.
    pub preset: &'a str,
    /// Seconds between keyframes.
    pub gop_seconds: f64,
    /// Pixel format.
    pub pixel_format: PixelFormat,
    /// Frame rate.
    pub fps: FrameRate,
}

impl VideoProfile {
    /// The settings of a rung. Encoder and preset are words of a codec, so a rung with a codec of its own does not
    /// inherit them.
    pub fn settings<'a>(&'a self, rung: &'a Rung) -> RungSettings<'a> {
        let codec = rung.codec.unwrap_or(self.codec);
        let own = |value: &'a Option<String>, inherited: &'a str| match value {
            Some(value) => value.as_str(),
            None if codec == self.codec => inherited,
            None => "",
        };
        RungSettings {
            codec,
            encoder: own(&rung.encoder, &self.encoder),
            preset: own(&rung.preset, &self.preset),
            gop_seconds: rung.gop_seconds.unwrap_or(self.gop_seconds),
            pixel_format: rung.pixel_format.unwrap_or(self.pixel_format),
            fps: rung.fps.unwrap_or(FrameRate::Named(FrameRateWord::Source)),
        }
    }
}

impl VideoProfile {
    /// The rungs of the ladder; a copy has none.
    pub fn ladder(&self) -> &[Rung] {
        if self.codec == VideoCodec::Copy { &[] } else { &self.rungs }
    }

    /// Whether nobody has chosen the rungs.
    fn has_default_rungs(&self) -> bool {
        self.rungs == VideoProfile::default().rungs
    }
}

impl Default for VideoProfile {
    fn default() -> Self {
        VideoProfile {
            codec: VideoCodec::H264,
            encoder: String::new(),
            preset: String::new(),
            gop_seconds: 2.0,
            pixel_format: PixelFormat::Yuv420p,
            deinterlace: Deinterlace::Auto,
            rungs: standard_rungs(22.0, [0; 4]),
            upscale: false,
        }
    }
}

fn standard_rungs(crf: f64, max_kbps: [u32; 4]) -> Vec<Rung> {
    [1080, 720, 480, 360]
        .into_iter()
        .zip(max_kbps)
        .map(|(h, kbps)| Rung::of(RungHeight::Pixels(h), crf, Some(kbps)))
        .collect()
}

/// Audio settings of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(default))]
#[serde(deny_unknown_fields, default)]
pub struct AudioProfile {
    /// Codec.
    pub codec: AudioCodec,
    /// kbit/s for mono and stereo; more channels get 64 each. 0 = 128 for stereo, 80 for mono.
    pub kbps: u32,
    /// Channels kept at most; more are mixed down.
    pub max_channels: u16,
    /// Add a stereo mix beside each encoded track of more than two channels, and beside each that is copied because it
    /// fits. Without effect where the profile asks for `copy`.
    pub stereo: bool,
}

impl Default for AudioProfile {
    fn default() -> Self {
        AudioProfile { codec: AudioCodec::Aac, kbps: 0, max_channels: 6, stereo: true }
    }
}

/// Container of media segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(default))]
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(default))]
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
            source: SourceProfile::default(),
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

    #[test]
    fn settings_of_rungs_are_checked_by_their_codec() {
        let mut p = Profile::built_in("universal").unwrap();
        let rung = |codec, crf| Rung { codec, ..Rung::of(RungHeight::Pixels(720), crf, None) };
        p.video.rungs = vec![
            rung(Some(VideoCodec::Av1), 60.0),
            rung(Some(VideoCodec::Hevc), 60.0),
            rung(Some(VideoCodec::Copy), 20.0),
            Rung { encoder: Some("libx264".into()), preset: Some("a b".into()), ..rung(None, 20.0) },
            Rung { gop_seconds: Some(0.0), fps: Some(FrameRate::Number(0.5)), ..rung(None, 20.0) },
            Rung { fps: Some(FrameRate::Named(FrameRateWord::Half)), ..rung(None, 20.0) },
        ];
        let fields: Vec<_> = p.validate().into_iter().map(|e| e.field).collect();
        let wanted = [
            "video.rungs[1].crf",
            "video.rungs[2].codec",
            "video.rungs[3].encoder",
            "video.rungs[3].preset",
            "video.rungs[4].gop_seconds",
            "video.rungs[4].fps",
        ];
        assert_eq!(fields, wanted);
        p.packaging.container = ContainerRule::Mpegts;
        assert!(p.validate().iter().any(|e| e.message == "MPEG-TS cannot carry av1"));
    }

    #[test]
    fn a_rung_inherits_what_belongs_to_its_codec() {
        let mut video = Profile::built_in("universal").unwrap().video;
        video.encoder = "libx264".into();
        let own = Rung { codec: Some(VideoCodec::Av1), ..Rung::of(RungHeight::Pixels(720), 30.0, None) };
        let settings = video.settings(&own);
        assert_eq!((settings.encoder, settings.preset, settings.gop_seconds), ("", "", 2.0));
        let inherited = Rung::of(RungHeight::Pixels(720), 30.0, None);
        let settings = video.settings(&inherited);
        assert_eq!((settings.encoder, settings.preset), ("libx264", "veryfast"));
    }

    #[test]
    fn the_frame_rate_is_a_word_or_a_number() {
        let fps = |value: &str| {
            serde_json::from_str::<Rung>(&format!("{{\"height\":720,\"crf\":20,\"fps\":{value}}}")).map(|r| r.fps)
        };
        assert_eq!(fps("\"half\"").unwrap(), Some(FrameRate::Named(FrameRateWord::Half)));
        assert_eq!(fps("25").unwrap(), Some(FrameRate::Number(25.0)));
        assert!(fps("\"third\"").is_err());
    }
}
