//! Failures of sources that cannot be used: the fault and the remedy. Pure.

use crate::failure::evidence;
use splitreel_core::source::Programme;
use splitreel_core::{Failure, FailureCode};

/// The user's name for a source, safe for a terminal and of bounded length.
pub(crate) fn shown_name(name: &str) -> String {
    const MAX_CHARS: usize = 200;
    let mut text: String = name.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

/// A partial source was not enough.
pub(crate) fn needs_whole() -> Failure {
    let message = "probing: the tables of the source are not sufficient; the whole source has to be read";
    Failure::of(FailureCode::NeedsWhole, message)
}

pub(crate) fn not_found(name: &str) -> Failure {
    Failure::of(FailureCode::NotFound, format!("{}: there is no such file; check the path", shown_name(name)))
}

pub(crate) fn not_readable(name: &str, error: &std::io::Error) -> Failure {
    Failure::of(
        FailureCode::NotReadable,
        format!("{}: the file cannot be read ({error}); check its permissions", shown_name(name)),
    )
}

pub(crate) fn is_directory(name: &str) -> Failure {
    Failure::of(FailureCode::IsDirectory, format!("{}: this is a directory; name a media file in it", shown_name(name)))
}

pub(crate) fn no_regular_file(name: &str) -> Failure {
    Failure::of(
        FailureCode::NotAFile,
        format!("{}: this is a device, pipe or socket; name a regular file", shown_name(name)),
    )
}

pub(crate) fn empty_file(name: &str) -> Failure {
    Failure::of(
        FailureCode::EmptyFile,
        format!("{}: the file is empty (0 bytes); upload or record it again", shown_name(name)),
    )
}

/// `others` are the programmes that the source has.
pub(crate) fn no_programme(name: &str, wanted: u32, others: &[Programme]) -> Failure {
    let list = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let has = if others.is_empty() { "it has no programmes".to_owned() } else { format!("it has {list}") };
    Failure::of(FailureCode::NoProgramme, format!("{}: there is no programme {wanted}; {has}", shown_name(name)))
}

pub(crate) fn is_playlist(name: &str, what: &str) -> Failure {
    Failure::of(
        FailureCode::IsPlaylist,
        format!(
            "{}: this is {what}, not media, whatever its name says; nothing it points to was opened. Name the media file itself",
            shown_name(name)
        ),
    )
}

pub(crate) fn is_text(name: &str) -> Failure {
    Failure::of(
        FailureCode::NotMedia,
        format!("{}: this is a text file, not media; name a video or audio file", shown_name(name)),
    )
}

pub(crate) fn encrypted(name: &str) -> Failure {
    Failure::of(
        FailureCode::Encrypted,
        format!("{}: picture or sound is encrypted (DRM); use a copy without encryption", shown_name(name)),
    )
}

pub(crate) fn moov_missing(name: &str, is_broken: bool) -> Failure {
    let what = if is_broken { "moov is cut off or damaged" } else { "moov is missing" };
    Failure::of(
        FailureCode::Truncated,
        format!(
            "{}: truncated: {what}; the recording was cut off or the upload is incomplete. Upload it again, or repair the recording first",
            shown_name(name)
        ),
    )
}

/// `container` is ffmpeg's name of it.
pub(crate) fn unsupported_container(name: &str, container: &str) -> Failure {
    Failure::of(
        FailureCode::UnsupportedContainer,
        format!(
            "{}: the container {container} is not supported; repack the media first, for example: ffmpeg -i IN -c copy OUT.mkv",
            shown_name(name)
        ),
    )
}

/// Whether ffprobe knows the container and was not allowed to open it.
pub(crate) fn is_not_allowed(tail: &[String]) -> bool {
    tail.iter().any(|line| line.contains("Format not on whitelist"))
}

/// ffprobe could not open it.
pub(crate) fn not_opened(name: &str, tail: &[String]) -> Failure {
    let says = |words: &str| tail.iter().any(|line| line.contains(words));
    let failure = if says("moov atom not found") {
        moov_missing(name, false)
    } else if says("End of file") {
        Failure::of(
            FailureCode::Truncated,
            format!("{}: truncated: the file ends before any media; upload it again", shown_name(name)),
        )
    } else {
        Failure::of(
            FailureCode::NotMedia,
            format!(
                "{}: not recognised as media, or damaged at its start; check that it plays, and use a common container (mp4, mov, mkv, webm, ts, avi)",
                shown_name(name)
            ),
        )
    };
    failure.with_evidence(evidence(tail))
}

/// The source has tracks, but none of them can be decoded. `reasons` has a line per track.
pub(crate) fn nothing_decodable(name: &str, reasons: &[String], is_cut: bool, tail: &[String]) -> Failure {
    let (code, why) = if is_cut {
        (FailureCode::Truncated, "the file ends before its media; the upload is incomplete. Upload it again")
    } else if reasons.iter().any(|reason| reason.contains(NO_DECODER)) {
        (FailureCode::UnsupportedCodec, "convert it to a common codec first, or use an ffmpeg that decodes it")
    } else {
        (FailureCode::NoDecodableStream, "check that it plays")
    };
    let list = if reasons.is_empty() { "it has no tracks".to_owned() } else { reasons.join("; ") };
    Failure::of(code, format!("{}: no picture and no sound can be decoded ({list}); {why}", shown_name(name)))
        .with_evidence(evidence(tail))
}

/// Reason of tracks whose codec this ffmpeg cannot decode.
pub(crate) const NO_DECODER: &str = "no decoder";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_file_the_fault_and_the_remedy() {
        let failure = moov_missing("a\n\x1b[2Jb.mp4", false);
        assert_eq!(failure.code, "truncated");
        assert!(failure.message.contains("moov is missing; the recording was cut off or the upload is incomplete"));
        assert!(!failure.message.contains(['\n', '\x1b']), "{}", failure.message);
        assert!(shown_name(&"x".repeat(1000)).len() < 300);
        let vvc = nothing_decodable("x", &["video vvc: no decoder in this ffmpeg".into()], false, &[]);
        assert_eq!(vvc.code, "unsupported_codec");
    }
}
