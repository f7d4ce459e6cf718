//! The frame list of an unfragmented mp4/mov from its `moov` alone, and what the box structure says about the file.

use super::candidate::{Candidate, Collector, Packet, Weight};
use super::margins::margins;
use splitreel_core::Rational;
use splitreel_core::source::{Container, IndexEvidence};
use splitreel_packaging::bmff::{Layout, ReadAt, ScanError, ScanLimits, read_box, scan};
use splitreel_packaging::movie::{Handler, Movie, Track};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file for the box scanner.
pub(crate) struct OnDisk {
    file: File,
    bytes: u64,
}

impl OnDisk {
    pub(crate) fn open(path: &Path) -> std::io::Result<OnDisk> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(OnDisk { file, bytes })
    }
}

impl ReadAt for OnDisk {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.file.read_at(buf, offset)
    }
}

/// The structure of an mp4/mov.
pub(crate) struct Boxed {
    pub(crate) layout: Layout,
    /// `None`: there is no `moov`, or it cannot be read.
    pub(crate) movie: Option<Movie>,
    /// The `moov` is there but reaches past the end of the file or is broken.
    pub(crate) is_moov_broken: bool,
}

impl Boxed {
    /// Reads the box structure. Blocks. `None` when these are no boxes after all.
    pub(crate) fn read(path: &Path) -> std::io::Result<Option<Boxed>> {
        let source = OnDisk::open(path)?;
        let limits = ScanLimits::default();
        let layout = match scan(&source, &limits) {
            Ok(layout) => layout,
            Err(ScanError::Read { source, .. }) => return Err(source),
            Err(_) => return Ok(None),
        };
        let Some(found) = layout.first(b"moov").copied() else {
            return Ok(Some(Boxed { layout, movie: None, is_moov_broken: false }));
        };
        let movie = match read_box(&source, &found, &limits) {
            Ok(data) => Movie::parse(&data, found.offset).ok(),
            Err(ScanError::Read { source, .. }) => return Err(source),
            Err(_) => None,
        };
        let is_moov_broken = movie.is_none();
        Ok(Some(Boxed { layout, movie, is_moov_broken }))
    }

    pub(crate) fn is_fragmented(&self) -> bool {
        self.layout.is_fragmented() || self.movie.as_ref().is_some_and(|movie| movie.fragmented)
    }

    /// Whether a video or audio track is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.movie
            .iter()
            .flat_map(|movie| &movie.tracks)
            .any(|track| matches!(track.handler, Handler::Video | Handler::Audio) && track.is_encrypted())
    }

    /// The track behind an ffmpeg stream.
    pub(crate) fn track(&self, id: u32) -> Option<(&Movie, &Track)> {
        let movie = self.movie.as_ref()?;
        Some((movie, movie.track(id)?))
    }
}

/// The frames of an unfragmented track. Samples beyond `file_bytes` are missing from the file.
pub(crate) fn frames_of(movie: &Movie, track: &Track, file_bytes: u64, max_frames: usize) -> Candidate {
    let mut collector =
        Collector::new(IndexEvidence::Moov, max_frames, i64::MAX, margins(Container::Mov, Rational::ONE, None));
    let map = track.presentation(movie.timescale).aligned_to_samples(track.samples.iter().map(|sample| sample.pts()));
    let mut is_short = false;
    let mut entries = (u16::MAX, 0u16);
    let mut has_empty = false;
    let mut is_first_shown = true;
    let mut seen_sync = false;
    let mut starts_without_sync = false;
    for sample in &track.samples {
        is_short |= sample.offset.saturating_add(u64::from(sample.size)) > file_bytes;
        has_empty |= sample.size == 0;
        entries = (entries.0.min(sample.sample_entry_index), entries.1.max(sample.sample_entry_index));
        seen_sync |= sample.is_sync;
        let end = sample.offset.checked_add(u64::from(sample.size));
        let Some(pts) = map.present(sample.pts()) else {
            collector.push_hidden(Some(sample.offset), end);
            continue;
        };
        if is_first_shown {
            starts_without_sync = !seen_sync;
            is_first_shown = false;
        }
        let taken = collector.push(Packet {
            pts: Some(pts),
            dts: Some(sample.dts),
            duration: i64::from(sample.duration),
            size: u64::from(sample.size),
            position: Some(sample.offset),
            end,
            // The first shown frame may lean on a keyframe in front of the edit; whether one is there is checked here.
            is_key: sample.is_sync,
            is_discarded: false,
            is_corrupt: false,
        });
        if !taken {
            break;
        }
    }
    let mut found = collector.finish();
    found.doubts.retain(|doubt| starts_without_sync || doubt.reason != "the first packet is no keyframe");
    if !map.is_plain() {
        found.doubt(Weight::Structural, "the edit list repeats or reorders media");
    }
    if !track.samples.is_consistent() {
        found.doubt(Weight::Structural, "the sample table contradicts itself");
    }
    if is_short {
        found.doubt(Weight::Strong, "the file ends before its last frame");
    }
    if has_empty {
        found.doubt(Weight::Strong, "samples are empty");
    }
    if entries.0 < entries.1 {
        found.doubt(Weight::Strong, "the track changes its codec configuration");
    }
    found
}
