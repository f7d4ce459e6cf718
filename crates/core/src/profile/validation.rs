//! Validation of profiles: every mistake with its field, one method for each section.

use super::{
    AudioCodec, AudioProfile, ContainerRule, FrameRate, PackagingProfile, Profile, ProfileError, Rung, RungHeight,
    SplitProfile, VideoCodec, VideoProfile,
};
use std::ops::RangeInclusive;

/// Rungs of a ladder.
const MAX_RUNGS: usize = 12;
const CRF_HINT: &str = "use 0 to 51 for h264 and hevc, 0 to 63 for vp9 and av1";

/// Mistakes in the order of the fields.
#[derive(Default)]
struct Mistakes(Vec<ProfileError>);

impl Mistakes {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>, hint: &str) {
        self.0.push(ProfileError { field: field.into(), message: message.into(), hint: hint.to_owned() });
    }

    fn range(&mut self, field: impl Into<String>, value: f64, allowed: RangeInclusive<f64>, hint: &str) {
        if !(value.is_finite() && allowed.contains(&value)) {
            self.add(field, format!("{value} is out of range"), hint);
        }
    }

    fn word(&mut self, field: impl Into<String>, value: &str, what: &str, hint: &str) {
        if !is_word(value) {
            self.add(field, format!("{value:?} is not {what}"), hint);
        }
    }
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl Profile {
    /// Every mistake, in the order of the fields. Empty: the profile is good.
    pub fn validate(&self) -> Vec<ProfileError> {
        let mut mistakes = Mistakes::default();
        if self.name.is_empty() || !is_word(&self.name) {
            let message = format!("{:?} is not a profile name", self.name);
            mistakes.add("name", message, "use letters, digits, - and _");
        }
        let jump = self.source.clock_jump_seconds;
        mistakes.range("source.clock_jump_seconds", jump, 0.5..=86_400.0, "use 0.5 to 86400 (10 is usual)");
        self.video.check(&mut mistakes);
        self.audio.check(&mut mistakes);
        self.packaging.check(&self.video, &self.audio, &mut mistakes);
        self.split.check(&mut mistakes);
        mistakes.0
    }
}

impl VideoProfile {
    fn check(&self, mistakes: &mut Mistakes) {
        check_gop("video.gop_seconds", self.gop_seconds, mistakes);
        if self.codec == VideoCodec::Copy && !self.rungs.is_empty() && !self.has_default_rungs() {
            let hint = "remove the rungs, or choose a codec other than copy";
            mistakes.add("video.rungs", "a copied video has no ladder", hint);
        }
        if self.codec != VideoCodec::Copy && self.rungs.is_empty() {
            let hint = "add at least one [[video.rungs]] with height and crf";
            mistakes.add("video.rungs", "the ladder is empty", hint);
        }
        if self.rungs.len() > MAX_RUNGS {
            mistakes.add("video.rungs", format!("{} rungs", self.rungs.len()), "use at most 12");
        }
        for (number, rung) in self.rungs.iter().enumerate() {
            let codec = self.settings(rung).codec;
            rung.check(&|field| format!("video.rungs[{number}].{field}"), codec, mistakes);
        }
        check_encoder("video.encoder", &self.encoder, mistakes);
        check_preset("video.preset", &self.preset, mistakes);
    }

    /// Codecs of the output, each once.
    fn codecs(&self) -> Vec<VideoCodec> {
        let mut codecs: Vec<VideoCodec> = Vec::new();
        let own = self.rungs.iter().map(|rung| self.settings(rung).codec);
        for codec in own.chain(self.rungs.is_empty().then_some(self.codec)) {
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        codecs
    }
}

fn check_gop(field: impl Into<String>, seconds: f64, mistakes: &mut Mistakes) {
    mistakes.range(field, seconds, 0.1..=20.0, "use 0.1 to 20 seconds; 2 is usual");
}

fn check_encoder(field: impl Into<String>, encoder: &str, mistakes: &mut Mistakes) {
    mistakes.word(field, encoder, "an encoder name", "see ffmpeg -encoders");
}

fn check_preset(field: impl Into<String>, preset: &str, mistakes: &mut Mistakes) {
    mistakes.word(field, preset, "a preset name", "for example veryfast, medium or 8");
}

impl Rung {
    fn check(&self, at: &dyn Fn(&str) -> String, codec: VideoCodec, mistakes: &mut Mistakes) {
        if let RungHeight::Pixels(height) = self.height
            && !(16..=8192).contains(&height)
        {
            mistakes.add(at("height"), format!("{height} is out of range"), "use 16 to 8192, or \"source\"");
        }
        self.check_rate(at, codec, mistakes);
        if self.codec == Some(VideoCodec::Copy) {
            let hint = "remove it, or set video.codec = \"copy\" and no rungs";
            mistakes.add(at("codec"), "a rung cannot be a copy", hint);
        }
        if let Some(encoder) = &self.encoder {
            check_encoder(at("encoder"), encoder, mistakes);
            if self.codec.is_none() {
                mistakes.add(at("encoder"), "an encoder without its codec", "set the rung's codec, too");
            }
        }
        if let Some(preset) = &self.preset {
            check_preset(at("preset"), preset, mistakes);
        }
        if let Some(seconds) = self.gop_seconds {
            check_gop(at("gop_seconds"), seconds, mistakes);
        }
        if let Some(FrameRate::Number(rate)) = self.fps {
            mistakes.range(at("fps"), rate, 1.0..=240.0, "use 1 to 240, \"half\" or \"source\"");
        }
    }

    fn check_rate(&self, at: &dyn Fn(&str) -> String, codec: VideoCodec, mistakes: &mut Mistakes) {
        let max_crf = if matches!(codec, VideoCodec::Vp9 | VideoCodec::Av1) { 63.0 } else { 51.0 };
        match (self.crf, self.qp) {
            (Some(_), Some(_)) => mistakes.add(at("crf"), "crf and qp exclude each other", "keep one of them"),
            (None, None) => {
                mistakes.add(at("crf"), "no rate control", "set crf = 22 (quality) or qp = 0 (lossless)");
            }
            (Some(crf), None) => mistakes.range(at("crf"), crf, 0.0..=max_crf, CRF_HINT),
            (None, Some(qp)) if f64::from(qp) > max_crf => {
                mistakes.add(at("qp"), format!("{qp} is out of range"), CRF_HINT);
            }
            (None, Some(_)) if self.max_kbps.is_some() => {
                let hint = "remove max_kbps, or use crf";
                mistakes.add(at("max_kbps"), "a constant quantiser cannot be capped", hint);
            }
            (None, Some(_)) => {}
        }
        if self.max_kbps.is_some_and(|kbps| kbps > 400_000) {
            mistakes.add(at("max_kbps"), "more than 400000 kbit/s", "give kbit/s, not bit/s");
        }
    }
}

impl AudioProfile {
    fn check(&self, mistakes: &mut Mistakes) {
        if self.kbps > 1_000 {
            mistakes.add("audio.kbps", format!("{} is out of range", self.kbps), "use 0 (automatic) to 1000");
        }
        if !(1..=8).contains(&self.max_channels) {
            mistakes.add("audio.max_channels", format!("{} is out of range", self.max_channels), "use 1 to 8");
        }
    }
}

impl PackagingProfile {
    fn check(&self, video: &VideoProfile, audio: &AudioProfile, mistakes: &mut Mistakes) {
        if self.container == ContainerRule::Mpegts {
            for codec in video.codecs().into_iter().filter(|c| matches!(c, VideoCodec::Vp9 | VideoCodec::Av1)) {
                mistakes.add(
                    "packaging.container",
                    format!("MPEG-TS cannot carry {}", codec.as_str()),
                    "VP9 and AV1 need fMP4: use container = \"fmp4\" or \"auto\", or codec = \"h264\"",
                );
            }
            if audio.codec == AudioCodec::Opus {
                mistakes.add(
                    "packaging.container",
                    "MPEG-TS cannot carry opus here",
                    "Opus needs fMP4: use container = \"fmp4\" or \"auto\", or audio codec = \"aac\"",
                );
            }
        }
        let hint = "use 1 to 20; 4 to 6 is usual";
        mistakes.range("packaging.media_segment_seconds", self.media_segment_seconds, 1.0..=20.0, hint);
        if self.chunk_mb != 0 && !(16..=128).contains(&self.chunk_mb) {
            let hint = "use 16 to 128 MiB (48 is usual), or 0 for no chunk set";
            mistakes.add("packaging.chunk_mb", format!("{} is out of range", self.chunk_mb), hint);
        }
    }
}

impl SplitProfile {
    fn check(&self, mistakes: &mut Mistakes) {
        if self.segment_seconds != 0.0 {
            let hint = "use 0.5 to 86400 seconds, or 0 for auto";
            mistakes.range("split.segment_seconds", self.segment_seconds, 0.5..=86_400.0, hint);
        }
        let whole_below = self.whole_below_seconds;
        mistakes.range("split.whole_below_seconds", whole_below, 0.0..=f64::MAX, "use 0 or more seconds");
    }
}
