//! RFC 6381 codec strings from sample entries. Reads configuration boxes only; never guesses from a file name.

use crate::bmff::{BmffError, BoxRef, Boxes, FourCc};
use crate::init::entry_children_at;

/// Why there is no codec string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No rule is known for the sample entry.
    #[error("no codec string is known for sample entry '{fourcc}'")]
    Unknown {
        /// Its type, after removing protection.
        fourcc: FourCc,
    },
    /// The configuration box is absent.
    #[error("sample entry '{fourcc}' has no '{config}'")]
    MissingConfig {
        /// Type of the entry.
        fourcc: FourCc,
        /// The absent box.
        config: FourCc,
    },
    /// The configuration box is too short or contradicts itself.
    #[error("'{config}' in sample entry '{fourcc}' is malformed")]
    BadConfig {
        /// Type of the entry.
        fourcc: FourCc,
        /// The box.
        config: FourCc,
    },
    /// The sample entry is no sound box.
    #[error(transparent)]
    Box(#[from] BmffError),
}

/// The codec string of a sample entry box, such as `avc1.64001f`, `hvc1.1.6.L93.B0`, `mp4a.40.2` or `Opus`. For
/// encrypted entries that of the original format.
///
/// # Errors
/// [`CodecError`].
pub fn codec_string(sample_entry: &[u8]) -> Result<String, CodecError> {
    let kind = FourCc::new(b"stsd");
    let missing = BmffError::MissingBox { parent: kind, offset: 0, kind };
    let entry = Boxes::new(sample_entry, 0).next().transpose()?.ok_or(missing)?;
    let entry = Entry { fourcc: original_format(&entry)?, found: entry };
    let fourcc = entry.fourcc;
    match &fourcc.0 {
        b"avc1" | b"avc2" | b"avc3" | b"avc4" => avc(&entry),
        b"hvc1" | b"hev1" => hevc(&entry),
        b"dvh1" | b"dvhe" => dolby_vision(&entry),
        b"vp08" | b"vp09" => vpx(&entry),
        b"av01" => av1(&entry),
        b"mp4a" => mpeg4_audio(&entry),
        b"Opus" | b"fLaC" | b"ac-3" | b"ec-3" | b"alac" | b"wvtt" | b"stpp" => Ok(fourcc.to_string()),
        _ => Err(CodecError::Unknown { fourcc }),
    }
}

struct Entry<'a> {
    fourcc: FourCc,
    found: BoxRef<'a>,
}

impl<'a> Entry<'a> {
    fn config(&self, kind: &[u8; 4]) -> Result<&'a [u8], CodecError> {
        let (fourcc, config) = (self.fourcc, FourCc::new(kind));
        match child(&self.found, kind)? {
            Some(found) => Ok(found.payload),
            None => Err(CodecError::MissingConfig { fourcc, config }),
        }
    }

    fn bad(&self, kind: &[u8; 4]) -> CodecError {
        CodecError::BadConfig { fourcc: self.fourcc, config: FourCc::new(kind) }
    }
}

fn child<'a>(entry: &BoxRef<'a>, kind: &[u8; 4]) -> Result<Option<BoxRef<'a>>, BmffError> {
    match entry_children_at(entry) {
        Some(skip) => {
            let mut children = entry.children_after(skip)?;
            if let Some(found) = children.find_kind(kind)? {
                return Ok(Some(found));
            }
            // QuickTime puts the configuration of sound one level down.
            match entry.children_after(skip)?.find_kind(b"wave")? {
                Some(wave) => wave.child(kind),
                None => Ok(None),
            }
        }
        None => Ok(None),
    }
}

/// What `encv` or `enca` was before encryption (ISO/IEC 14496-12 §8.12.2).
fn original_format(entry: &BoxRef<'_>) -> Result<FourCc, CodecError> {
    if !matches!(&entry.kind.0, b"encv" | b"enca") {
        return Ok(entry.kind);
    }
    let missing = |config| CodecError::MissingConfig { fourcc: entry.kind, config: FourCc::new(config) };
    let sinf = child(entry, b"sinf")?.ok_or_else(|| missing(b"sinf"))?;
    let frma = sinf.child(b"frma")?.ok_or_else(|| missing(b"frma"))?;
    Ok(FourCc(frma.fields().u32()?.to_be_bytes()))
}

/// Profile, constraints and level as six hexadecimal digits (RFC 6381 §3.3).
fn avc(entry: &Entry<'_>) -> Result<String, CodecError> {
    let [_, profile, constraints, level, ..] = entry.config(b"avcC")? else {
        return Err(entry.bad(b"avcC"));
    };
    Ok(format!("{}.{profile:02x}{constraints:02x}{level:02x}", entry.fourcc))
}

/// ISO/IEC 14496-15 Annex E.3.
fn hevc(entry: &Entry<'_>) -> Result<String, CodecError> {
    let config = entry.config(b"hvcC")?;
    let Some(&[_, general, a, b, c, d, c0, c1, c2, c3, c4, c5, level]) = config.first_chunk::<13>() else {
        return Err(entry.bad(b"hvcC"));
    };
    let space = ["", "A", "B", "C"].get(usize::from(general >> 6)).copied().unwrap_or("");
    let tier = if general & 0x20 == 0 { 'L' } else { 'H' };
    let compatibility = u32::from_be_bytes([a, b, c, d]).reverse_bits();
    let mut text = format!("{}.{space}{}.{compatibility:X}.{tier}{level}", entry.fourcc, general & 0x1f);
    let constraints = [c0, c1, c2, c3, c4, c5];
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in constraints.iter().take(used) {
        text.push_str(&format!(".{byte:X}"));
    }
    Ok(text)
}

/// Profile and level (Dolby Vision Streams Within the ISO Base Media File Format, 4.1), else the string of HEVC.
fn dolby_vision(entry: &Entry<'_>) -> Result<String, CodecError> {
    for kind in [b"dvcC", b"dvvC"] {
        if let Ok(&[_, _, high, low, ..]) = entry.config(kind) {
            // Seven bits of profile, six of level.
            let level = ((high & 1) << 5) | (low >> 3);
            return Ok(format!("{}.{:02}.{level:02}", entry.fourcc, high >> 1));
        }
    }
    hevc(entry)
}

/// VP codec binding: profile, level, bit depth.
fn vpx(entry: &Entry<'_>) -> Result<String, CodecError> {
    let [_, _, _, _, profile, level, depth, ..] = entry.config(b"vpcC")? else {
        return Err(entry.bad(b"vpcC"));
    };
    Ok(format!("{}.{profile:02}.{level:02}.{:02}", entry.fourcc, depth >> 4))
}

/// AV1 binding §5, mandatory fields only: profile, level and tier, bit depth.
fn av1(entry: &Entry<'_>) -> Result<String, CodecError> {
    let [_, profile_and_level, flags, ..] = entry.config(b"av1C")? else {
        return Err(entry.bad(b"av1C"));
    };
    let tier = if flags & 0x80 == 0 { 'M' } else { 'H' };
    let depth = match flags & 0x60 {
        0 => 8,
        0x40 => 10,
        _ => 12,
    };
    Ok(format!("av01.{}.{:02}{tier}.{depth:02}", profile_and_level >> 5, profile_and_level & 0x1f))
}

/// Object type indication and, for MPEG-4 audio, the audio object type (RFC 6381 §3.3).
fn mpeg4_audio(entry: &Entry<'_>) -> Result<String, CodecError> {
    let (indication, object_type) = elementary_stream(entry.config(b"esds")?).ok_or_else(|| entry.bad(b"esds"))?;
    Ok(match object_type {
        Some(object_type) if indication == 0x40 => format!("mp4a.{indication:x}.{object_type}"),
        _ => format!("mp4a.{indication:x}"),
    })
}

const ES_DESCRIPTOR: u8 = 3;
const DECODER_CONFIG_DESCRIPTOR: u8 = 4;
const DECODER_SPECIFIC_INFO: u8 = 5;

/// Reads an `esds` payload (ISO/IEC 14496-1 §7.2.6): object type indication and audio object type.
fn elementary_stream(esds: &[u8]) -> Option<(u8, Option<u8>)> {
    let (tag, body, _) = descriptor(esds.get(4..)?)?;
    if tag != ES_DESCRIPTOR {
        return None;
    }
    let flags = *body.get(2)?;
    let mut skip = 3;
    if flags & 0x80 != 0 {
        skip += 2;
    }
    if flags & 0x40 != 0 {
        skip += 1 + usize::from(*body.get(skip)?);
    }
    if flags & 0x20 != 0 {
        skip += 2;
    }
    let (tag, config, _) = descriptor(body.get(skip..)?)?;
    if tag != DECODER_CONFIG_DESCRIPTOR {
        return None;
    }
    let indication = *config.first()?;
    let specific = config.get(13..).and_then(descriptor).filter(|(tag, ..)| *tag == DECODER_SPECIFIC_INFO);
    let object_type = specific.and_then(|(_, info, _)| match *info {
        [first, second, ..] if first >> 3 == 31 => Some(32 + ((first & 7) << 3 | second >> 5)),
        [first, ..] if first >> 3 != 31 => Some(first >> 3),
        _ => None,
    });
    Some((indication, object_type.filter(|object_type| *object_type != 0)))
}

/// Tag, body and rest of a descriptor; lengths are written in up to four groups of seven bits. A body that is cut short
/// is taken as far as it goes.
fn descriptor(data: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, mut rest) = data.split_first()?;
    let mut length = 0usize;
    for _ in 0..4 {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            let (body, after) = rest.split_at(length.min(rest.len()));
            return Some((tag, body, after));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmff::BoxWriter;
    use proptest::prelude::*;

    fn entry(kind: &[u8; 4], fixed: usize, children: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut w = BoxWriter::new();
        w.boxed(kind, |w| {
            w.zeros(fixed);
            for (kind, payload) in children {
                w.boxed(kind, |w| w.bytes(payload));
            }
        });
        w.into_bytes().unwrap()
    }

    fn video(kind: &[u8; 4], config: &[u8; 4], payload: &[u8]) -> String {
        codec_string(&entry(kind, 78, &[(config, payload)])).unwrap()
    }

    const AAC_ESDS: &[u8] = &[
        0, 0, 0, 0, 3, 0x80, 0x80, 0x80, 0x22, 0, 1, 0, 4, 0x80, 0x80, 0x80, 0x14, 0x40, 0x15, 0, 0, 0, 0, 1, 0xf4, 0,
        0, 1, 0xf4, 0, 5, 0x80, 0x80, 0x80, 2, 0x11, 0x90, 6, 0x80, 0x80, 0x80, 1, 2,
    ];

    #[test]
    fn pictures() {
        assert_eq!(video(b"avc1", b"avcC", &[1, 0x64, 0, 0x1f, 0xff]), "avc1.64001f");
        assert_eq!(video(b"avc3", b"avcC", &[1, 0x42, 0xc0, 0x0a]), "avc3.42c00a");
        let main = [1, 1, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93];
        assert_eq!(video(b"hvc1", b"hvcC", &main), "hvc1.1.6.L93.B0");
        let high_tier = [1, 0x62, 0x20, 0, 0, 0, 0x90, 0, 0, 8, 0, 0, 153];
        assert_eq!(video(b"hev1", b"hvcC", &high_tier), "hev1.A2.4.H153.90.0.0.8");
        assert_eq!(video(b"vp09", b"vpcC", &[1, 0, 0, 0, 2, 31, 0xa2, 1]), "vp09.02.31.10");
        assert_eq!(video(b"vp08", b"vpcC", &[1, 0, 0, 0, 0, 10, 0x82, 1]), "vp08.00.10.08");
        assert_eq!(video(b"av01", b"av1C", &[0x81, 0x08, 0x0c, 0]), "av01.0.08M.08");
        assert_eq!(video(b"av01", b"av1C", &[0x81, 0x2d, 0xcc, 0]), "av01.1.13H.10");
        assert_eq!(video(b"av01", b"av1C", &[0x81, 0x4d, 0x6c, 0]), "av01.2.13M.12");
    }

    #[test]
    fn sound_and_text() {
        assert_eq!(codec_string(&entry(b"mp4a", 28, &[(b"esds", AAC_ESDS)])).unwrap(), "mp4a.40.2");
        let mut mp3 = AAC_ESDS.to_vec();
        *mp3.get_mut(17).unwrap() = 0x6b;
        assert_eq!(codec_string(&entry(b"mp4a", 28, &[(b"esds", &mp3)])).unwrap(), "mp4a.6b");
        let mut usac = AAC_ESDS.to_vec();
        usac.get_mut(35..37).unwrap().copy_from_slice(&[0xf9, 0x40]);
        assert_eq!(codec_string(&entry(b"mp4a", 28, &[(b"esds", &usac)])).unwrap(), "mp4a.40.42");
        for kind in [b"Opus", b"fLaC", b"ac-3", b"ec-3", b"wvtt", b"stpp"] {
            assert_eq!(codec_string(&entry(kind, 28, &[])).unwrap().as_bytes(), kind);
        }
    }

    #[test]
    fn quicktime_wave_and_encryption() {
        let mut w = BoxWriter::new();
        w.boxed(b"mp4a", |w| {
            w.zeros(8);
            w.u16(1);
            w.zeros(34);
            w.boxed(b"wave", |w| {
                w.boxed(b"frma", |w| w.bytes(b"mp4a"));
                w.boxed(b"esds", |w| w.bytes(AAC_ESDS));
                w.zeros(4);
            });
        });
        assert_eq!(codec_string(&w.into_bytes().unwrap()).unwrap(), "mp4a.40.2");
        let sealed = entry(b"encv", 78, &[(b"avcC", &[1, 0x4d, 0x40, 0x28]), (b"sinf", b"\0\0\0\x0cfrmaavc1")]);
        assert_eq!(codec_string(&sealed).unwrap(), "avc1.4d4028");
    }

    #[test]
    fn errors_say_what_is_missing() {
        let fourcc = FourCc::new(b"avc1");
        let config = FourCc::new(b"avcC");
        assert_eq!(codec_string(&entry(b"avc1", 78, &[])), Err(CodecError::MissingConfig { fourcc, config }));
        assert_eq!(
            codec_string(&entry(b"avc1", 78, &[(b"avcC", &[1, 2])])),
            Err(CodecError::BadConfig { fourcc, config })
        );
        assert_eq!(codec_string(&entry(b"jpeg", 78, &[])), Err(CodecError::Unknown { fourcc: FourCc::new(b"jpeg") }));
        assert!(codec_string(&[]).is_err());
    }

    proptest! {
        #[test]
        fn any_configuration_is_answered(
            which in 0usize..6, payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let kinds: [(&[u8; 4], usize, &[u8; 4]); 6] = [
                (b"avc1", 78, b"avcC"), (b"hvc1", 78, b"hvcC"), (b"vp09", 78, b"vpcC"), (b"av01", 78, b"av1C"),
                (b"mp4a", 28, b"esds"), (b"encv", 78, b"sinf"),
            ];
            let (kind, fixed, config) = *kinds.get(which).unwrap();
            if let Ok(text) = codec_string(&entry(kind, fixed, &[(config, &payload)])) {
                prop_assert!(text.is_ascii());
            }
            let _ = codec_string(&payload);
        }
    }
}
