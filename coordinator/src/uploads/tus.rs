//! Headers of the tus protocol, version 1.0.0: how they are read and written. Pure.

use splitreel_backend::uploads::decode_base64;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// The version of the protocol.
pub const VERSION: &str = "1.0.0";
/// The extensions that are offered.
pub const EXTENSIONS: &str = "creation,creation-with-upload,expiration,termination,checksum";
/// Media type of a piece of an upload.
pub const PIECE: &str = "application/offset+octet-stream";

/// Longest `Upload-Metadata`, bytes.
const MAX_METADATA_BYTES: usize = 8192;
const MAX_PAIRS: usize = 64;
/// The start of the year 10000, in milliseconds since the epoch: an HTTP date has four digits for the year.
const END_MS: u64 = 253_402_300_800_000;

/// Reads `Upload-Metadata`: comma-separated pairs of a key and, after a space, a base64 value, which may be missing.
/// Values that are not UTF-8 are left out. `None`: it is malformed, or a key comes twice.
pub fn parse_metadata(header: &str) -> Option<BTreeMap<String, String>> {
    if header.len() > MAX_METADATA_BYTES {
        return None;
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut metadata = BTreeMap::new();
    if header.trim().is_empty() {
        return Some(metadata);
    }
    for pair in header.split(',') {
        let mut words = pair.split(' ').filter(|word| !word.is_empty());
        let (key, value) = (words.next()?, words.next().unwrap_or(""));
        if words.next().is_some() || !key.is_ascii() || !seen.insert(key) || seen.len() > MAX_PAIRS {
            return None;
        }
        if let Ok(value) = String::from_utf8(decode_base64(value)?) {
            metadata.insert(key.to_owned(), value);
        }
    }
    Some(metadata)
}

/// Reads `Upload-Length` or `Upload-Offset`: decimal digits, nothing else.
pub fn parse_count(header: &str) -> Option<u64> {
    let is_digits = !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit());
    is_digits.then(|| header.parse().ok()).flatten()
}

/// Milliseconds since the epoch as a date of RFC 9110 §5.6.7; outside of the years 1970 to 9999, the epoch.
pub fn http_date(at_ms: i64) -> String {
    let at = u64::try_from(at_ms).ok().filter(|ms| *ms < END_MS).unwrap_or(0);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn metadata_is_read() {
        let metadata = parse_metadata("filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential, x //8=").unwrap();
        assert_eq!(metadata["filename"], "world_domination_plan.pdf");
        assert_eq!(metadata["is_confidential"], "");
        assert!(!metadata.contains_key("x"));
        assert!(parse_metadata("").unwrap().is_empty());
        for bad in ["a YQ==,a YQ==", ",", "a !", "a YQ== YQ==", "ä YQ==", &"a".repeat(9000)] {
            assert_eq!(parse_metadata(bad), None, "{bad}");
        }
        assert_eq!(parse_metadata(&(0..65).map(|i| format!("k{i}")).collect::<Vec<_>>().join(",")), None);
    }

    #[test]
    fn counts_and_dates() {
        assert_eq!(parse_count("0"), Some(0));
        assert_eq!(parse_count("18446744073709551615"), Some(u64::MAX));
        for bad in ["", "-1", "+1", "1.0", " 1", "18446744073709551616"] {
            assert_eq!(parse_count(bad), None, "{bad}");
        }
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(i64::MAX), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(text in any::<String>()) {
            let _ = parse_metadata(&text).map(|metadata| assert!(metadata.len() <= MAX_PAIRS));
            let _ = parse_count(&text);
        }
    }
}
