//! Where the files of a presentation lie, and the references between them.

use splitreel_core::MediaKind;

/// File name of the HLS multivariant playlist, at the root of a presentation.
pub const MULTIVARIANT_NAME: &str = "master.m3u8";
/// File name of the MPD, at the root of a presentation.
pub const MPD_NAME: &str = "manifest.mpd";
/// File name of each HLS media playlist, in the folder of its track.
pub const MEDIA_PLAYLIST_NAME: &str = "playlist.m3u8";

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
