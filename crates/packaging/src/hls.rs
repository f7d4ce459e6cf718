//! Writes HLS playlists (RFC 8216) over fMP4 segments: one multivariant playlist and one media
//! playlist per rendition.
//!
//! Takes checked presentations only, so writing cannot fail. Must not decide anything about the
//! media: paths, times and sizes come from the model.

use std::fmt::Write as _;

use crate::presentation::bitrate::{audio_guess, available_runs, average, peak, video_guess};
use crate::presentation::{
    AudioRendition, Checked, Form, MULTIVARIANT_NAME, MediaTrack, VideoRendition, audio_names, parent, relative_uri,
};

/// The variant that is listed first, and so tried first by most players, is the best one whose
/// BANDWIDTH does not exceed this, in bit/s.
pub const FIRST_VARIANT_MAX_BANDWIDTH: u64 = 2_000_000;

const AUDIO_GROUP: &str = "audio";

/// A playlist and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playlist {
    /// Path relative to the presentation's root.
    pub path: String,
    /// UTF-8 text, lines ended by LF.
    pub text: String,
}

/// Every playlist of a presentation, the multivariant playlist last so that a reader who sees it
/// can already read what it names.
#[must_use]
pub fn playlists(checked: &Checked<'_>) -> Vec<Playlist> {
    let media = checked
        .presentation()
        .tracks()
        .map(|track| Playlist { path: track.playlist_path(), text: media_playlist(checked, track) });
    let multivariant = Playlist { path: MULTIVARIANT_NAME.to_owned(), text: multivariant_playlist(checked) };
    media.chain([multivariant]).collect()
}

/// The multivariant playlist (RFC 8216, 4.3.4).
///
/// BANDWIDTH is the measured peak and AVERAGE-BANDWIDTH the measured average of the video plus the
/// highest of any audio rendition. Variants keep the order of the model except that the best one
/// up to [`FIRST_VARIANT_MAX_BANDWIDTH`] comes first, or the lowest one when all are above.
/// Without video the audio renditions are the variants. In a preview, rates are measured from
/// the segments that exist; a rendition without any gets a guess from its size.
#[must_use]
pub fn multivariant_playlist(checked: &Checked<'_>) -> String {
    let presentation = checked.presentation();
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let target = checked.target_seconds();
    let mut variants: Vec<Variant> = if presentation.video.is_empty() {
        let audio = presentation.audio.iter();
        audio.map(|a| Variant::of_audio(a, audio_rates(a, target))).collect()
    } else {
        write_audio_group(&mut out, &presentation.audio);
        let rates = presentation.audio.iter().map(|a| audio_rates(a, target));
        let audio = rates.fold(Rates::default(), Rates::max);
        let video = presentation.video.iter();
        video.map(|v| Variant::of_video(v, &presentation.audio, video_rates(v, target).plus(audio))).collect()
    };
    if let Some(first) = first_variant(&variants) {
        variants.get_mut(..=first).unwrap_or_default().rotate_right(1);
    }
    for variant in &variants {
        variant.write(&mut out);
    }
    out
}

/// The media playlist of one track (RFC 8216, 4.3.2 and 4.3.3).
///
/// A preview lists all planned segments, marks those that do not exist with EXT-X-GAP (protocol
/// version 8) and is still VOD with an end, so that no player takes it for a live stream.
#[must_use]
pub fn media_playlist(checked: &Checked<'_>, track: &MediaTrack) -> String {
    let folder = parent(&track.init);
    let has_gaps = track.segments.iter().any(|s| !s.available);
    let is_preview = checked.form() == Form::Preview;
    let version = if is_preview && has_gaps { 8 } else { 7 };
    let first = track.segments.first().map_or(0, |s| s.number);
    let mut out = String::from("#EXTM3U\n");
    line(&mut out, format_args!("#EXT-X-VERSION:{version}"));
    line(&mut out, format_args!("#EXT-X-TARGETDURATION:{}", checked.target_seconds()));
    line(&mut out, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
    line(&mut out, format_args!("#EXT-X-PLAYLIST-TYPE:VOD"));
    line(&mut out, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    line(&mut out, format_args!("#EXT-X-MAP:URI=\"{}\"", relative_uri(folder, &track.init)));
    for (segment, micros) in track.segments.iter().zip(track.segment_micros()) {
        line(&mut out, format_args!("#EXTINF:{}.{:06},", micros / 1_000_000, micros % 1_000_000));
        if !segment.available {
            line(&mut out, format_args!("#EXT-X-GAP"));
        }
        line(&mut out, format_args!("{}", relative_uri(folder, &segment.path)));
    }
    line(&mut out, format_args!("#EXT-X-ENDLIST"));
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// Peak and average in bit/s.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    peak: u64,
    average: u64,
}

impl Rates {
    fn measured(track: &MediaTrack, target_seconds: u32, guess: u64) -> Self {
        let runs = available_runs(track);
        let average = average(&runs).unwrap_or(guess);
        Self { peak: peak(&runs, target_seconds).unwrap_or(guess).max(average), average }
    }

    fn max(self, other: Self) -> Self {
        Self { peak: self.peak.max(other.peak), average: self.average.max(other.average) }
    }

    fn plus(self, other: Self) -> Self {
        Self { peak: self.peak.saturating_add(other.peak), average: self.average.saturating_add(other.average) }
    }
}

fn video_rates(video: &VideoRendition, target_seconds: u32) -> Rates {
    Rates::measured(&video.track, target_seconds, video_guess(video))
}

fn audio_rates(audio: &AudioRendition, target_seconds: u32) -> Rates {
    Rates::measured(&audio.track, target_seconds, audio_guess(audio))
}

fn write_audio_group(out: &mut String, audio: &[AudioRendition]) {
    let default = audio.iter().position(|a| a.is_default).unwrap_or(0);
    for (index, (rendition, name)) in audio.iter().zip(audio_names(audio)).enumerate() {
        let is_default = index == default;
        // Of several renditions in one language only one may be chosen automatically
        // (RFC 8216, 4.3.4.1.1).
        let same = |other: &AudioRendition| other.language.eq_ignore_ascii_case(&rendition.language);
        let default_is_same = audio.get(default).is_some_and(same);
        let is_first = audio.iter().position(same) == Some(index);
        let is_auto = if default_is_same { is_default } else { is_first };
        let uri = relative_uri("", &rendition.track.playlist_path());
        line(
            out,
            format_args!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"{name}\",LANGUAGE=\"{}\",\
                 DEFAULT={},AUTOSELECT={},CHANNELS=\"{}\",URI=\"{uri}\"",
                rendition.language,
                yes_no(is_default),
                yes_no(is_auto),
                rendition.channels,
            ),
        );
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}

struct Variant {
    rates: Rates,
    codecs: String,
    /// The attributes that only video has, each with a leading comma.
    video_attributes: String,
    uri: String,
}

impl Variant {
    fn of_audio(audio: &AudioRendition, rates: Rates) -> Self {
        Self {
            rates,
            codecs: audio.track.codec.clone(),
            video_attributes: String::new(),
            uri: relative_uri("", &audio.track.playlist_path()),
        }
    }

    fn of_video(video: &VideoRendition, audio: &[AudioRendition], rates: Rates) -> Self {
        let mut codecs: Vec<&str> = vec![&video.track.codec];
        for rendition in audio {
            if !codecs.contains(&rendition.track.codec.as_str()) {
                codecs.push(&rendition.track.codec);
            }
        }
        let group = if audio.is_empty() { String::new() } else { format!(",AUDIO=\"{AUDIO_GROUP}\"") };
        let video_attributes = format!(
            ",RESOLUTION={}x{},FRAME-RATE={}{group},CLOSED-CAPTIONS=NONE",
            display_width(video),
            video.height,
            frame_rate(video),
        );
        let uri = relative_uri("", &video.track.playlist_path());
        Self { rates, codecs: codecs.join(","), video_attributes, uri }
    }

    fn write(&self, out: &mut String) {
        line(
            out,
            format_args!(
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"{}\n{}",
                self.rates.peak, self.rates.average, self.codecs, self.video_attributes, self.uri,
            ),
        );
    }
}

fn first_variant(variants: &[Variant]) -> Option<usize> {
    let rate = |index: &usize| variants.get(*index).map_or(u64::MAX, |v| v.rates.peak);
    let modest = (0..variants.len()).filter(|i| rate(i) <= FIRST_VARIANT_MAX_BANDWIDTH);
    // Ties go to the variant that the model lists first.
    modest.rev().max_by_key(rate).or_else(|| (0..variants.len()).min_by_key(rate))
}

/// Width in square pixels at the coded height, rounded.
fn display_width(video: &VideoRendition) -> u64 {
    let den = u64::from(video.sar.den.max(1));
    let doubled = u128::from(video.width) * u128::from(video.sar.num) * 2 + u128::from(den);
    u64::try_from(doubled / u128::from(den.saturating_mul(2))).unwrap_or(u64::MAX)
}

/// Frames per second with three decimals, rounded half up.
fn frame_rate(video: &VideoRendition) -> String {
    let den = u64::from(video.frame_rate.den.max(1));
    let milli = u64::from(video.frame_rate.num).saturating_mul(2_000).saturating_add(den) / (den * 2);
    format!("{}.{:03}", milli / 1_000, milli % 1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::presentation::samples::{audio, full, partial, track, video};
    use crate::presentation::{Presentation, Ratio, Span, TargetDuration, TrackKind};

    fn all(presentation: &Presentation, form: Form) -> String {
        let playlists = playlists(&presentation.check(form).unwrap());
        playlists.iter().map(|p| format!("== {}\n{}", p.path, p.text)).collect()
    }

    #[test]
    fn video_and_audio() {
        insta::assert_snapshot!(all(&full(), Form::Final));
    }

    #[test]
    fn preview_marks_gaps() {
        let mut p = partial(full(), 2);
        p.video.truncate(1);
        p.audio.truncate(1);
        insta::assert_snapshot!(all(&p, Form::Preview));
    }

    #[test]
    fn audio_only() {
        let mut p = full();
        p.video.clear();
        insta::assert_snapshot!(all(&p, Form::Final));
    }

    #[test]
    fn video_only_with_wide_pixels() {
        let mut p = full();
        p.audio.clear();
        p.video.truncate(1);
        p.video[0].width = 720;
        p.video[0].height = 576;
        p.video[0].sar = Ratio { num: 16, den: 15 };
        p.video[0].frame_rate = Ratio { num: 25, den: 1 };
        let text = multivariant_playlist(&p.check(Form::Final).unwrap());
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_rendition_without_segments_yet_has_a_guess() {
        let p = partial(full(), 0);
        let text = multivariant_playlist(&p.check(Form::Preview).unwrap());
        assert!(text.contains("BANDWIDTH=6342585,AVERAGE-BANDWIDTH=6342585,"), "{text}");
    }

    fn order(p: &Presentation) -> Vec<String> {
        let text = multivariant_playlist(&p.check(Form::Final).unwrap());
        text.lines().filter(|l| l.starts_with("v/")).map(str::to_owned).collect()
    }

    #[test]
    fn a_modest_variant_comes_first() {
        let names = |ids: [&str; 3]| ids.map(|id| format!("v/{id}/playlist.m3u8"));
        assert_eq!(order(&full()), names(["720p", "1080p", "360p"]));
        let mut p = full();
        for segment in p.video.iter_mut().flat_map(|v| &mut v.track.segments) {
            segment.bytes *= 100;
        }
        assert_eq!(order(&p), names(["360p", "1080p", "720p"]));
    }

    #[test]
    fn one_rendition_per_language_is_chosen_automatically() {
        let mut p = full();
        p.audio = vec![
            audio("en-2", "en", "English", false),
            audio("en-d", "EN", "English description", true),
            audio("fr", "fr", "French", false),
            audio("fr-d", "fr", "French", false),
        ];
        let text = multivariant_playlist(&p.check(Form::Final).unwrap());
        let flags: Vec<_> = text
            .lines()
            .filter(|l| l.starts_with("#EXT-X-MEDIA"))
            .map(|l| (l.contains("DEFAULT=YES"), l.contains("AUTOSELECT=YES")))
            .collect();
        assert_eq!(flags, [(false, false), (true, true), (false, true), (false, false)]);
        assert!(text.contains("NAME=\"French 2\""));
    }

    #[test]
    fn the_highest_audio_is_added_and_all_codecs_are_told() {
        let mut p = full();
        p.audio[1].track.codec = "opus".into();
        for segment in &mut p.audio[1].track.segments {
            segment.bytes *= 4;
        }
        let text = multivariant_playlist(&p.check(Form::Final).unwrap());
        let mut alone = full();
        alone.audio.clear();
        let without = multivariant_playlist(&alone.check(Form::Final).unwrap());
        let bandwidths = |t: &str| -> Vec<u64> {
            let values = t.lines().filter_map(|l| l.strip_prefix("#EXT-X-STREAM-INF:BANDWIDTH="));
            let mut found: Vec<u64> = values.map(|l| l.split(',').next().unwrap().parse().unwrap()).collect();
            found.sort_unstable();
            found
        };
        let loudest = peak(&available_runs(&p.audio[1].track), 4).unwrap();
        let (with, without) = (bandwidths(&text), bandwidths(&without));
        let differences: Vec<_> = with.iter().zip(&without).map(|(a, b)| a - b).collect();
        assert_eq!(differences, [loudest; 3]);
        assert!(text.contains("CODECS=\"avc1.64001f,mp4a.40.2,opus\""), "{text}");
    }

    #[test]
    fn odd_paths_are_encoded() {
        let mut p = full();
        p.video.truncate(1);
        p.video[0].track.init = "v x/\u{fc}/init.mp4".into();
        let checked = p.check(Form::Final).unwrap();
        let text = media_playlist(&checked, &p.video[0].track);
        assert!(text.contains("#EXT-X-MAP:URI=\"init.mp4\"\n"));
        assert!(text.contains("\n../../v/1080p/seg-00001.m4s\n"), "{text}");
        assert!(multivariant_playlist(&checked).contains("\nv%20x/%C3%BC/playlist.m3u8\n"));
    }

    proptest! {
        #[test]
        fn extinf_keeps_the_timeline_and_the_target(
            durations in prop::collection::vec(1_u64..400_000, 1..120),
            timescale in 1_000_u32..100_000,
        ) {
            let parts: Vec<_> = durations.iter().map(|&d| (d, 10)).collect();
            let ticks: u64 = durations.iter().sum();
            let mut v = video("x", 16, 16, [1; 4]);
            v.track = track(TrackKind::Video, "x", "avc1.64001f", timescale, 0, 0, &parts);
            let p = Presentation {
                duration: Span { ticks, timescale },
                video: vec![v],
                audio: vec![],
                target_duration: TargetDuration::Measured,
            };
            let checked = p.check(Form::Final).unwrap();
            let text = media_playlist(&checked, &p.video[0].track);
            let values: Vec<u64> = text
                .lines()
                .filter_map(|l| l.strip_prefix("#EXTINF:")?.strip_suffix(','))
                .map(|l| l.replace('.', "").parse().unwrap())
                .collect();
            prop_assert_eq!(values.iter().sum::<u64>(), p.duration.micros());
            let target = u64::from(checked.target_seconds());
            prop_assert!(values.iter().all(|v| (v + 500_000) / 1_000_000 <= target));
        }

        #[test]
        fn hostile_names_stay_inside_their_attribute(name in any::<String>()) {
            let mut p = full();
            p.audio[1].name = name;
            let text = multivariant_playlist(&p.check(Form::Final).unwrap());
            let clean = multivariant_playlist(&full().check(Form::Final).unwrap());
            prop_assert_eq!(text.lines().count(), clean.lines().count());
            prop_assert_eq!(text.matches('"').count(), clean.matches('"').count());
            prop_assert!(!text.contains('\r'));
        }
    }
}
