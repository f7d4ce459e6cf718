//! Closed captions inside coded video (CEA-608 and CEA-708 in ATSC A/53 Part 4 user data), found in the bytes of the
//! samples: what is announced is what was stored. Pure.

use memchr::memmem;
use serde::{Deserialize, Serialize};

/// Captions that a track carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Captions {
    /// CEA-608 in the first field: CC1.
    pub first_field: bool,
    /// CEA-608 in the second field: CC3.
    pub second_field: bool,
    /// CEA-708.
    pub services: bool,
}

impl Captions {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Captions::default()
    }

    /// Captions that one of the two has.
    #[must_use]
    pub fn or(self, other: Captions) -> Captions {
        Captions {
            first_field: self.first_field || other.first_field,
            second_field: self.second_field || other.second_field,
            services: self.services || other.services,
        }
    }

    /// Names of the channels, as HLS writes them in INSTREAM-ID (RFC 8216, 4.3.4.1).
    pub fn channels(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.first_field, "CC1"), (self.second_field, "CC3"), (self.services, "SERVICE1")];
        all.into_iter().filter(|(has, _)| *has).map(|(_, name)| name)
    }
}

/// Country and provider code of ITU-T T.35, `GA94` and the type of caption data: the same in H.264, HEVC and AV1.
const MARK: [u8; 8] = [0xb5, 0x00, 0x31, b'G', b'A', b'9', b'4', 0x03];
/// Bytes behind the mark: a count, a filler and at most 31 triples, with room for emulation prevention bytes.
const LONGEST: usize = 2 + 31 * 3 + 32;

/// Looks for captions in bytes that come piece by piece.
#[derive(Debug, Default)]
pub struct CaptionScan {
    carry: Vec<u8>,
    found: Captions,
}

impl CaptionScan {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.carry.is_empty() {
            self.look(bytes);
            self.keep(bytes);
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(bytes);
            self.look(&joined);
            self.keep(&joined);
        }
    }

    /// What was found.
    pub fn finish(self) -> Captions {
        self.found
    }

    /// Keeps the last bytes: a mark or its data may go on in the next piece. Data seen twice change nothing.
    fn keep(&mut self, bytes: &[u8]) {
        let from = bytes.len().saturating_sub(MARK.len() + LONGEST);
        self.carry = bytes.get(from..).unwrap_or_default().to_vec();
    }

    fn look(&mut self, bytes: &[u8]) {
        for at in memmem::find_iter(bytes, &MARK) {
            let data = bytes.get(at + MARK.len()..).unwrap_or_default();
            self.found = self.found.or(caption_data(data.get(..LONGEST).unwrap_or(data)));
        }
    }
}

/// What `cc_data` carries (ATSC A/53 Part 4, table 6.10). Triples without a character are padding.
fn caption_data(data: &[u8]) -> Captions {
    let data = without_emulation_prevention(data);
    let Some((&[flags, _], triples)) = data.split_first_chunk::<2>() else { return Captions::default() };
    let count = usize::from(flags & 0x1f);
    let mut found = Captions::default();
    for triple in triples.chunks_exact(3).take(count) {
        let &[marker, first, second] = triple else { continue };
        let is_valid = marker & 0xfc == 0xfc;
        let has_characters = (first | second) & 0x7f != 0;
        match marker & 3 {
            0 => found.first_field |= is_valid && has_characters,
            1 => found.second_field |= is_valid && has_characters,
            _ => found.services |= is_valid && has_characters,
        }
    }
    found
}

/// NAL units hold a 3 behind two zeros that is no data (ITU-T H.264, 7.4.1).
fn without_emulation_prevention(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut zeros = 0;
    for &byte in data {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(triples: &[[u8; 3]]) -> Vec<u8> {
        let mut out = MARK.to_vec();
        out.extend([0xc0 | triples.len() as u8, 0xff]);
        triples.iter().for_each(|triple| out.extend(triple));
        out
    }

    fn found(bytes: &[u8]) -> Captions {
        let mut scan = CaptionScan::default();
        scan.push(bytes);
        scan.finish()
    }

    #[test]
    fn channels_with_characters_are_found_and_padding_is_not() {
        assert!(found(&message(&[[0xfc, 0x80, 0x80], [0xfd, 0x80, 0x80], [0xfa, 0, 0]])).is_none());
        let both = found(&message(&[[0xfc, 0x94, 0x2c], [0xfd, 0x80, 0x80], [0xff, 0x02, 0x21]]));
        assert_eq!(both.channels().collect::<Vec<_>>(), ["CC1", "SERVICE1"]);
        assert_eq!(found(&message(&[[0xfd, 0x91, 0xae]])).channels().collect::<Vec<_>>(), ["CC3"]);
        assert!(found(&message(&[[0xf8, 0x94, 0x2c]])).is_none());
        assert!(found(&MARK).is_none() && found(b"GA94").is_none());
    }

    #[test]
    fn emulation_prevention_moves_no_triple() {
        let plain = message(&[[0xfa, 0, 0], [0xfc, 0x94, 0x2c]]);
        let at = MARK.len() + 2 + 3;
        let escaped = [&plain[..at], &[3], &plain[at..]].concat();
        assert_eq!(found(&escaped).channels().collect::<Vec<_>>(), ["CC1"]);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_what_the_whole_gives(
            noise in prop::collection::vec(any::<u8>(), 0..400), size in 1usize..300, at in 0usize..400,
        ) {
            let mut bytes = noise.clone();
            let at = at.min(bytes.len());
            bytes.splice(at..at, message(&[[0xfc, 0x94, 0x2c], [0xfd, 0x91, 0xae]]));
            let mut scan = CaptionScan::default();
            bytes.chunks(size).for_each(|piece| scan.push(piece));
            let whole = found(&bytes);
            prop_assert_eq!(scan.finish(), whole);
            prop_assert!(whole.first_field && whole.second_field);
        }
    }
}
