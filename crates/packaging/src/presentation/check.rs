//! Decides whether a presentation may be written as manifests.
//!
//! Owns the rules and the proof of having passed them, [`Checked`]. Reports every violation, not
//! only the first. Must not repair anything.

use std::collections::BTreeSet;

use super::{MediaTrack, Presentation, Ratio, TargetDuration, micros};

/// How far the longest rendition may end from the presentation's duration, in microseconds.
const MAX_END_DIFFERENCE: u64 = 250_000;

/// Whether the manifests describe a finished presentation or one that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every segment exists.
    Final,
    /// Some segments do not exist yet; times and durations are the planned ones.
    Preview,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Neither video nor audio.
    #[error("presentation has no renditions")]
    NoRenditions,
    /// The presentation's duration is zero or has timescale zero.
    #[error("presentation has no duration")]
    NoDuration,
    /// The longest rendition does not end where the presentation does.
    #[error("renditions end at {actual_micros} µs, presentation at {expected_micros} µs")]
    EndDiffers {
        /// The presentation's duration in microseconds.
        expected_micros: u64,
        /// End of the longest rendition in microseconds.
        actual_micros: i128,
    },
    /// An id that is empty, longer than 64 characters or not `[a-z0-9-]`.
    #[error("rendition id {id:?} is not [a-z0-9-]{{1,64}}")]
    UnsafeId {
        /// The id.
        id: String,
    },
    /// Two renditions share an id.
    #[error("rendition id {id} is used twice")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A path that is absolute, leaves the presentation or has control characters.
    #[error("rendition {rendition}: unsafe path {path:?}")]
    UnsafePath {
        /// Rendition id.
        rendition: String,
        /// The path.
        path: String,
    },
    /// Two files of the presentation share a path.
    #[error("rendition {rendition}: path {path} is used twice")]
    DuplicatePath {
        /// Rendition id.
        rendition: String,
        /// The path.
        path: String,
    },
    /// A codec string that is empty or has characters outside RFC 6381's simple form.
    #[error("rendition {rendition}: codec string {codec:?}")]
    InvalidCodec {
        /// Rendition id.
        rendition: String,
        /// The codec string.
        codec: String,
    },
    /// A zero where a positive number is needed.
    #[error("rendition {rendition}: {field} is zero")]
    ZeroField {
        /// Rendition id.
        rendition: String,
        /// Which field.
        field: &'static str,
    },
    /// A language that is not shaped like a BCP 47 tag.
    #[error("rendition {rendition}: language {language:?}")]
    InvalidLanguage {
        /// Rendition id.
        rendition: String,
        /// The language.
        language: String,
    },
    /// More than one audio rendition is the default.
    #[error("audio renditions {first} and {second} are both the default")]
    SeveralDefaults {
        /// Id of the first default.
        first: String,
        /// Id of another one.
        second: String,
    },
    /// A rendition without segments.
    #[error("rendition {rendition} has no segments")]
    NoSegments {
        /// Rendition id.
        rendition: String,
    },
    /// Numbers start below 1 or do not increase by one.
    #[error("rendition {rendition}: segment number {actual}, expected {expected}")]
    Numbering {
        /// Rendition id.
        rendition: String,
        /// The number that belongs there.
        expected: u64,
        /// The number found.
        actual: u64,
    },
    /// A segment does not start where the previous one ends.
    #[error("rendition {rendition}: segment {number} starts at {actual}, expected {expected}")]
    NotContiguous {
        /// Rendition id.
        rendition: String,
        /// Segment number.
        number: u64,
        /// End of the previous segment in ticks.
        expected: i128,
        /// Start of this one in ticks.
        actual: i64,
    },
    /// A segment without duration.
    #[error("rendition {rendition}: segment {number} has no duration")]
    EmptyDuration {
        /// Rendition id.
        rendition: String,
        /// Segment number.
        number: u64,
    },
    /// The first segment starts before media time zero.
    #[error("rendition {rendition}: first segment starts {start} ticks from zero with a delay of {delay}")]
    NegativeMediaTime {
        /// Rendition id.
        rendition: String,
        /// Presentation time in ticks.
        start: i64,
        /// Delay in ticks.
        delay: u32,
    },
    /// A segment that ends before anything is presented.
    #[error("rendition {rendition}: segment {number} ends before the presentation starts")]
    NeverPresented {
        /// Rendition id.
        rendition: String,
        /// Segment number.
        number: u64,
    },
    /// A segment that is said to exist but has no bytes.
    #[error("rendition {rendition}: segment {number} is empty")]
    EmptyFile {
        /// Rendition id.
        rendition: String,
        /// Segment number.
        number: u64,
    },
    /// A segment is missing from a finished presentation.
    #[error("rendition {rendition}: segment {number} is not available")]
    NotAvailable {
        /// Rendition id.
        rendition: String,
        /// Segment number.
        number: u64,
    },
    /// Video renditions have different numbers of segments.
    #[error("rendition {rendition} has {actual} segments, {reference} has {expected}")]
    CountDiffers {
        /// Rendition id.
        rendition: String,
        /// Id of the first video rendition.
        reference: String,
        /// Its number of segments.
        expected: usize,
        /// Number of segments found.
        actual: usize,
    },
    /// A segment covers another time or has another number than in the first video rendition.
    #[error("rendition {rendition}: segment {number} is not aligned with {reference}")]
    NotAligned {
        /// Rendition id.
        rendition: String,
        /// Id of the first video rendition.
        reference: String,
        /// Segment number.
        number: u64,
    },
}

/// A presentation that may not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("presentation breaks {} rules", violations.len())]
pub struct InvalidPresentation {
    /// Every broken rule.
    pub violations: Vec<Violation>,
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
        let longest = self.presentation.tracks().flat_map(MediaTrack::segment_micros).max();
        let rounded = longest.unwrap_or(0).saturating_add(500_000) / 1_000_000;
        let measured = u32::try_from(rounded).unwrap_or(u32::MAX).max(1);
        match self.presentation.target_duration {
            TargetDuration::Measured => measured,
            TargetDuration::AtLeast { seconds } => measured.max(seconds),
        }
    }
}

impl Presentation {
    /// Checks identity, numbering, contiguity, alignment and completeness.
    ///
    /// # Errors
    /// [`InvalidPresentation`] with every violation.
    pub fn check(&self, form: Form) -> Result<Checked<'_>, InvalidPresentation> {
        let mut violations = Vec::new();
        if self.tracks().next().is_none() {
            violations.push(Violation::NoRenditions);
        }
        let (mut ids, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for track in self.tracks() {
            check_id(track, &mut ids, &mut violations);
            check_paths(track, &mut paths, &mut violations);
            check_segments(track, form, &mut violations);
        }
        self.check_video(&mut violations);
        self.check_audio(&mut violations);
        self.check_end(&mut violations);
        if violations.is_empty() {
            Ok(Checked { presentation: self, form })
        } else {
            Err(InvalidPresentation { violations })
        }
    }

    fn check_video(&self, out: &mut Vec<Violation>) {
        for video in &self.video {
            let zero = |r: Ratio| r.num == 0 || r.den == 0;
            let fields = [
                ("width", video.width == 0),
                ("height", video.height == 0),
                ("sample aspect ratio", zero(video.sar)),
                ("frame rate", zero(video.frame_rate)),
            ];
            zero_fields(&video.track.id, &fields, out);
        }
        if let Some((reference, others)) = self.video.split_first() {
            for other in others {
                check_alignment(&reference.track, &other.track, out);
            }
        }
    }

    fn check_audio(&self, out: &mut Vec<Violation>) {
        for audio in &self.audio {
            let fields = [("channels", audio.channels == 0), ("sample rate", audio.sample_rate == 0)];
            zero_fields(&audio.track.id, &fields, out);
            if !is_language(&audio.language) {
                out.push(Violation::InvalidLanguage {
                    rendition: audio.track.id.clone(),
                    language: audio.language.clone(),
                });
            }
        }
        let mut defaults = self.audio.iter().filter(|a| a.is_default);
        if let Some(first) = defaults.next() {
            out.extend(defaults.map(|second| Violation::SeveralDefaults {
                first: first.track.id.clone(),
                second: second.track.id.clone(),
            }));
        }
    }

    fn check_end(&self, out: &mut Vec<Violation>) {
        if self.duration.ticks == 0 || self.duration.timescale == 0 {
            out.push(Violation::NoDuration);
            return;
        }
        let ends = self.tracks().filter_map(|t| Some(micros(t.segments.last()?.end(), t.timescale)));
        let expected = self.duration.micros();
        if let Some(actual) = ends.max()
            && actual.abs_diff(expected.into()) > MAX_END_DIFFERENCE.into()
        {
            out.push(Violation::EndDiffers { expected_micros: expected, actual_micros: actual });
        }
    }
}

fn zero_fields(rendition: &str, fields: &[(&'static str, bool)], out: &mut Vec<Violation>) {
    let zero = fields.iter().filter(|(_, is_zero)| *is_zero);
    out.extend(zero.map(|&(field, _)| Violation::ZeroField { rendition: rendition.to_owned(), field }));
}

fn check_id<'a>(track: &'a MediaTrack, ids: &mut BTreeSet<&'a str>, out: &mut Vec<Violation>) {
    let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if track.id.is_empty() || track.id.len() > 64 || !track.id.bytes().all(safe) {
        out.push(Violation::UnsafeId { id: track.id.clone() });
    }
    if !ids.insert(&track.id) {
        out.push(Violation::DuplicateId { id: track.id.clone() });
    }
    let in_codec = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if track.codec.is_empty() || !track.codec.bytes().all(in_codec) {
        out.push(Violation::InvalidCodec { rendition: track.id.clone(), codec: track.codec.clone() });
    }
    zero_fields(&track.id, &[("timescale", track.timescale == 0)], out);
}

fn check_paths(track: &MediaTrack, paths: &mut BTreeSet<String>, out: &mut Vec<Violation>) {
    let segments = track.segments.iter().map(|s| s.path.clone());
    for path in [track.init.clone(), track.playlist_path()].into_iter().chain(segments) {
        if !is_safe_path(&path) {
            out.push(Violation::UnsafePath { rendition: track.id.clone(), path });
        } else if !paths.insert(path.clone()) {
            out.push(Violation::DuplicatePath { rendition: track.id.clone(), path });
        }
    }
}

fn check_segments(track: &MediaTrack, form: Form, out: &mut Vec<Violation>) {
    let rendition = || track.id.clone();
    let Some(first) = track.segments.first() else {
        out.push(Violation::NoSegments { rendition: rendition() });
        return;
    };
    if i128::from(first.start).saturating_add(track.delay.into()) < 0 {
        out.push(Violation::NegativeMediaTime { rendition: rendition(), start: first.start, delay: track.delay });
    }
    let (mut number, mut start) = (first.number.max(1), i128::from(first.start));
    for segment in &track.segments {
        if segment.number != number {
            out.push(Violation::Numbering { rendition: rendition(), expected: number, actual: segment.number });
        }
        let number_found = segment.number;
        if i128::from(segment.start) != start {
            out.push(Violation::NotContiguous {
                rendition: rendition(),
                number: number_found,
                expected: start,
                actual: segment.start,
            });
        }
        if segment.duration == 0 {
            out.push(Violation::EmptyDuration { rendition: rendition(), number: number_found });
        } else if segment.end() <= 0 {
            out.push(Violation::NeverPresented { rendition: rendition(), number: number_found });
        }
        if segment.available && segment.bytes == 0 {
            out.push(Violation::EmptyFile { rendition: rendition(), number: number_found });
        }
        if form == Form::Final && !segment.available {
            out.push(Violation::NotAvailable { rendition: rendition(), number: number_found });
        }
        // Compare with what was found, so that one mistake is told once.
        number = segment.number.saturating_add(1);
        start = segment.end();
    }
}

fn check_alignment(reference: &MediaTrack, other: &MediaTrack, out: &mut Vec<Violation>) {
    let (expected, actual) = (reference.segments.len(), other.segments.len());
    if expected != actual {
        out.push(Violation::CountDiffers {
            rendition: other.id.clone(),
            reference: reference.id.clone(),
            expected,
            actual,
        });
    }
    let same =
        |a: i128, b: i128| a.saturating_mul(other.timescale.into()) == b.saturating_mul(reference.timescale.into());
    for (a, b) in reference.segments.iter().zip(&other.segments) {
        let aligned = same(a.start.into(), b.start.into()) && same(a.end(), b.end());
        if a.number != b.number || !aligned {
            out.push(Violation::NotAligned {
                rendition: other.id.clone(),
                reference: reference.id.clone(),
                number: b.number,
            });
        }
    }
}

/// Relative, inside the root, printable, with non-empty components.
pub(crate) fn is_safe_path(path: &str) -> bool {
    let component = |c: &str| !matches!(c, "" | "." | "..");
    path.split('/').all(component) && !path.chars().any(|c| c.is_control() || c == '\\')
}

fn is_language(tag: &str) -> bool {
    let subtag = |s: &str| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric());
    tag.len() <= 35 && tag.split('-').all(subtag)
}

#[cfg(test)]
mod tests;
