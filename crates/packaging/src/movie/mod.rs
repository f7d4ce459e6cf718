//! Reads a `moov` box (ISO/IEC 14496-12 §8.2 ff.) into plain structures: tracks, edit lists, sample entries and the
//! sample table. Never looks at media bytes; every count is backed by bytes of the box.

mod edits;
mod sample_entry;
mod samples;

pub use edits::{Edit, EditMap, EditSpan};
pub use sample_entry::SampleEntry;
pub(crate) use sample_entry::children_at as sample_entry_children_at;
pub use samples::{MAX_SAMPLES, Sample, SampleTable, Samples};

use crate::bmff::{BmffError, BoxRef, Boxes, FourCc};

/// More tracks than any sane file has.
const MAX_TRACKS: usize = 512;
/// A track name longer than this is cut.
const MAX_NAME_BYTES: usize = 1024;

/// A parsed `moov`.
#[derive(Debug, Clone)]
pub struct Movie {
    /// Ticks per second of [`Movie::duration`] and of edit durations.
    pub timescale: u32,
    /// Duration in movie ticks; 0 in fragmented files, all ones when unknown.
    pub duration: u64,
    /// Whether `mvex` announces movie fragments (§8.8.1).
    pub fragmented: bool,
    /// The readable tracks in file order.
    pub tracks: Vec<Track>,
    /// Tracks that could not be read; the others stay usable.
    pub rejected: Vec<RejectedTrack>,
}

/// A track that could not be read.
#[derive(Debug, Clone)]
pub struct RejectedTrack {
    /// Position among all `trak` boxes, from 0.
    pub index: usize,
    /// Why.
    pub error: BmffError,
}

/// What kind of media a track holds, from `hdlr` (§8.4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// `vide`
    Video,
    /// `soun`
    Audio,
    /// `text`
    Text,
    /// `sbtl`
    ClosedText,
    /// `subt`
    Subtitle,
    /// `meta`
    Metadata,
    /// `tmcd`
    Timecode,
    /// Anything else.
    Other(FourCc),
}

impl From<FourCc> for Handler {
    fn from(code: FourCc) -> Self {
        match &code.0 {
            b"vide" => Self::Video,
            b"soun" => Self::Audio,
            b"text" => Self::Text,
            b"sbtl" => Self::ClosedText,
            b"subt" => Self::Subtitle,
            b"meta" => Self::Metadata,
            b"tmcd" => Self::Timecode,
            _ => Self::Other(code),
        }
    }
}

impl Handler {
    /// The handler type as it stands in `hdlr`.
    #[must_use]
    pub fn code(self) -> FourCc {
        match self {
            Self::Video => FourCc::new(b"vide"),
            Self::Audio => FourCc::new(b"soun"),
            Self::Text => FourCc::new(b"text"),
            Self::ClosedText => FourCc::new(b"sbtl"),
            Self::Subtitle => FourCc::new(b"subt"),
            Self::Metadata => FourCc::new(b"meta"),
            Self::Timecode => FourCc::new(b"tmcd"),
            Self::Other(code) => code,
        }
    }
}

/// What `trex` says about samples whose fragment does not (§8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SampleDefaults {
    /// 1-based index of the sample entry.
    pub description_index: u32,
    /// Duration in track ticks.
    pub duration: u32,
    /// Size in bytes.
    pub size: u32,
    /// Sample flags (§8.8.3.1).
    pub flags: u32,
}

/// One track.
#[derive(Debug, Clone)]
pub struct Track {
    /// `track_ID`.
    pub id: u32,
    /// Kind of media.
    pub handler: Handler,
    /// Ticks per second, never 0.
    pub timescale: u32,
    /// `mdhd` duration in track ticks.
    pub duration: u64,
    /// ISO 639-2/T code from `mdhd`, `und` when it holds none.
    pub language: [u8; 3],
    /// Name from `udta/name`.
    pub name: Option<String>,
    /// `track_enabled` of `tkhd`.
    pub enabled: bool,
    /// Presentation width, 16.16 fixed point.
    pub width: u32,
    /// Presentation height, 16.16 fixed point.
    pub height: u32,
    /// Display matrix {a b u, c d v, x y w}; u, v, w are 2.30, the others 16.16.
    pub matrix: [i32; 9],
    /// Edit list; empty when the track has none.
    pub edits: Vec<Edit>,
    /// Sample entries of `stsd`, in order.
    pub sample_entries: Vec<SampleEntry>,
    /// Samples that the `moov` lists; empty in fragmented files.
    pub samples: SampleTable,
    /// Defaults for fragments, when the file is fragmented.
    pub defaults: SampleDefaults,
}

impl Track {
    /// Whether any sample entry of the track is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.sample_entries.iter().any(|entry| entry.encrypted)
    }

    /// How the edit list maps media time to presentation time.
    pub fn presentation(&self, movie_timescale: u32) -> EditMap {
        EditMap::new(&self.edits, movie_timescale, self.timescale)
    }

    /// [`Track::language`] as text.
    pub fn language_code(&self) -> String {
        self.language.iter().map(|byte| char::from(*byte)).collect()
    }
}

impl Movie {
    /// Parses a whole `moov` box, header included; `offset` is where it stands in its file (for error messages).
    ///
    /// # Errors
    /// [`BmffError`] when the box or its `mvhd` is unusable. A track that is unusable ends up in [`Movie::rejected`].
    pub fn parse(moov: &[u8], offset: u64) -> Result<Self, BmffError> {
        let kind = FourCc::new(b"moov");
        let found = Boxes::new(moov, offset).find_kind(b"moov")?;
        let found = found.ok_or(BmffError::MissingBox { parent: kind, offset, kind })?;
        Self::from_box(&found)
    }

    fn from_box(moov: &BoxRef<'_>) -> Result<Self, BmffError> {
        let mut header = None;
        let mut defaults = Vec::new();
        let mut fragmented = false;
        let mut traks = Vec::new();
        for child in moov.children()? {
            let child = child?;
            match &child.kind.0 {
                b"mvhd" if header.is_none() => header = Some(movie_header(&child)?),
                b"trak" => traks.push(child),
                b"mvex" => {
                    fragmented = true;
                    defaults = track_extends(&child)?;
                }
                _ => {}
            }
        }
        let (timescale, duration) = header.ok_or(BmffError::MissingBox {
            parent: moov.kind,
            offset: moov.offset,
            kind: FourCc::new(b"mvhd"),
        })?;
        if traks.len() > MAX_TRACKS {
            return Err(BmffError::TooMany {
                kind: FourCc::new(b"trak"),
                what: "tracks",
                count: traks.len() as u64,
                limit: MAX_TRACKS as u64,
            });
        }
        let mut movie = Self { timescale, duration, fragmented, tracks: Vec::new(), rejected: Vec::new() };
        for (index, trak) in traks.iter().enumerate() {
            match track(trak) {
                Ok(mut track) => {
                    if let Some((_, found)) = defaults.iter().find(|(id, _)| *id == track.id) {
                        track.defaults = *found;
                    }
                    movie.tracks.push(track);
                }
                Err(error) => movie.rejected.push(RejectedTrack { index, error }),
            }
        }
        Ok(movie)
    }

    /// The track with this `track_ID`.
    pub fn track(&self, id: u32) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    /// Fragment defaults of the track with this `track_ID`; zeros when there are none.
    pub fn sample_defaults(&self, id: u32) -> SampleDefaults {
        self.track(id).map(|track| track.defaults).unwrap_or_default()
    }
}

fn movie_header(mvhd: &BoxRef<'_>) -> Result<(u32, u64), BmffError> {
    let mut fields = mvhd.fields();
    let (version, _) = fields.version_and_flags()?;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    let timescale = fields.u32()?;
    if timescale == 0 {
        return Err(mvhd.bad_value("timescale", 0));
    }
    Ok((timescale, fields.sized(version)?))
}

fn track_extends(mvex: &BoxRef<'_>) -> Result<Vec<(u32, SampleDefaults)>, BmffError> {
    let mut found = Vec::new();
    for child in mvex.children()? {
        let child = child?;
        if &child.kind.0 != b"trex" || found.len() >= MAX_TRACKS {
            continue;
        }
        let mut fields = child.fields();
        fields.skip(4)?;
        let id = fields.u32()?;
        found.push((
            id,
            SampleDefaults {
                description_index: fields.u32()?,
                duration: fields.u32()?,
                size: fields.u32()?,
                flags: fields.u32()?,
            },
        ));
    }
    Ok(found)
}

fn track(trak: &BoxRef<'_>) -> Result<Track, BmffError> {
    let tkhd = trak.require(b"tkhd")?;
    let mdia = trak.require(b"mdia")?;
    let (timescale, duration, language) = media_header(&mdia.require(b"mdhd")?)?;
    let handler = handler(&mdia.require(b"hdlr")?)?;
    let stbl = mdia.require(b"minf")?.require(b"stbl")?;

    let mut fields = tkhd.fields();
    let (version, flags) = fields.version_and_flags()?;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    let id = fields.u32()?;
    if id == 0 {
        return Err(tkhd.bad_value("track_ID", 0));
    }
    fields.skip(4)?;
    fields.sized(version)?;
    fields.skip(16)?;
    let mut matrix = [0i32; 9];
    for cell in &mut matrix {
        *cell = fields.i32()?;
    }
    let (width, height) = (fields.u32()?, fields.u32()?);

    // An unreadable name is no reason to lose the track, hence the lenient look-up.
    let name = trak
        .child(b"udta")
        .ok()
        .flatten()
        .and_then(|udta| udta.child(b"name").ok().flatten())
        .and_then(|name| track_name(name.payload));
    Ok(Track {
        id,
        handler,
        timescale,
        duration,
        language,
        name,
        enabled: flags & 1 != 0,
        width,
        height,
        matrix,
        edits: match trak.child(b"edts")?.map(|edts| edts.child(b"elst")).transpose()?.flatten() {
            Some(elst) => edits::parse(&elst)?,
            None => Vec::new(),
        },
        sample_entries: sample_entry::parse_all(&stbl.require(b"stsd")?, handler)?,
        samples: SampleTable::parse(&stbl)?,
        defaults: SampleDefaults::default(),
    })
}

fn media_header(mdhd: &BoxRef<'_>) -> Result<(u32, u64, [u8; 3]), BmffError> {
    let mut fields = mdhd.fields();
    let (version, _) = fields.version_and_flags()?;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    let timescale = fields.u32()?;
    if timescale == 0 {
        return Err(mdhd.bad_value("timescale", 0));
    }
    let duration = fields.sized(version)?;
    Ok((timescale, duration, unpack_language(fields.u16()?)))
}

/// Three letters of five bits each (§8.4.2.3); QuickTime's small Macintosh codes and junk become `und`.
fn unpack_language(packed: u16) -> [u8; 3] {
    let letters = [10, 5, 0].map(|shift| ((packed >> shift) & 0x1f) as u8);
    if letters.iter().all(|letter| (1..=26).contains(letter)) { letters.map(|letter| letter + 0x60) } else { *b"und" }
}

fn handler(hdlr: &BoxRef<'_>) -> Result<Handler, BmffError> {
    let mut fields = hdlr.fields();
    fields.skip(8)?;
    Ok(Handler::from(FourCc(fields.u32()?.to_be_bytes())))
}

fn track_name(payload: &[u8]) -> Option<String> {
    let text = payload.get(..payload.len().min(MAX_NAME_BYTES))?;
    let text = String::from_utf8_lossy(text);
    let text: String = text.trim_matches('\0').chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
