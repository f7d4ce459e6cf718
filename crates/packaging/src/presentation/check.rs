//! Decides whether a presentation may be written as manifests.
//!
//! Owns the rules and the proof of having passed them, [`Checked`]. Reports every defect, not
//! only the first. Must not repair anything.

use std::collections::{BTreeMap, BTreeSet};

use super::{MediaTrack, Presentation, TargetDuration, is_safe_path, micros};

/// How far the longest track may end from the presentation's duration, in microseconds: audio is padded to whole packets.
const MAX_END_DIFFERENCE: u64 = 250_000;

/// Whether the manifests describe a finished presentation or one that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every segment exists.
    Final,
    /// Some segments do not exist yet; times and durations are the planned ones. For a directory, where nothing can
    /// answer for a missing file: playlists mark the missing segments, the MPD ends before the first one.
    Preview,
    /// Some segments do not exist yet, and all are listed as though they did. For a server that holds a request until
    /// the segment is there. Rates are the planned ones until more is measured.
    Planned,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// Neither video nor audio.
    #[error("presentation has neither video nor audio")]
    NothingToPlay,
    /// The presentation's duration is zero or has timescale zero.
    #[error("presentation has no duration")]
    NoDuration,
    /// The longest track does not end where the presentation does.
    #[error("tracks end at {actual_micros} µs, presentation at {expected_micros} µs")]
    EndDiffers {
        /// The presentation's duration in microseconds.
        expected_micros: u64,
        /// End of the longest track in microseconds.
        actual_micros: i128,
    },
    /// An id that is empty, longer than 64 characters or not `[a-z0-9-]`.
    #[error("track id {id:?} is not [a-z0-9-]{{1,64}}")]
    UnsafeId {
        /// The id.
        id: String,
    },
    /// Two tracks share an id.
    #[error("track id {id} is used twice")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A path that is absolute, leaves the presentation or has control characters.
    #[error("track {track}: unsafe path {path:?}")]
    UnsafePath {
        /// Track id.
        track: String,
        /// The path.
        path: String,
    },
    /// Two files of the presentation share a path.
    #[error("track {track}: path {path} is used twice")]
    DuplicatePath {
        /// Track id.
        track: String,
        /// The path.
        path: String,
    },
    /// A codec string that is empty or has characters outside RFC 6381's simple form.
    #[error("track {track}: codec string {codec:?}")]
    InvalidCodec {
        /// Track id.
        track: String,
        /// The codec string.
        codec: String,
    },
    /// A zero where a positive number is needed.
    #[error("track {track}: {field} is zero")]
    ZeroField {
        /// Track id.
        track: String,
        /// Which field.
        field: &'static str,
    },
    /// A language that is not shaped like a BCP 47 tag.
    #[error("track {track}: language {language:?}")]
    InvalidLanguage {
        /// Track id.
        track: String,
        /// The language.
        language: String,
    },
    /// More than one audio track is the default.
    #[error("audio tracks {first} and {second} are both the default")]
    SeveralDefaults {
        /// Id of the first default.
        first: String,
        /// Id of another one.
        second: String,
    },
    /// A track without segments.
    #[error("track {track} has no segments")]
    NoSegments {
        /// Track id.
        track: String,
    },
    /// Numbers start below 1 or do not increase by one.
    #[error("track {track}: segment number {actual}, expected {expected}")]
    Numbering {
        /// Track id.
        track: String,
        /// The number that belongs there.
        expected: u64,
        /// The number found.
        actual: u64,
    },
    /// A segment does not start where the previous one ends.
    #[error("track {track}: segment {number} starts at {actual}, expected {expected}")]
    NotContiguous {
        /// Track id.
        track: String,
        /// Segment number.
        number: u64,
        /// End of the previous segment in ticks.
        expected: i128,
        /// Start of this one in ticks.
        actual: i64,
    },
    /// A segment without duration.
    #[error("track {track}: segment {number} has no duration")]
    EmptyDuration {
        /// Track id.
        track: String,
        /// Segment number.
        number: u64,
    },
    /// The first segment starts before media time zero.
    #[error("track {track}: first segment starts {start} ticks from zero with a delay of {delay}")]
    NegativeMediaTime {
        /// Track id.
        track: String,
        /// Presentation time in ticks.
        start: i64,
        /// Delay in ticks.
        delay: u32,
    },
    /// A segment that ends before anything is presented.
    #[error("track {track}: segment {number} ends before the presentation starts")]
    NeverPresented {
        /// Track id.
        track: String,
        /// Segment number.
        number: u64,
    },
    /// A segment that is said to exist but has no bytes.
    #[error("track {track}: segment {number} is empty")]
    EmptyFile {
        /// Track id.
        track: String,
        /// Segment number.
        number: u64,
    },
    /// A segment is missing from a finished presentation.
    #[error("track {track}: segment {number} is not available")]
    NotAvailable {
        /// Track id.
        track: String,
        /// Segment number.
        number: u64,
    },
    /// A video track covers another time than the first one: a player that switches would repeat or skip frames
    /// (RFC 8216, 6.2.4). Exact: whatever frames a track shows, its segments tile the time of the whole video.
    #[error("track {track} covers {actual_micros:?} µs, {reference} covers {expected_micros:?} µs")]
    CoverageDiffers {
        /// Track id.
        track: String,
        /// Id of the first video track.
        reference: String,
        /// Start and end of the first video track in microseconds.
        expected_micros: (i128, i128),
        /// Start and end found, in microseconds.
        actual_micros: (i128, i128),
    },
    /// Two tracks of one grid have different segments.
    #[error("track {track}: segment {number} is not that of {reference}, although both are cut by one grid")]
    SegmentsDiffer {
        /// Track id.
        track: String,
        /// Id of the first track of the grid.
        reference: String,
        /// Number of the first segment that differs or is missing, as the reference counts.
        number: u64,
    },
}

/// A presentation that may not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("presentation breaks {} rules", defects.len())]
pub struct InvalidPresentation {
    /// Every broken rule.
    pub defects: Vec<Defect>,
}

/// A presentation that passed [`Presentation::check`]; the only thing the writers accept.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    presentation: &'a Presentation,
    form: Form,
}

impl<'a> Checked<'a> {
    /// The presentation.
    #[must_use]
    pub fn presentation(&self) -> &'a Presentation {
        self.presentation
    }

    /// The form it was checked for.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// EXT-X-TARGETDURATION (RFC 8216, 4.3.3.1) of all playlists, in seconds: the longest segment
    /// of the presentation rounded half up, at least 1.
    #[must_use]
    pub fn target_seconds(&self) -> u32 {
        let longest = self.presentation.listed().flat_map(MediaTrack::segment_micros).max();
        let rounded = longest.unwrap_or(0).saturating_add(500_000) / 1_000_000;
        let measured = u32::try_from(rounded).unwrap_or(u32::MAX).max(1);
        match self.presentation.target_duration {
            TargetDuration::Measured => measured,
            TargetDuration::AtLeast { seconds } => measured.max(seconds),
        }
    }
}

impl Presentation {
    /// Checks identity, numbering, contiguity, coverage and completeness of every track, of whatever kind.
    ///
    /// # Errors
    /// [`InvalidPresentation`] with every defect.
    pub fn check(&self, form: Form) -> Result<Checked<'_>, InvalidPresentation> {
        let mut defects = Vec::new();
        if self.listed().next().is_none() {
            defects.push(Defect::NothingToPlay);
        }
        let (mut ids, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for track in &self.tracks {
            check_id(track, form, &mut ids, &mut defects);
            check_paths(track, &mut paths, &mut defects);
            check_segments(track, form, &mut defects);
        }
        self.check_video(&mut defects);
        self.check_grids(&mut defects);
        self.check_audio(&mut defects);
        self.check_end(&mut defects);
        if defects.is_empty() { Ok(Checked { presentation: self, form }) } else { Err(InvalidPresentation { defects }) }
    }

    fn check_video(&self, out: &mut Vec<Defect>) {
        let mut reference = None;
        for (track, format) in self.video() {
            let fields = [
                ("width", format.width == 0),
                ("height", format.height == 0),
                ("sample aspect ratio", !format.sar.is_positive()),
                ("frame rate", !format.frame_rate.is_positive()),
            ];
            zero_fields(&track.id, &fields, out);
            let Some(actual_micros) = coverage(track) else { continue };
            let (first, expected_micros) = *reference.get_or_insert((track, actual_micros));
            if !track.covers_the_same_time_as(first) {
                out.push(Defect::CoverageDiffers {
                    track: track.id.clone(),
                    reference: first.id.clone(),
                    expected_micros,
                    actual_micros,
                });
            }
        }
    }

    fn check_grids(&self, out: &mut Vec<Defect>) {
        let mut references: BTreeMap<u32, &MediaTrack> = BTreeMap::new();
        for track in &self.tracks {
            let Some(grid) = track.grid else { continue };
            let reference = *references.entry(grid).or_insert(track);
            let Some(position) = reference.first_difference(track) else { continue };
            let first = reference.segments.first().map_or(0, |segment| segment.number);
            out.push(Defect::SegmentsDiffer {
                track: track.id.clone(),
                reference: reference.id.clone(),
                number: first.saturating_add(position as u64),
            });
        }
    }

    fn check_audio(&self, out: &mut Vec<Defect>) {
        for (track, format) in self.audio() {
            let fields = [("channels", format.channels == 0), ("sample rate", format.sample_rate == 0)];
            zero_fields(&track.id, &fields, out);
            if !is_language(&format.language) {
                out.push(Defect::InvalidLanguage { track: track.id.clone(), language: format.language.clone() });
            }
        }
        let mut defaults = self.audio().filter(|(_, format)| format.is_default);
        if let Some((first, _)) = defaults.next() {
            out.extend(
                defaults
                    .map(|(second, _)| Defect::SeveralDefaults { first: first.id.clone(), second: second.id.clone() }),
            );
        }
    }

    fn check_end(&self, out: &mut Vec<Defect>) {
        let expected = self.duration.micros();
        if self.duration.ticks <= 0 || !self.duration.timebase.is_positive() {
            out.push(Defect::NoDuration);
            return;
        }
        if let Some(actual) = self.listed().filter_map(coverage).map(|(_, end)| end).max()
            && actual.abs_diff(expected.into()) > MAX_END_DIFFERENCE.into()
        {
            let expected_micros = u64::try_from(expected).unwrap_or(0);
            out.push(Defect::EndDiffers { expected_micros, actual_micros: actual });
        }
    }
}

/// Start and end of a track in microseconds of presentation time; `None` without segments.
fn coverage(track: &MediaTrack) -> Option<(i128, i128)> {
    let (start, end) = track.covered()?;
    Some((micros(start, track.timescale), micros(end, track.timescale)))
}

fn zero_fields(track: &str, fields: &[(&'static str, bool)], out: &mut Vec<Defect>) {
    let zero = fields.iter().filter(|(_, is_zero)| *is_zero);
    out.extend(zero.map(|&(field, _)| Defect::ZeroField { track: track.to_owned(), field }));
}

fn check_id<'a>(track: &'a MediaTrack, form: Form, ids: &mut BTreeSet<&'a str>, out: &mut Vec<Defect>) {
    let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if track.id.is_empty() || track.id.len() > 64 || !track.id.bytes().all(safe) {
        out.push(Defect::UnsafeId { id: track.id.clone() });
    }
    if !ids.insert(&track.id) {
        out.push(Defect::DuplicateId { id: track.id.clone() });
    }
    let in_codec = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_valid = match &track.codec {
        Some(codec) => !codec.is_empty() && codec.bytes().all(in_codec),
        None => form == Form::Planned || !track.is_listed(),
    };
    if !is_valid {
        out.push(Defect::InvalidCodec { track: track.id.clone(), codec: track.codec.clone().unwrap_or_default() });
    }
    zero_fields(&track.id, &[("timescale", track.timescale == 0)], out);
}

fn check_paths(track: &MediaTrack, paths: &mut BTreeSet<String>, out: &mut Vec<Defect>) {
    let playlist = track.is_listed().then(|| track.playlist_path());
    for path in track.media_paths().map(str::to_owned).chain(playlist) {
        if !is_safe_path(&path) {
            out.push(Defect::UnsafePath { track: track.id.clone(), path });
        } else if !paths.insert(path.clone()) {
            out.push(Defect::DuplicatePath { track: track.id.clone(), path });
        }
    }
}

fn check_segments(track: &MediaTrack, form: Form, out: &mut Vec<Defect>) {
    let id = || track.id.clone();
    let Some(first) = track.segments.first() else {
        out.push(Defect::NoSegments { track: id() });
        return;
    };
    if i128::from(first.start).saturating_add(track.delay.into()) < 0 {
        out.push(Defect::NegativeMediaTime { track: id(), start: first.start, delay: track.delay });
    }
    let (mut number, mut start) = (first.number.max(1), i128::from(first.start));
    for segment in &track.segments {
        if segment.number != number {
            out.push(Defect::Numbering { track: id(), expected: number, actual: segment.number });
        }
        let number_found = segment.number;
        if i128::from(segment.start) != start {
            out.push(Defect::NotContiguous {
                track: id(),
                number: number_found,
                expected: start,
                actual: segment.start,
            });
        }
        if segment.duration == 0 {
            out.push(Defect::EmptyDuration { track: id(), number: number_found });
        } else if segment.end() <= 0 {
            out.push(Defect::NeverPresented { track: id(), number: number_found });
        }
        if segment.available && segment.bytes == 0 {
            out.push(Defect::EmptyFile { track: id(), number: number_found });
        }
        if form == Form::Final && !segment.available {
            out.push(Defect::NotAvailable { track: id(), number: number_found });
        }
        // Compare with what was found, so that one mistake is reported once.
        number = segment.number.saturating_add(1);
        start = segment.end();
    }
}

fn is_language(tag: &str) -> bool {
    let subtag = |s: &str| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric());
    tag.len() <= 35 && tag.split('-').all(subtag)
}

#[cfg(test)]
mod tests;
