//! Looks at the first bytes of a source: refuses what must never reach a demuxer, whatever its name. Pure.

/// Bytes that are looked at: an image of a Motion JPEG stream fits.
pub(crate) const HEAD_BYTES: usize = 1 << 20;
/// Bytes that decide whether a file is a text.
const TEXT_BYTES: usize = 4096;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// Nothing at all.
    Empty,
    /// A text that points to other files or to the network.
    Playlist(&'static str),
    /// Some other text.
    Text,
    /// ISO BMFF or QuickTime boxes.
    Boxes,
    /// JPEG images one behind the other.
    MotionJpeg,
    /// Anything else: the demuxers decide.
    Binary,
}

/// Box types that files start with.
const FIRST_BOXES: [&[u8; 4]; 9] = [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx"];

/// Start of image (ITU-T T.81 table B.1), and the first byte of the marker behind it.
const JPEG_START: &[u8] = b"\xff\xd8\xff";
/// End of an image and start of the next one.
const JPEG_NEXT: &[u8] = b"\xff\xd9\xff\xd8\xff";

/// Classifies the first [`HEAD_BYTES`] of a source.
pub(crate) fn sniff(head: &[u8]) -> Head {
    if head.is_empty() {
        return Head::Empty;
    }
    // ffmpeg takes such a file for a single image unless the demuxer is named.
    if head.starts_with(JPEG_START) && head.windows(JPEG_NEXT.len()).any(|bytes| bytes == JPEG_NEXT) {
        return Head::MotionJpeg;
    }
    let head = head.get(..TEXT_BYTES).unwrap_or(head);
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |words: &str| start.get(..words.len()).is_some_and(|s| s.eq_ignore_ascii_case(words.as_bytes()));
    let has = |words: &str| start.windows(words.len()).any(|w| w.eq_ignore_ascii_case(words.as_bytes()));
    if begins("#EXTM3U") {
        return Head::Playlist("an HLS playlist");
    }
    if begins("ffconcat") {
        return Head::Playlist("an ffmpeg concat script");
    }
    if begins("<MPD") || (begins("<") && has("<MPD")) {
        return Head::Playlist("a DASH manifest");
    }
    if begins("<SmoothStreamingMedia") || (begins("<") && has("<SmoothStreamingMedia")) {
        return Head::Playlist("a Smooth Streaming manifest");
    }
    if begins("v=0") && has("\no=") {
        return Head::Playlist("a session description (SDP)");
    }
    if begins("[playlist]") || begins("[Reference]") || begins("<asx") {
        return Head::Playlist("a playlist");
    }
    if head.get(4..8).is_some_and(|kind| FIRST_BOXES.iter().any(|known| known.as_slice() == kind)) {
        return Head::Boxes;
    }
    if is_text(head) { Head::Text } else { Head::Binary }
}

fn is_text(head: &[u8]) -> bool {
    // A character may be cut at the end of what was read.
    let readable = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    readable && !head.iter().any(|byte| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn playlists_are_known_by_content() {
        for text in [
            "#EXTM3U\n#EXT-X-VERSION:3\nhttp://10.0.0.1/x.ts\n",
            "\u{feff}\n  #extm3u\nfile:///etc/passwd",
            "ffconcat version 1.0\nfile /etc/passwd",
            "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\">",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96",
            "[playlist]\nFile1=http://x",
        ] {
            assert!(matches!(sniff(text.as_bytes()), Head::Playlist(_)), "{text}");
        }
    }

    #[test]
    fn other_heads() {
        assert_eq!(sniff(b""), Head::Empty);
        assert_eq!(sniff(b"hello, this is no film\n"), Head::Text);
        assert_eq!(sniff("Grüße".as_bytes()), Head::Text);
        assert_eq!(sniff(b"\0\0\0\x18ftypisom"), Head::Boxes);
        assert_eq!(sniff(b"\x1a\x45\xdf\xa3"), Head::Binary);
        assert_eq!(sniff(b"\xff\xd8\xff\xe0 one \xff\xd9"), Head::Binary);
        assert_eq!(sniff(b"\xff\xd8\xff\xe0 one \xff\xd9\xff\xd8\xff\xe0 two \xff\xd9"), Head::MotionJpeg);
        assert_eq!(sniff(b"\x47\x40\x00\x10\0\0"), Head::Binary);
    }

    proptest! {
        #[test]
        fn any_bytes_are_classified(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let head = sniff(&bytes);
            prop_assert_eq!(head == Head::Empty, bytes.is_empty());
        }
    }
}
