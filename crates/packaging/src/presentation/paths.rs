//! Where the files of a presentation lie, and the references between them.

use splitreel_core::MediaKind;

/// File name of the HLS multivariant playlist, at the root of a presentation.
pub const MULTIVARIANT_NAME: &str = "master.m3u8";
/// File name of the MPD, at the root of a presentation.
pub const MPD_NAME: &str = "manifest.mpd";
/// File name of each HLS media playlist, in the folder of its track.
pub const MEDIA_PLAYLIST_NAME: &str = "playlist.m3u8";

/// File name of the chunk manifest, inside the chunk folder.
pub const CHUNK_MANIFEST_NAME: &str = "manifest.json";
/// End of the name of the folder of a chunk set.
pub(crate) const CHUNK_FOLDER_END: &str = ".wp.chunks";
/// File name of the report, at the root of a presentation.
pub const REPORT_NAME: &str = "report.json";

fn folder(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Video => "v",
        MediaKind::Audio => "a",
        MediaKind::Text => "t",
        MediaKind::Images => "i",
    }
}

/// Path of an init segment in the usual layout: `v/1080p/init.mp4`.
#[must_use]
pub fn init_path(kind: MediaKind, id: &str) -> String {
    format!("{}/{id}/init.mp4", folder(kind))
}

/// Path of a CMAF media segment in the usual layout: `v/1080p/seg-00001.m4s`.
#[must_use]
pub fn segment_path(kind: MediaKind, id: &str, number: u64) -> String {
    format!("{}/{id}/seg-{number:05}.m4s", folder(kind))
}

/// Path of a media playlist in the usual layout: `v/1080p/playlist.m3u8`.
#[must_use]
pub fn media_playlist_path(kind: MediaKind, id: &str) -> String {
    format!("{}/{id}/{MEDIA_PLAYLIST_NAME}", folder(kind))
}

/// Whether a file of the usual layout may have this path, in a presentation whose single files are named after `base`.
#[must_use]
pub fn is_presentation_path(base: &str, path: &str) -> bool {
    let numbered = |name: &str, before: &str, after: &str| {
        let digits = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
    };
    let Some((folder, name)) = path.rsplit_once('/') else {
        return matches!(path, MULTIVARIANT_NAME | MPD_NAME | REPORT_NAME) || path.strip_suffix(".mp4") == Some(base);
    };
    if folder.strip_suffix(CHUNK_FOLDER_END) == Some(base) {
        return name == CHUNK_MANIFEST_NAME
            || name.strip_prefix(base).is_some_and(|rest| numbered(rest, ".part", ".mp4"));
    }
    let is_track = folder.contains('/') && is_presentation_folder(base, folder);
    is_track && (matches!(name, "init.mp4" | MEDIA_PLAYLIST_NAME) || numbered(name, "seg-", ".m4s"))
}

/// Whether a folder of the usual layout may have this path, in a presentation whose single files are named after `base`.
#[must_use]
pub fn is_presentation_folder(base: &str, path: &str) -> bool {
    let kinds = [MediaKind::Video, MediaKind::Audio, MediaKind::Text, MediaKind::Images];
    let (first, id) = path.split_once('/').unwrap_or((path, "id"));
    let is_kind = kinds.into_iter().any(|kind| folder(kind) == first);
    (is_kind && !id.is_empty() && !id.contains('/')) || path.strip_suffix(CHUNK_FOLDER_END) == Some(base)
}

/// The folder part of a path, without the trailing slash; empty at the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a path is relative, inside the root and printable, with non-empty components.
#[must_use]
pub fn is_safe_path(path: &str) -> bool {
    let component = |c: &str| !matches!(c, "" | "." | "..");
    path.split('/').all(component) && !path.chars().any(|c| c.is_control() || c == '\\')
}

/// The URI reference (RFC 3986, 4.2) that leads from a file in `folder` to `path`, both relative to the same root,
/// percent-encoded.
pub(crate) fn relative_uri(folder: &str, path: &str) -> String {
    let mut from = folder.split('/').filter(|c| !c.is_empty()).peekable();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut to = folders.split('/').filter(|c| !c.is_empty()).peekable();
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let mut uri: String = from.map(|_| "../").collect();
    for component in to {
        uri.push_str(&percent_encode(component));
        uri.push('/');
    }
    uri.push_str(&percent_encode(name));
    uri
}

/// Percent-encodes everything but RFC 3986 unreserved characters and `/`.
pub(crate) fn percent_encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_presentation_are_known_by_their_paths() {
        let ours = [
            "master.m3u8",
            "manifest.mpd",
            "report.json",
            "film.mp4",
            "film.wp.chunks/manifest.json",
            "film.wp.chunks/film.part0001.mp4",
        ];
        for path in ours.map(str::to_owned).into_iter().chain([
            init_path(MediaKind::Video, "720p"),
            segment_path(MediaKind::Audio, "1-eng", 100_000),
            media_playlist_path(MediaKind::Text, "1"),
        ]) {
            assert!(is_presentation_path("film", &path), "{path}");
            assert!(path.rsplit_once('/').is_none_or(|(folder, _)| is_presentation_folder("film", folder)), "{path}");
        }
        for path in [
            "notes.txt",
            "other.mp4",
            "v/notes.txt",
            "v/720p/seg-.m4s",
            "v/720p/x/init.mp4",
            "other.wp.chunks/manifest.json",
            "film.wp.chunks/film.part1.mov",
            "v",
            "seg-00001.m4s",
        ] {
            assert!(!is_presentation_path("film", path), "{path}");
        }
        assert!(!is_presentation_folder("film", "extras") && !is_presentation_folder("film", "v/720p/x"));
    }
}
