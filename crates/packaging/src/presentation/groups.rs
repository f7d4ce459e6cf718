//! Groups that players choose from, derived from the tracks: switching sets of video, the menu of audio.

use std::collections::BTreeMap;

use super::model::{AudioFormat, MediaTrack, Presentation, VideoFormat};

/// Video tracks that a player can switch between at every segment, in the order of the model. One set per sample
/// entry type, colour and segmentation: a decoder cannot change its codec inside a set, a display cannot change between
/// SDR and HDR without a visible break, and a client takes equal numbers for equal times (ISO/IEC 23009-1, 5.3.3.2
/// `@segmentAlignment`; ISO/IEC 23000-19, 7.3.4).
pub(crate) fn switching_sets(presentation: &Presentation) -> Vec<Vec<(&MediaTrack, &VideoFormat)>> {
    let mut sets: Vec<Vec<(&MediaTrack, &VideoFormat)>> = Vec::new();
    for (track, format) in presentation.video() {
        let fits = |set: &&mut Vec<(&MediaTrack, &VideoFormat)>| {
            set.first().is_some_and(|(first, other)| {
                sample_entry_code(first) == sample_entry_code(track)
                    && other.color == format.color
                    && first.is_aligned_with(track)
            })
        };
        match sets.iter_mut().find(fits) {
            Some(set) => set.push((track, format)),
            None => sets.push(vec![(track, format)]),
        }
    }
    sets
}

/// The part of a track's codec string that names the sample entry, for example `avc1`; empty without a codec string.
pub(crate) fn sample_entry_code(track: &MediaTrack) -> &str {
    track.codec.as_deref().and_then(|codec| codec.split('.').next()).unwrap_or_default()
}

/// Position of the audio track that plays when the user did not choose: the default, or else the first.
pub(crate) fn default_audio(audio: &[(&MediaTrack, &AudioFormat)]) -> usize {
    audio.iter().position(|(_, format)| format.is_default).unwrap_or(0)
}

/// Text that is safe in an XML attribute or element and in an HLS quoted-string (RFC 8216, 4.2): no control
/// characters, no characters outside XML 1.0, quotes replaced, spaces trimmed.
pub(crate) fn display_text(text: &str) -> String {
    let kept = text.chars().filter_map(|c| match c {
        '"' => Some('\''),
        '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' => None,
        '\t' | '\r' | '\n' => Some(' '),
        c if c.is_control() => None,
        c => Some(c),
    });
    kept.collect::<String>().trim().to_owned()
}

/// Menu names of audio tracks: safe, not empty and different from each other, as RFC 8216, 4.3.4.1.1 asks within a
/// group.
pub(crate) fn menu_names<'a>(audio: impl IntoIterator<Item = &'a AudioFormat>) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for format in audio {
        let mut plain = display_text(&format.name);
        if plain.is_empty() {
            plain.clone_from(&format.language);
        }
        let mut name = plain.clone();
        while names.contains(&name) {
            let count = seen.entry(plain.clone()).or_insert(1);
            *count = count.saturating_add(1);
            name = format!("{plain} {count}");
        }
        names.push(name);
    }
    names
}
