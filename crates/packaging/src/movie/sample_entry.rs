//! Sample entries of `stsd` (ISO/IEC 14496-12 §8.5.2, §12.1, §12.2; QuickTime sound descriptions). Keeps every entry's
//! bytes; codec configuration is interpreted in `codecs`, not here.

use super::Handler;
use crate::bmff::{BmffError, BoxRef, Boxes, FourCc};

/// Several sample entries are rare, hundreds are an attack.
const MAX_ENTRIES: usize = 256;
/// Bytes of a visual sample entry before its child boxes.
const VISUAL_BYTES: usize = 78;
/// Bytes of an ISO audio sample entry before its child boxes.
const AUDIO_BYTES: usize = 28;

/// One sample entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleEntry {
    /// Its type, such as `avc1` or `mp4a`.
    pub fourcc: FourCc,
    /// The whole box, header included.
    pub raw: Vec<u8>,
    /// Coded width in pixels; 0 when it is no visual entry.
    pub width: u16,
    /// Coded height in pixels; 0 when it is no visual entry.
    pub height: u16,
    /// Declared audio channels (the codec configuration may say otherwise); 0 when it is no audio entry.
    pub channels: u16,
    /// Declared sample rate in Hz (likewise); 0 when it is no audio entry.
    pub sample_rate: u32,
    /// Whether samples are encrypted (`encv`, `enca`, …, FairPlay's `drmi` and `drms`, or a `sinf` child; ISO/IEC
    /// 14496-12 §8.12).
    pub encrypted: bool,
}

impl SampleEntry {
    /// Parses one sample entry box.
    ///
    /// # Errors
    /// [`BmffError`] when its fixed fields are cut short.
    pub fn parse(raw: &[u8], handler: Handler) -> Result<Self, BmffError> {
        let kind = FourCc::new(b"stsd");
        let found = Boxes::new(raw, 0).next().transpose()?;
        Self::from_box(&found.ok_or(BmffError::MissingBox { parent: kind, offset: 0, kind })?, handler)
    }

    pub(super) fn from_box(entry: &BoxRef<'_>, handler: Handler) -> Result<Self, BmffError> {
        let mut fields = entry.fields();
        fields.skip(8)?;
        let mut parsed = Self {
            fourcc: entry.kind,
            raw: entry.raw.to_vec(),
            width: 0,
            height: 0,
            channels: 0,
            sample_rate: 0,
            encrypted: matches!(&entry.kind.0, b"encv" | b"enca" | b"enct" | b"encs" | b"drmi" | b"drms"),
        };
        match handler {
            Handler::Video => {
                fields.skip(16)?;
                parsed.width = fields.u16()?;
                parsed.height = fields.u16()?;
            }
            Handler::Audio => {
                let version = fields.u16()?;
                fields.skip(6)?;
                parsed.channels = fields.u16()?;
                fields.skip(6)?;
                parsed.sample_rate = fields.u32()? >> 16;
                if version == 2 {
                    // QuickTime version 2: the real values stand further back, the rate as a double.
                    fields.skip(4)?;
                    parsed.sample_rate = f64::from_bits(fields.u64()?) as u32;
                    parsed.channels = u16::try_from(fields.u32()?).unwrap_or(u16::MAX);
                }
            }
            _ => {}
        }
        if let Some(skip) = children_at(entry.payload, handler) {
            // Children are read leniently: only the presence of protection matters here.
            parsed.encrypted |= entry.children_after(skip)?.flatten().any(|child| &child.kind.0 == b"sinf");
        }
        Ok(parsed)
    }
}

/// Where the child boxes of a sample entry start in its payload; none when the kind of entry is unknown.
pub(crate) fn children_at(payload: &[u8], handler: Handler) -> Option<usize> {
    let at = match handler {
        Handler::Video => VISUAL_BYTES,
        Handler::Audio => match payload.get(8..10) {
            Some([0, 1]) => AUDIO_BYTES + 16,
            Some([0, 2]) => AUDIO_BYTES + 36,
            _ => AUDIO_BYTES,
        },
        _ => return None,
    };
    (payload.len() >= at).then_some(at)
}

/// Parses all entries of an `stsd` box.
pub(super) fn parse_all(stsd: &BoxRef<'_>, handler: Handler) -> Result<Vec<SampleEntry>, BmffError> {
    let mut fields = stsd.fields();
    fields.skip(4)?;
    let declared = fields.count(8)?;
    if declared > MAX_ENTRIES {
        return Err(BmffError::TooMany {
            kind: stsd.kind,
            what: "sample entries",
            count: declared as u64,
            limit: MAX_ENTRIES as u64,
        });
    }
    let mut entries = Vec::new();
    for entry in stsd.children_after(8)?.take(declared) {
        entries.push(SampleEntry::from_box(&entry?, handler)?);
    }
    if entries.is_empty() {
        return Err(stsd.bad_value("entry_count", 0));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmff::BoxWriter;

    fn audio(version: u16, tail: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
        let mut w = BoxWriter::new();
        w.boxed(b"mp4a", |w| {
            w.zeros(6);
            w.u16(1);
            w.u16(version);
            w.zeros(6);
            w.u16(2);
            w.u16(16);
            w.zeros(4);
            w.u32(44_100 << 16);
            tail(w);
        });
        w.into_bytes().unwrap()
    }

    #[test]
    fn iso_and_quicktime_sound() {
        let plain = SampleEntry::parse(&audio(0, |w| w.boxed(b"esds", |_| {})), Handler::Audio).unwrap();
        assert_eq!((plain.channels, plain.sample_rate, plain.encrypted), (2, 44_100, false));
        let protected = audio(1, |w| {
            w.zeros(16);
            w.boxed(b"sinf", |_| {});
        });
        assert!(SampleEntry::parse(&protected, Handler::Audio).unwrap().encrypted);
        let version2 = audio(2, |w| {
            w.u32(72);
            w.u64(96_000f64.to_bits());
            w.u32(6);
            w.zeros(20);
        });
        let parsed = SampleEntry::parse(&version2, Handler::Audio).unwrap();
        assert_eq!((parsed.channels, parsed.sample_rate), (6, 96_000));
    }

    #[test]
    fn short_entries_are_errors() {
        let mut w = BoxWriter::new();
        w.boxed(b"avc1", |w| w.zeros(20));
        let raw = w.into_bytes().unwrap();
        assert!(matches!(SampleEntry::parse(&raw, Handler::Video), Err(BmffError::Truncated { .. })));
        assert!(SampleEntry::parse(&[], Handler::Video).is_err());
    }
}
