//! What an encoder left behind, read back: samples with exact times, the sample entry, where the bytes are.
//!
//! ffmpeg writes plain MP4 pieces; this reads their moov and nothing else. It never trusts that a piece is
//! what was asked for: the caller counts and compares.

use splitreel_packaging::bmff::{self, ReadAt};
use splitreel_packaging::init::normalise_sample_entry;
use splitreel_packaging::movie::{Handler, Movie};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A finished track of one piece.
#[derive(Clone, Debug)]
pub struct EncodedTrack {
    /// Ticks per second of the times.
    pub timescale: u32,
    /// Sample entry, without the boxes that differ from piece to piece.
    pub sample_entry: Vec<u8>,
    /// Samples in decode order.
    pub samples: Vec<EncodedSample>,
    /// Where the sample data is.
    pub payload: Payload,
    /// Ticks that play by the edit list, when it has an end.
    pub presented: Option<u64>,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedSample {
    /// Presentation time in ticks after the edit list: 0 is the start of the piece, priming is negative.
    pub pts: i64,
    /// Duration in ticks.
    pub duration: u32,
    /// Size in bytes.
    pub size: u32,
    /// Offset of the data in the payload.
    pub offset: u64,
    /// Random-access point.
    pub is_sync: bool,
}

/// Sample data.
#[derive(Clone, Debug)]
pub enum Payload {
    /// In a local file.
    File(PathBuf),
    /// In memory (tests and simulation).
    Memory(std::sync::Arc<Vec<u8>>),
}

/// Why a piece cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// The file cannot be read.
    #[error("the encoder's output cannot be read")]
    Io(#[from] io::Error),
    /// It is no MP4, or a damaged one.
    #[error("the encoder's output is not an MP4: {what}")]
    Format {
        /// What is wrong.
        what: String,
    },
    /// It has no samples.
    #[error("the encoder's output is empty")]
    Empty,
}

fn format_error(e: impl std::fmt::Display) -> PieceError {
    PieceError::Format { what: e.to_string() }
}

/// A file as [`ReadAt`].
pub struct LocalFile {
    file: File,
    len: u64,
}

impl LocalFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(LocalFile { file, len })
    }
}

impl ReadAt for LocalFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.file, buf, offset)
    }
}

impl EncodedTrack {
    /// Reads the first track of a plain MP4. Blocking.
    ///
    /// # Errors
    /// [`PieceError`].
    pub fn read(path: &Path) -> Result<Self, PieceError> {
        let file = LocalFile::open(path)?;
        let limits = bmff::ScanLimits::default();
        let layout = bmff::scan(&file, &limits).map_err(format_error)?;
        let moov = layout.first(b"moov").ok_or_else(|| format_error("no moov"))?;
        let bytes = bmff::read_box(&file, moov, &limits).map_err(format_error)?;
        let movie = Movie::parse(&bytes, moov.offset).map_err(format_error)?;
        let track = movie
            .tracks
            .iter()
            .find(|t| matches!(t.handler, Handler::Video | Handler::Audio))
            .ok_or_else(|| format_error("no media track"))?;
        let entry = match track.sample_entries.as_slice() {
            [one] => normalise_sample_entry(&one.raw).map_err(format_error)?,
            [] => return Err(PieceError::Empty),
            many => return Err(format_error(format!("{} sample entries", many.len()))),
        };
        // One stretch after an optional silence: what muxers write. Presentation = media − media_start + silence.
        let map = track.presentation(movie.timescale);
        let (shift, presented) = match map.spans() {
            [span] if span.media_start == i64::MIN => (0, None),
            [span] => (
                span.presentation_start - span.media_start,
                span.media_end.map(|e| (e - span.media_start).max(0) as u64),
            ),
            spans => return Err(format_error(format!("an edit list with {} stretches", spans.len()))),
        };
        let samples: Vec<EncodedSample> = track
            .samples
            .iter()
            .map(|s| EncodedSample {
                pts: s.pts() + shift,
                duration: s.duration,
                size: s.size,
                offset: s.offset,
                is_sync: s.is_sync,
            })
            .collect();
        if samples.is_empty() {
            return Err(PieceError::Empty);
        }
        Ok(EncodedTrack {
            timescale: track.timescale,
            sample_entry: entry,
            samples,
            payload: Payload::File(path.to_owned()),
            presented,
        })
    }
}

impl Payload {
    /// Appends the data of `samples` to `out`, in order. Blocking for files.
    ///
    /// # Errors
    /// Those of the file system; `UnexpectedEof` when a sample lies outside the data.
    pub fn copy(&self, samples: &[EncodedSample], out: &mut dyn io::Write) -> io::Result<()> {
        match self {
            Payload::Memory(data) => {
                for s in samples {
                    let start = usize::try_from(s.offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
                    let end = start.checked_add(s.size as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
                    out.write_all(data.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?)?;
                }
                Ok(())
            }
            Payload::File(path) => {
                let file = File::open(path)?;
                let mut buf = Vec::new();
                // Neighbouring samples are read in one go: a piece's samples nearly always follow each other.
                let mut i = 0;
                while let Some(first) = samples.get(i) {
                    let mut len = first.size as usize;
                    i += 1;
                    while let Some(next) =
                        samples.get(i).filter(|n| n.offset == first.offset + len as u64 && len < 1 << 20)
                    {
                        len += next.size as usize;
                        i += 1;
                    }
                    buf.resize(len, 0);
                    file.read_exact_at(&mut buf, first.offset)?;
                    out.write_all(&buf)?;
                }
                Ok(())
            }
        }
    }
}
