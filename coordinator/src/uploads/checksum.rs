//! Checksums of request bodies (tus checksum extension), and the base64 that tus writes them and metadata in.

use sha2::{Digest, Sha256};

/// Algorithms, as the header `Tus-Checksum-Algorithm` lists them. The protocol asks for SHA-1 at least.
pub const ALGORITHMS: &str = "sha1,sha256";

/// What a body must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-1 (FIPS 180-4): against accidents only.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// Why the header `Upload-Checksum` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// No algorithm of [`ALGORITHMS`].
    #[error("the algorithm is none of {ALGORITHMS}")]
    Algorithm,
    /// Not base64 of the right length.
    #[error("the checksum is not base64 of the right length")]
    Value,
}

impl Checksum {
    /// Reads the header `Upload-Checksum`: an algorithm, a space, base64.
    ///
    /// # Errors
    /// [`ChecksumError`].
    pub fn parse(header: &str) -> Result<Self, ChecksumError> {
        let (algorithm, value) = header.trim().split_once(' ').ok_or(ChecksumError::Value)?;
        let bytes = decode_base64(value.trim()).ok_or(ChecksumError::Value)?;
        match algorithm {
            "sha1" => bytes.try_into().map(Checksum::Sha1).map_err(|_| ChecksumError::Value),
            "sha256" => bytes.try_into().map(Checksum::Sha256).map_err(|_| ChecksumError::Value),
            _ => Err(ChecksumError::Algorithm),
        }
    }

    /// Starts to hash a body.
    pub fn hasher(&self) -> ChecksumHasher {
        match self {
            Checksum::Sha1(wanted) => ChecksumHasher::Sha1(Box::new(Sha1::new()), *wanted),
            Checksum::Sha256(wanted) => ChecksumHasher::Sha256(Sha256::new(), *wanted),
        }
    }
}

/// Hashes a body piece by piece.
pub enum ChecksumHasher {
    /// With what it must become.
    Sha1(Box<Sha1>, [u8; 20]),
    /// With what it must become.
    Sha256(Sha256, [u8; 32]),
}

impl ChecksumHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            ChecksumHasher::Sha1(hasher, _) => hasher.update(bytes),
            ChecksumHasher::Sha256(hasher, _) => hasher.update(bytes),
        }
    }

    /// Whether the bytes were the right ones.
    pub fn is_match(self) -> bool {
        match self {
            ChecksumHasher::Sha1(hasher, wanted) => hasher.finish() == wanted,
            ChecksumHasher::Sha256(hasher, wanted) => <[u8; 32]>::from(hasher.finalize()) == wanted,
        }
    }
}

/// SHA-1 (FIPS 180-4 §6.1).
pub struct Sha1 {
    state: [u32; 5],
    /// Less than a block.
    open: Vec<u8>,
    len: u64,
}

impl Sha1 {
    fn new() -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Sha1 { state, open: Vec::with_capacity(64), len: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if !self.open.is_empty() {
            let (head, rest) = bytes.split_at((64 - self.open.len()).min(bytes.len()));
            self.open.extend_from_slice(head);
            bytes = rest;
            if let Ok(block) = <[u8; 64]>::try_from(self.open.as_slice()) {
                self.block(&block);
                self.open.clear();
            }
        }
        let (blocks, rest) = bytes.as_chunks::<64>();
        for block in blocks {
            self.block(block);
        }
        self.open.extend_from_slice(rest);
    }

    fn finish(mut self) -> [u8; 20] {
        let bits = self.len.wrapping_mul(8).to_be_bytes();
        // One bit, then zeros up to the length at the end of a block.
        let zeros = (119 - self.open.len()) % 64;
        let mut tail = vec![0x80];
        tail.resize(1 + zeros, 0);
        tail.extend_from_slice(&bits);
        self.update(&tail);
        let mut out = [0; 20];
        for (place, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *place = word.to_be_bytes();
        }
        out
    }

    fn block(&mut self, block: &[u8; 64]) {
        // The schedule needs its last 16 words only.
        let mut last: std::collections::VecDeque<u32> =
            block.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
        let [mut a, mut b, mut c, mut d, mut e] = self.state;
        for round in 0..80 {
            let word = last.pop_front().unwrap_or(0);
            if let (Some(w2), Some(w8), Some(w13)) = (last.get(1), last.get(7), last.get(12)) {
                let next = (word ^ w2 ^ w8 ^ w13).rotate_left(1);
                last.push_back(next);
            }
            let (f, k) = match round {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (word, add) in self.state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(add);
        }
    }
}

/// Base64 of RFC 4648 §4; padding may be left out. `None`: it is not.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            bits = bits << 6 | u32::from(base64_value(*digit)?);
        }
        let whole = group.len() * 6 / 8;
        bits <<= 6 * (4 - group.len());
        let [_, three @ ..] = bits.to_be_bytes();
        if three.iter().skip(whole).any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend(three.iter().take(whole));
    }
    Some(bytes)
}

fn base64_value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sha1(bytes: &[u8]) -> String {
        let mut hasher = Sha1::new();
        hasher.update(bytes);
        hasher.finish().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn sha1_is_that_of_the_standard() {
        assert_eq!(sha1(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(sha1(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let two = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(sha1(two), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
        assert_eq!(sha1(&vec![b'a'; 1_000_000]), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    }

    #[test]
    fn headers_are_read() {
        let sha1 = Checksum::parse("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=").unwrap();
        let mut hasher = sha1.hasher();
        hasher.update(b"hello ");
        hasher.update(b"world");
        assert!(hasher.is_match());
        let mut hasher = Checksum::parse("sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=").unwrap().hasher();
        hasher.update(b"abc");
        assert!(hasher.is_match());
        assert!(!sha1.hasher().is_match());
        assert_eq!(Checksum::parse("md5 AAAA"), Err(ChecksumError::Algorithm));
        for bad in ["", "sha1", "sha1 ???", "sha1 AAAA", "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0="] {
            assert_eq!(Checksum::parse(bad), Err(ChecksumError::Value), "{bad}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zg", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(decode_base64(text).unwrap(), bytes.as_bytes());
        }
        for bad in ["Z", "Zh==", "Zg=", "Z===", "Zm9v=", "Z g=", "Zg==Zg==", "_-8="] {
            assert_eq!(decode_base64(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..400) {
            let cut = cut.min(bytes.len());
            let mut hasher = Sha1::new();
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            let pieces: String = hasher.finish().iter().map(|b| format!("{b:02x}")).collect();
            prop_assert_eq!(pieces, sha1(&bytes));
        }

        #[test]
        fn any_text_is_decoded_without_panic(text in any::<String>()) {
            let _ = decode_base64(&text).map(|bytes| assert!(bytes.len() <= text.len()));
        }
    }
}
