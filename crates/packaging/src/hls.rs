//! Writes HLS playlists (RFC 8216) over fMP4 segments: one multivariant playlist and one media playlist per video
//! and audio track.
//!
//! Takes checked presentations only, so writing cannot fail. Must not decide anything about the media: paths, times
//! and sizes come from the model.

use std::fmt::Write as _;

use splitreel_core::VideoRange;
use splitreel_core::captions::Captions;

use crate::presentation::bitrate::{audio_guess, available_runs, average, peak, promised, video_guess};
use crate::presentation::{
    AudioFormat, Checked, Form, MULTIVARIANT_NAME, MediaTrack, Presentation, VideoFormat, default_audio, menu_names,
    relative_uri, sample_entry_code,
};

/// Highest BANDWIDTH in bit/s of the variant that is listed first, and so tried first by most players: the best one
/// up to this rate in the codec that most players decode.
pub const FIRST_VARIANT_MAX_BANDWIDTH: u64 = 2_000_000;

const AUDIO_GROUP: &str = "audio";
const CAPTIONS_GROUP: &str = "cc";

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
        .listed()
        .map(|track| Playlist { path: track.playlist_path(), text: media_playlist(checked, track) });
    let multivariant = Playlist { path: MULTIVARIANT_NAME.to_owned(), text: multivariant_playlist(checked) };
    media.chain([multivariant]).collect()
}

/// The multivariant playlist (RFC 8216, 4.3.4).
///
/// BANDWIDTH is the measured peak and AVERAGE-BANDWIDTH the measured average of the video plus the highest of any
/// audio rendition. Variants keep the order of the model except that the best one up to
/// [`FIRST_VARIANT_MAX_BANDWIDTH`] comes first, or the lowest one when all are above; where the ladder mixes codecs,
/// only variants in the most widely decoded codec compete for that place, and among these SDR goes before HDR. Where any
/// variant is HDR, each states its VIDEO-RANGE (RFC 8216bis, 4.4.6.2); where none is, the attribute is left out, which
/// means SDR. Without video the audio tracks are the
/// variants. In a preview, rates are measured from the segments that exist; a track without any gets a guess. In the
/// planned form they are what the track is [`promised`] with, and never less than what is measured.
#[must_use]
pub fn multivariant_playlist(checked: &Checked<'_>) -> String {
    let presentation = checked.presentation();
    let audio: Vec<(&MediaTrack, &AudioFormat)> = presentation.audio().collect();
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    if !presentation.listed().any(|track| track.starts_open) {
        line(&mut out, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    }
    let target = checked.target_seconds();
    let rates = audio.iter().map(|&(track, format)| Rates::of(checked, track, target, audio_guess(format)));
    write_captions(&mut out, presentation);
    let mut variants: Vec<Variant> = if presentation.video().next().is_none() {
        audio.iter().zip(rates).map(|((track, _), rates)| Variant::of_audio(track, rates)).collect()
    } else {
        write_audio_group(&mut out, &audio);
        let sound = rates.fold(Rates::default(), Rates::max);
        let video = presentation.video();
        video
            .map(|(track, format)| {
                let rates = Rates::of(checked, track, target, video_guess(format)).plus(sound);
                Variant::of_video(track, (format, presentation), &audio, rates)
            })
            .collect()
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
/// A preview lists all planned segments, marks the missing ones with EXT-X-GAP (protocol version 8) and is still VOD
/// with an end, so that no player treats it as a live stream.
#[must_use]
pub fn media_playlist(checked: &Checked<'_>, track: &MediaTrack) -> String {
    let folder = track.folder();
    let has_gaps = track.segments.iter().any(|s| !s.available);
    let is_preview = checked.form() == Form::Preview;
    let version = if is_preview && has_gaps { 8 } else { 7 };
    let first = track.segments.first().map_or(0, |s| s.number);
    let mut out = String::from("#EXTM3U\n");
    line(&mut out, format_args!("#EXT-X-VERSION:{version}"));
    line(&mut out, format_args!("#EXT-X-TARGETDURATION:{}", checked.target_seconds()));
    line(&mut out, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
    line(&mut out, format_args!("#EXT-X-PLAYLIST-TYPE:VOD"));
    if !track.starts_open {
        line(&mut out, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    }
    if let Some(init) = &track.init {
        line(&mut out, format_args!("#EXT-X-MAP:URI=\"{}\"", relative_uri(folder, init)));
    }
    for (segment, micros) in track.segments.iter().zip(track.segment_micros()) {
        line(&mut out, format_args!("#EXTINF:{}.{:06},", micros / 1_000_000, micros % 1_000_000));
        if is_preview && !segment.available {
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
    fn of(checked: &Checked<'_>, track: &MediaTrack, target_seconds: u32, guess: u64) -> Self {
        if checked.form() == Form::Planned {
            let promise = promised(track);
            return Self { peak: promise, average: promise }.max(Self::measured(track, target_seconds, 0));
        }
        Self::measured(track, target_seconds, guess)
    }

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

fn write_audio_group(out: &mut String, audio: &[(&MediaTrack, &AudioFormat)]) {
    let default = default_audio(audio);
    let names = menu_names(audio.iter().map(|&(_, format)| format));
    for (index, ((track, format), name)) in audio.iter().zip(names).enumerate() {
        let is_default = index == default;
        // Of several renditions in one language only one may be chosen automatically (RFC 8216, 4.3.4.1.1).
        let same = |other: &AudioFormat| other.language.eq_ignore_ascii_case(&format.language);
        let default_is_same = audio.get(default).is_some_and(|(_, other)| same(other));
        let is_first = audio.iter().position(|(_, other)| same(other)) == Some(index);
        let is_auto = if default_is_same { is_default } else { is_first };
        line(
            out,
            format_args!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"{name}\",LANGUAGE=\"{}\",\
                 DEFAULT={},AUTOSELECT={},CHANNELS=\"{}\",URI=\"{}\"",
                format.language,
                yes_no(is_default),
                yes_no(is_auto),
                format.channels,
                relative_uri("", &track.playlist_path()),
            ),
        );
    }
}

/// The captions inside the video (RFC 8216, 4.3.4.1): no URI, the player reads them from the segments.
fn write_captions(out: &mut String, presentation: &Presentation) {
    for channel in captions_of_any(presentation).channels() {
        line(
            out,
            format_args!(
                "#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"{CAPTIONS_GROUP}\",NAME=\"{channel}\",DEFAULT=NO,\
                 AUTOSELECT=YES,INSTREAM-ID=\"{channel}\""
            ),
        );
    }
}

/// Captions that any variant carries.
fn captions_of_any(presentation: &Presentation) -> Captions {
    presentation.video().fold(Captions::default(), |all, (_, format)| all.or(format.captions))
}

/// The attribute CLOSED-CAPTIONS of a variant. NONE would have to stand in all variants (RFC 8216, 4.3.4.2): a variant
/// without captions beside others says nothing, and so does one whose segments are not all there.
fn captions_attribute(track: &MediaTrack, format: &VideoFormat, presentation: &Presentation) -> String {
    if !format.captions.is_none() {
        return format!(",CLOSED-CAPTIONS=\"{CAPTIONS_GROUP}\"");
    }
    let is_complete = presentation.video().all(|(track, _)| track.segments.iter().all(|segment| segment.available));
    let has_none = captions_of_any(presentation).is_none() && is_complete && !track.segments.is_empty();
    if has_none { ",CLOSED-CAPTIONS=NONE".to_owned() } else { String::new() }
}

fn yes_no(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}

struct Variant {
    rates: Rates,
    codecs: String,
    /// How few players show it well, by codec and then by dynamic range; the least is the widest.
    rarity: (u8, VideoRange),
    /// The attributes that only video has, each with a leading comma.
    video_attributes: String,
    uri: String,
}

impl Variant {
    fn of_audio(track: &MediaTrack, rates: Rates) -> Self {
        Self {
            rates,
            codecs: track.codec.clone().unwrap_or_default(),
            rarity: (0, VideoRange::Sdr),
            video_attributes: String::new(),
            uri: relative_uri("", &track.playlist_path()),
        }
    }

    fn of_video(
        track: &MediaTrack,
        (format, presentation): (&VideoFormat, &Presentation),
        audio: &[(&MediaTrack, &AudioFormat)],
        rates: Rates,
    ) -> Self {
        let mut codecs: Vec<&str> = Vec::new();
        for codec in [track].iter().chain(audio.iter().map(|(sound, _)| sound)).map(|t| t.codec.as_deref()) {
            codecs.extend(codec.filter(|codec| !codecs.contains(codec)));
        }
        // Half a list would be wrong, no list is allowed (RFC 8216, 4.3.4.2).
        if track.codec.is_none() {
            codecs.clear();
        }
        let group = if audio.is_empty() { String::new() } else { format!(",AUDIO=\"{AUDIO_GROUP}\"") };
        let range = format.color.range();
        let stated =
            if presentation.states_range() { format!(",VIDEO-RANGE={}", range.as_str()) } else { String::new() };
        let captions = captions_attribute(track, format, presentation);
        let codec = track.supplemental_codec.as_ref().filter(|_| track.codec.is_some());
        let supplemental = codec.map_or(String::new(), |codec| format!(",SUPPLEMENTAL-CODECS=\"{codec}\""));
        let video_attributes = format!(
            "{supplemental},RESOLUTION={}x{},FRAME-RATE={}{stated}{group}{captions}",
            display_width(format),
            format.height,
            frame_rate(format),
        );
        Self {
            rates,
            codecs: codecs.join(","),
            rarity: (rarity(track), range),
            video_attributes,
            uri: relative_uri("", &track.playlist_path()),
        }
    }

    fn write(&self, out: &mut String) {
        let codecs = if self.codecs.is_empty() { String::new() } else { format!(",CODECS=\"{}\"", self.codecs) };
        line(
            out,
            format_args!(
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}{}{}\n{}",
                self.rates.peak, self.rates.average, codecs, self.video_attributes, self.uri,
            ),
        );
    }
}

/// Rank of a video codec by how few players decode it. H.264 is decoded everywhere, HEVC by most devices with
/// hardware support, everything else by some.
fn rarity(track: &MediaTrack) -> u8 {
    match sample_entry_code(track) {
        "avc1" | "avc3" => 0,
        "hvc1" | "hev1" => 1,
        _ => 2,
    }
}

fn first_variant(variants: &[Variant]) -> Option<usize> {
    let widest = variants.iter().map(|v| v.rarity).min()?;
    let rate = |index: &usize| variants.get(*index).map_or(u64::MAX, |v| v.rates.peak);
    let compete: Vec<usize> =
        variants.iter().enumerate().filter(|(_, v)| v.rarity == widest).map(|(index, _)| index).collect();
    let modest = compete.iter().copied().filter(|i| rate(i) <= FIRST_VARIANT_MAX_BANDWIDTH);
    // Ties go to the variant that the model lists first.
    modest.rev().max_by_key(rate).or_else(|| compete.iter().copied().min_by_key(rate))
}

/// Width in square pixels at the coded height, rounded.
fn display_width(format: &VideoFormat) -> u64 {
    let den = i128::from(format.sar.den());
    let doubled = i128::from(format.width) * i128::from(format.sar.num()) * 2 + den;
    u64::try_from(doubled / den.saturating_mul(2)).unwrap_or(u64::MAX)
}

/// FRAME-RATE: the highest number of frames per second, with three decimals, rounded half up (RFC 8216, 4.3.4.2).
fn frame_rate(format: &VideoFormat) -> String {
    let rate = format.peak_frame_rate.unwrap_or(format.frame_rate);
    let den = i128::from(rate.den());
    let milli = (i128::from(rate.num()) * 2_000 + den) / (den * 2);
    format!("{}.{:03}", milli / 1_000, milli % 1_000)
}

#[cfg(test)]
mod tests;
