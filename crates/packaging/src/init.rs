//! Init segments (CMAF headers, ISO/IEC 23000-19 §7.3.1) and the track boxes that they share with progressive files.
//! Sample entries are taken over byte for byte, except for what [`normalise_sample_entry`] says.

use crate::bmff::{BmffError, BoxRef, BoxWriter, Boxes, FourCc};
use crate::movie::{Handler, Movie, sample_entry_children_at};
use splitreel_core::side_data::SideData;

/// What a track header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackHeader {
    /// `track_ID`, not 0: by habit 1 for video, from 2 for audio.
    pub id: u32,
    /// Kind of media. Decides the handler and the media header box (ISO/IEC 14496-12 §12).
    pub handler: Handler,
    /// Ticks per second, not 0; for audio the sample rate.
    pub timescale: u32,
    /// BCP 47 tag or ISO 639-2/T code. Three letters go into `mdhd`; anything longer or shorter also into `elng`.
    pub language: String,
    /// One complete sample entry box.
    pub sample_entry: Vec<u8>,
    /// Stored width in pixels, 0 for sound.
    pub width: u32,
    /// Stored height in pixels, 0 for sound.
    pub height: u32,
    /// Sample aspect ratio, width : height; (1, 1) for square pixels.
    pub sar: (u32, u32),
    /// Display matrix {a b u, c d v, x y w} (§8.3.2.3); [`UNITY`] shows pictures as they are stored.
    pub matrix: [i32; 9],
    /// Composition delay or priming in track ticks: the media time that is presented first.
    pub delay: u64,
    /// Handler name, such as `Video`.
    pub name: String,
}

/// What plays of the last audio track. The edit list says the same, but libavformat before 7 does not apply edit
/// lists to fragments and would play the priming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gapless {
    /// Samples before the first that plays.
    pub priming: u32,
    /// Samples after the last that plays.
    pub padding: u32,
    /// Samples that play.
    pub num_samples: u64,
}

impl Gapless {
    /// Priming and padding of a track that holds `held` samples and plays `num_samples` of them. `None` without priming,
    /// and for Opus, whose sample entry states its priming (`PreSkip`, Encapsulation of Opus in ISO BMFF, 4.3.2).
    #[must_use]
    pub fn of(sample_entry: &[u8], priming: u32, held: u64, num_samples: u64) -> Option<Self> {
        let states_priming = sample_entry.get(4..8) == Some(b"Opus".as_slice());
        (priming > 0 && !states_priming).then(|| {
            let padding = held.saturating_sub(num_samples).saturating_sub(priming.into());
            Self { priming, padding: u32::try_from(padding).unwrap_or(0), num_samples }
        })
    }
}

/// The `iTunSMPB` comment of iTunes metadata: priming, padding and length in hexadecimal.
fn write_gapless(w: &mut BoxWriter, gapless: Gapless) {
    let Gapless { priming, padding, num_samples } = gapless;
    let unused = " 00000000".repeat(8);
    let text = format!(" 00000000 {priming:08X} {padding:08X} {num_samples:016X}{unused}");
    w.boxed(b"udta", |w| {
        w.full(b"meta", 0, 0, |w| {
            w.full(b"hdlr", 0, 0, |w| {
                w.u32(0);
                w.bytes(b"mdirappl");
                w.zeros(9);
            });
            w.boxed(b"ilst", |w| {
                w.boxed(b"----", |w| {
                    w.full(b"mean", 0, 0, |w| w.bytes(b"com.apple.iTunes"));
                    w.full(b"name", 0, 0, |w| w.bytes(b"iTunSMPB"));
                    w.boxed(b"data", |w| {
                        w.u32(1);
                        w.u32(0);
                        w.bytes(text.as_bytes());
                    });
                });
            });
        });
    });
}

/// Why a header could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// There has to be a track.
    #[error("no tracks")]
    NoTracks,
    /// A field of a track header makes no sense.
    #[error("track {id} has an invalid {field}")]
    BadTrack {
        /// `track_ID` given.
        id: u32,
        /// The field.
        field: &'static str,
    },
    /// Two tracks share an id.
    #[error("track id {id} is used twice")]
    DuplicateTrack {
        /// The id.
        id: u32,
    },
    /// Bytes could not be read, or a box outgrew its size field.
    #[error(transparent)]
    Box(#[from] BmffError),
}

/// Writes an init segment: `ftyp` and a `moov` without samples. Same input, same bytes. Only a header with a single
/// track carries the CMAF brand `cmfc`, since a CMAF track file has one track.
///
/// # Errors
/// [`InitError`].
pub fn write_init(tracks: &[TrackHeader], gapless: Option<Gapless>) -> Result<Vec<u8>, InitError> {
    check_tracks(tracks)?;
    let entries =
        tracks.iter().map(|track| normalise_sample_entry(&track.sample_entry)).collect::<Result<Vec<_>, _>>()?;
    let movie_timescale = tracks.first().map_or(1000, |track| track.timescale);
    let mut w = BoxWriter::new();
    w.boxed(b"ftyp", |w| {
        let brands: &[u8] = if tracks.len() == 1 { b"cmfciso6mp41" } else { b"iso6mp41" };
        w.bytes(brands.get(..4).unwrap_or(brands));
        w.u32(0);
        w.bytes(brands);
    });
    w.boxed(b"moov", |w| {
        write_mvhd(w, movie_timescale, 0, tracks);
        for (track, entry) in tracks.iter().zip(&entries) {
            // A delay of 0 needs no edit list; segment_duration 0 stands for all fragments to come (§8.6.6.1).
            let edits: &[WrittenEdit] = &[WrittenEdit { duration: 0, media_time: Some(track.delay) }];
            let edits = if track.delay == 0 { &[] } else { edits };
            write_trak(w, track, &TrackTimes { movie_duration: 0, media_duration: 0, edits }, |w| {
                write_stsd(w, entry);
                w.full(b"stts", 0, 0, |w| w.u32(0));
                w.full(b"stsc", 0, 0, |w| w.u32(0));
                w.full(b"stsz", 0, 0, |w| w.u64(0));
                w.full(b"stco", 0, 0, |w| w.u32(0));
            });
        }
        w.boxed(b"mvex", |w| {
            for track in tracks {
                w.full(b"trex", 0, 0, |w| {
                    w.u32(track.id);
                    w.u32(1);
                    w.zeros(12);
                });
            }
        });
        if let Some(gapless) = gapless {
            write_gapless(w, gapless);
        }
    });
    Ok(w.into_bytes()?)
}

/// Reads the `moov` of an init segment or of the beginning of a file that is in memory.
///
/// # Errors
/// [`InitError::Box`] when there is no complete, readable `moov`.
pub fn parse_init(bytes: &[u8]) -> Result<Movie, InitError> {
    let kind = FourCc::new(b"moov");
    let moov = Boxes::new(bytes, 0).find_kind(b"moov")?;
    let moov = moov.ok_or(BmffError::MissingBox { parent: FourCc::new(b"ftyp"), offset: 0, kind })?;
    Ok(Movie::parse(moov.raw, moov.offset)?)
}

/// A video sample entry with the boxes that its encoder left out: `pasp` (§12.1.4) where pixels are not square, `mdcv` and
/// `clli` (§12.1.6, §12.1.7) of its light metadata. Players look at the container before they see a frame.
///
/// # Errors
/// [`BmffError`] when it is no complete box or its child boxes are malformed.
pub fn completed(raw: &[u8], sar: (u32, u32), side_data: &SideData) -> Result<Vec<u8>, BmffError> {
    let kind = FourCc::new(b"stsd");
    let entry =
        Boxes::new(raw, 0).next().transpose()?.ok_or(BmffError::MissingBox { parent: kind, offset: 0, kind })?;
    let Some(skip) = entry_children_at(&entry) else {
        return Ok(entry.raw.to_vec());
    };
    let mastering = side_data.mastering.filter(|_| !has_child(&entry, skip, b"mdcv"));
    let light = side_data.light.filter(|_| !has_child(&entry, skip, b"clli"));
    let lacks_aspect = sar.0 != sar.1 && !has_child(&entry, skip, b"pasp");
    let mut w = BoxWriter::new();
    w.boxed(&entry.kind.0, |w| {
        w.bytes(entry.payload);
        if lacks_aspect {
            w.boxed(b"pasp", |w| {
                w.u32(sar.0);
                w.u32(sar.1);
            });
        }
        if let Some(mastering) = mastering {
            w.boxed(b"mdcv", |w| {
                mastering.primaries.iter().chain([&mastering.white]).flatten().for_each(|value| w.u16(*value));
                w.u32(mastering.max_luminance);
                w.u32(mastering.min_luminance);
            });
        }
        if let Some(light) = light {
            w.boxed(b"clli", |w| {
                w.u16(light.max_content);
                w.u16(light.max_average);
            });
        }
    });
    w.into_bytes()
}

fn has_child(entry: &BoxRef<'_>, skip: usize, kind: &[u8; 4]) -> bool {
    entry.children_after(skip).and_then(|mut children| children.find_kind(kind)).is_ok_and(|found| found.is_some())
}

/// The form of a sample entry in which pieces from different encoder runs compare equal and players accept it: without
/// `btrt` (a measured bit rate), and `hev1` renamed to `hvc1` when `hvcC` holds all parameter sets (Apple's players take
/// `hvc1` only), or to `dvh1` where the pictures are Dolby Vision without a base layer that other players show (Dolby
/// Vision Streams Within the ISO Base Media File Format, 3.1). Everything else stays as it is; applying it twice changes nothing more.
///
/// # Errors
/// [`BmffError`] when it is no complete box or its child boxes are malformed.
pub fn normalise_sample_entry(raw: &[u8]) -> Result<Vec<u8>, BmffError> {
    let kind = FourCc::new(b"stsd");
    let entry =
        Boxes::new(raw, 0).next().transpose()?.ok_or(BmffError::MissingBox { parent: kind, offset: 0, kind })?;
    let Some(skip) = entry_children_at(&entry) else {
        return Ok(entry.raw.to_vec());
    };
    let mut children = Vec::new();
    for child in entry.children_after(skip)? {
        children.push(child?);
    }
    let hvcc = children.iter().find(|child| &child.kind.0 == b"hvcC");
    let has_sets = hvcc.is_some_and(|hvcc| has_hevc_parameter_sets(hvcc.payload));
    let is_dolby_vision_only =
        children.iter().any(|child| &child.kind.0 == b"dvcC" && dolby_vision_profile(child.payload) == Some(5));
    let name = match &entry.kind.0 {
        b"hvc1" | b"hev1" if is_dolby_vision_only && has_sets => b"dvh1",
        b"hev1" if has_sets => b"hvc1",
        other => other,
    };
    let mut w = BoxWriter::new();
    w.boxed(name, |w| {
        w.bytes(entry.payload.get(..skip).unwrap_or(&[]));
        for child in children.iter().filter(|child| &child.kind.0 != b"btrt") {
            let at = w.position();
            w.bytes(child.raw);
            // A size of 0 ("to the end") would swallow what follows in the new place.
            if child.raw.starts_with(&[0, 0, 0, 0]) {
                w.patch(at, u32::try_from(child.raw.len()).unwrap_or(0));
            }
        }
    });
    w.into_bytes()
}

/// Where child boxes start in a sample entry, judged by its type alone.
pub(crate) fn entry_children_at(entry: &BoxRef<'_>) -> Option<usize> {
    let handler = match &entry.kind.0 {
        b"avc1" | b"avc2" | b"avc3" | b"avc4" | b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" | b"dvav" | b"dva1" | b"vvc1"
        | b"vvi1" | b"av01" | b"dav1" | b"vp08" | b"vp09" | b"mp4v" | b"encv" => Handler::Video,
        b"mp4a" | b"Opus" | b"fLaC" | b"alac" | b"ac-3" | b"ec-3" | b"ac-4" | b"dtsc" | b"dtsh" | b"dtsl" | b"dtse"
        | b"mlpa" | b".mp3" | b"enca" => Handler::Audio,
        b"wvtt" => return (entry.payload.len() >= 8).then_some(8),
        _ => return None,
    };
    sample_entry_children_at(entry.payload, handler)
}

/// `dv_profile` of a Dolby Vision configuration box: seven bits behind two bytes of version.
fn dolby_vision_profile(config: &[u8]) -> Option<u8> {
    config.get(2).map(|byte| byte >> 1)
}

/// Whether an HEVC configuration (ISO/IEC 14496-15 §8.3.2.1) carries VPS, SPS and PPS.
fn has_hevc_parameter_sets(config: &[u8]) -> bool {
    let Some((&num_arrays, mut rest)) = config.get(22..).and_then(<[u8]>::split_first) else {
        return false;
    };
    let mut found = [false; 3];
    for _ in 0..num_arrays {
        let Some((&[kind, high, low], mut tail)) = rest.split_first_chunk::<3>() else {
            return false;
        };
        for _ in 0..u16::from_be_bytes([high, low]) {
            let Some((length, after)) = tail.split_first_chunk::<2>() else {
                return false;
            };
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(after) = after.get(length..) else {
                return false;
            };
            if let Some(slot) = usize::from(kind & 0x3f).checked_sub(32).and_then(|at| found.get_mut(at)) {
                *slot |= length > 0;
            }
            tail = after;
        }
        rest = tail;
    }
    found == [true; 3]
}

pub(crate) fn check_tracks(tracks: &[TrackHeader]) -> Result<(), InitError> {
    if tracks.is_empty() {
        return Err(InitError::NoTracks);
    }
    for (index, track) in tracks.iter().enumerate() {
        let id = track.id;
        let checks = [
            (id != 0, "id"),
            (track.timescale != 0, "timescale"),
            (track.sar.0 != 0 && track.sar.1 != 0, "sample aspect ratio"),
            (track.width <= 0xffff && track.height <= 0xffff, "size"),
            (i64::try_from(track.delay).is_ok(), "delay"),
        ];
        if let Some((_, field)) = checks.into_iter().find(|(is_sound, _)| !is_sound) {
            return Err(InitError::BadTrack { id, field });
        }
        if tracks.iter().take(index).any(|other| other.id == id) {
            return Err(InitError::DuplicateTrack { id });
        }
    }
    Ok(())
}

/// An edit to be written; no media time stands for an empty edit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WrittenEdit {
    /// In movie ticks.
    pub(crate) duration: u64,
    /// In track ticks.
    pub(crate) media_time: Option<u64>,
}

/// Durations and edits of a track to be written.
pub(crate) struct TrackTimes<'a> {
    /// In movie ticks.
    pub(crate) movie_duration: u64,
    /// In track ticks.
    pub(crate) media_duration: u64,
    pub(crate) edits: &'a [WrittenEdit],
}

/// The unity matrix (§8.2.2.2).
pub const UNITY: [i32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// Version 1 of a header box is used only for durations that need it.
fn version_for(duration: u64) -> u8 {
    u8::from(duration > u64::from(u32::MAX))
}

fn write_sized(w: &mut BoxWriter, version: u8, value: u64) {
    if version == 1 {
        w.u64(value);
    } else {
        // The version was chosen from this value, so it fits.
        w.u32(value as u32);
    }
}

pub(crate) fn write_mvhd(w: &mut BoxWriter, timescale: u32, duration: u64, tracks: &[TrackHeader]) {
    let version = version_for(duration);
    w.full(b"mvhd", version, 0, |w| {
        write_sized(w, version, 0);
        write_sized(w, version, 0);
        w.u32(timescale);
        write_sized(w, version, duration);
        w.u32(0x1_0000);
        w.u16(0x0100);
        w.zeros(10);
        write_matrix(w, UNITY);
        w.zeros(24);
        w.u32(tracks.iter().map(|track| track.id).max().unwrap_or(0).saturating_add(1));
    });
}

pub(crate) fn write_stsd(w: &mut BoxWriter, entry: &[u8]) {
    w.full(b"stsd", 0, 0, |w| {
        w.u32(1);
        w.bytes(entry);
    });
}

/// Writes a `trak`; `tables` writes the children of `stbl`.
pub(crate) fn write_trak(
    w: &mut BoxWriter,
    track: &TrackHeader,
    times: &TrackTimes<'_>,
    tables: impl FnOnce(&mut BoxWriter),
) {
    w.boxed(b"trak", |w| {
        write_tkhd(w, track, times.movie_duration);
        if !times.edits.is_empty() {
            w.boxed(b"edts", |w| write_elst(w, times.edits));
        }
        w.boxed(b"mdia", |w| {
            write_mdhd(w, track, times.media_duration);
            w.full(b"hdlr", 0, 0, |w| {
                w.u32(0);
                w.bytes(&track.handler.code().0);
                w.zeros(12);
                w.bytes(track.name.replace('\0', "").as_bytes());
                w.u8(0);
            });
            if !is_iso_code(&track.language) {
                w.full(b"elng", 0, 0, |w| {
                    w.bytes(track.language.replace('\0', "").as_bytes());
                    w.u8(0);
                });
            }
            w.boxed(b"minf", |w| {
                match track.handler {
                    Handler::Video => w.full(b"vmhd", 0, 1, |w| w.zeros(8)),
                    Handler::Audio => w.full(b"smhd", 0, 0, |w| w.zeros(4)),
                    Handler::Subtitle => w.full(b"sthd", 0, 0, |_| {}),
                    _ => w.full(b"nmhd", 0, 0, |_| {}),
                }
                w.boxed(b"dinf", |w| {
                    w.full(b"dref", 0, 0, |w| {
                        w.u32(1);
                        // Flag 1: the media data are in this file.
                        w.full(b"url ", 0, 1, |_| {});
                    });
                });
                w.boxed(b"stbl", tables);
            });
        });
    });
}

fn write_tkhd(w: &mut BoxWriter, track: &TrackHeader, duration: u64) {
    let version = version_for(duration);
    // Enabled, in movie, in preview.
    w.full(b"tkhd", version, 7, |w| {
        write_sized(w, version, 0);
        write_sized(w, version, 0);
        w.u32(track.id);
        w.u32(0);
        write_sized(w, version, duration);
        w.zeros(8);
        w.u16(0);
        w.u16(u16::from(track.handler == Handler::Audio));
        w.u16(if track.handler == Handler::Audio { 0x0100 } else { 0 });
        w.u16(0);
        write_matrix(w, track.matrix);
        w.u32(presentation_width(track));
        w.u32(track.height << 16);
    });
}

fn write_matrix(w: &mut BoxWriter, matrix: [i32; 9]) {
    matrix.into_iter().for_each(|cell| w.bytes(&cell.to_be_bytes()));
}

/// Stored width times sample aspect ratio, 16.16 fixed point, rounded to the nearest (§8.3.2.3, §12.1.4).
fn presentation_width(track: &TrackHeader) -> u32 {
    let (num, den) = (u128::from(track.sar.0), u128::from(track.sar.1.max(1)));
    let fixed = ((u128::from(track.width) << 16) * num * 2 + den) / (den * 2);
    u32::try_from(fixed).unwrap_or(u32::MAX)
}

fn write_elst(w: &mut BoxWriter, edits: &[WrittenEdit]) {
    let fits = |edit: &WrittenEdit| {
        u32::try_from(edit.duration).is_ok() && edit.media_time.is_none_or(|time| i32::try_from(time).is_ok())
    };
    let version = u8::from(!edits.iter().all(fits));
    w.full(b"elst", version, 0, |w| {
        w.u32(edits.len() as u32);
        for edit in edits {
            write_sized(w, version, edit.duration);
            // All ones is -1 in either width.
            write_sized(w, version, edit.media_time.unwrap_or(u64::MAX));
            w.u32(0x1_0000);
        }
    });
}

fn write_mdhd(w: &mut BoxWriter, track: &TrackHeader, duration: u64) {
    let version = version_for(duration);
    w.full(b"mdhd", version, 0, |w| {
        write_sized(w, version, 0);
        write_sized(w, version, 0);
        w.u32(track.timescale);
        write_sized(w, version, duration);
        w.u16(pack_language(&track.language));
        w.u16(0);
    });
}

fn is_iso_code(language: &str) -> bool {
    language.len() == 3 && language.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Three letters of five bits (§8.4.2.3); `und` for what is not an ISO 639-2 code.
fn pack_language(language: &str) -> u16 {
    let code = if is_iso_code(language) { language } else { "und" };
    code.bytes().fold(0, |packed, letter| packed << 5 | u16::from(letter - 0x60))
}

#[cfg(test)]
mod tests;
