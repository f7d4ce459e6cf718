//! Faststart MP4 over unchanged media segments: the file is a header followed by the segment objects as they are. The
//! payload of its one `mdat` is those objects, including their `styp` and `moof` boxes, and the chunk offsets point past
//! them at the sample data, so that a store can put the file together by copying on its side. Keeps tables as runs.

mod tables;

use crate::bmff::{BmffError, BoxWriter};
use crate::fragment::FragmentSample;
use crate::init::{
    InitError, TrackHeader, TrackTimes, WrittenEdit, check_tracks, normalise_sample_entry, write_mvhd, write_stsd,
    write_trak,
};
use tables::Tables;

/// Movie timescale when no common multiple fits 32 bits.
const FALLBACK_TIMESCALE: u32 = 90_000;

/// A track of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressiveTrack {
    /// Its header; `delay` becomes the media time of the edit.
    pub header: TrackHeader,
    /// Silence or blank before the first presented sample in seconds, as numerator and denominator (not 0).
    pub leading_empty: (u64, u32),
    /// What is presented after that, in track ticks: without delay, priming and padding.
    pub presentation_duration: u64,
}

/// Why a file could not be put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgressiveError {
    /// A track header makes no sense.
    #[error(transparent)]
    Header(#[from] InitError),
    /// A segment belongs to a track that was not declared.
    #[error("track {track_id} was not declared")]
    UnknownTrack {
        /// The id given.
        track_id: u32,
    },
    /// A segment does not start where the one before it ended.
    #[error("segment {segment} of track {track_id} starts at tick {found} instead of {expected}")]
    NotContiguous {
        /// The track.
        track_id: u32,
        /// Position among all segments, from 0.
        segment: usize,
        /// Decode time that should follow.
        expected: u64,
        /// Decode time of the segment.
        found: u64,
    },
    /// A sample reaches past the end of its object.
    #[error("segment {segment} has {object_bytes} bytes, a sample ends at byte {sample_end}")]
    SampleOutsideObject {
        /// Position among all segments, from 0.
        segment: usize,
        /// Length of the object in bytes.
        object_bytes: u64,
        /// Where the sample ends.
        sample_end: u64,
    },
    /// More samples than 32-bit counts can express.
    #[error("track {track_id} has too many samples")]
    TooManySamples {
        /// The track.
        track_id: u32,
    },
    /// A track has no samples.
    #[error("track {track_id} has no samples")]
    EmptyTrack {
        /// The track.
        track_id: u32,
    },
    /// The leading empty edit has the denominator 0 or is absurdly long.
    #[error("track {track_id} has an invalid leading edit")]
    BadLeadingEdit {
        /// The track.
        track_id: u32,
    },
    /// The objects or times add up to more than 64 bits hold.
    #[error("sizes or times overflow at segment {segment}")]
    Overflow {
        /// Position among all segments, from 0.
        segment: usize,
    },
    /// A box outgrew its size field.
    #[error(transparent)]
    Box(#[from] BmffError),
}

/// The beginning of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressiveHeader {
    /// `ftyp`, `moov` and the header of `mdat`.
    pub bytes: Vec<u8>,
    /// Bytes of segment objects that have to follow.
    pub payload_bytes: u64,
}

impl ProgressiveHeader {
    /// Length of the complete file in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.payload_bytes.saturating_add(self.bytes.len() as u64)
    }
}

#[derive(Debug)]
struct TrackState {
    track: ProgressiveTrack,
    entry: Vec<u8>,
    tables: Tables,
    next_time: Option<u64>,
}

/// Collects segments, then writes the header.
#[derive(Debug)]
pub struct ProgressiveBuilder {
    timescale: u32,
    tracks: Vec<TrackState>,
    payload_bytes: u64,
    num_segments: usize,
}

impl ProgressiveBuilder {
    /// Starts a file with these tracks.
    ///
    /// # Errors
    /// [`ProgressiveError::Header`], [`ProgressiveError::BadLeadingEdit`], [`ProgressiveError::Box`].
    pub fn new(tracks: Vec<ProgressiveTrack>) -> Result<Self, ProgressiveError> {
        let headers: Vec<TrackHeader> = tracks.iter().map(|track| track.header.clone()).collect();
        check_tracks(&headers)?;
        for track in &tracks {
            let (num, den) = track.leading_empty;
            // 2^40 seconds are enough for every programme and keep the arithmetic in range.
            if den == 0 || num / u64::from(den) >= 1 << 40 {
                return Err(ProgressiveError::BadLeadingEdit { track_id: track.header.id });
            }
        }
        let timescale = movie_timescale(&tracks);
        let tracks = tracks
            .into_iter()
            .map(|track| {
                let entry = normalise_sample_entry(&track.header.sample_entry)?;
                Ok(TrackState { track, entry, tables: Tables::default(), next_time: None })
            })
            .collect::<Result<Vec<_>, BmffError>>()?;
        Ok(Self { timescale, tracks, payload_bytes: 0, num_segments: 0 })
    }

    /// Appends one segment object of `object_bytes` bytes. `samples` have their offsets from its first byte and are in
    /// decode order. `base_decode_time` must continue the track; that of the first segment becomes media time 0, so
    /// whatever presentation time it stands for belongs into [`ProgressiveTrack::leading_empty`].
    ///
    /// # Errors
    /// [`ProgressiveError`]; the builder is then unchanged and the call may be repeated with other values.
    pub fn push_segment(
        &mut self,
        track_id: u32,
        object_bytes: u64,
        base_decode_time: u64,
        samples: &[FragmentSample],
    ) -> Result<(), ProgressiveError> {
        let segment = self.num_segments;
        let state = self.tracks.iter_mut().find(|state| state.track.header.id == track_id);
        let state = state.ok_or(ProgressiveError::UnknownTrack { track_id })?;
        let expected = state.next_time.unwrap_or(base_decode_time);
        if expected != base_decode_time {
            return Err(ProgressiveError::NotContiguous { track_id, segment, expected, found: base_decode_time });
        }
        for sample in samples {
            let sample_end = sample.offset.saturating_add(sample.size.into());
            if sample_end > object_bytes {
                return Err(ProgressiveError::SampleOutsideObject { segment, object_bytes, sample_end });
            }
        }
        let overflow = ProgressiveError::Overflow { segment };
        let duration: u64 = samples.iter().map(|sample| u64::from(sample.duration)).sum();
        let next_time = base_decode_time.checked_add(duration).ok_or(overflow.clone())?;
        // Half of the range is kept free for the header.
        let payload_bytes = self.payload_bytes.checked_add(object_bytes).filter(|total| *total < 1 << 62);
        let payload_bytes = payload_bytes.ok_or(overflow)?;
        if !state.tables.has_room_for(samples.len()) {
            return Err(ProgressiveError::TooManySamples { track_id });
        }
        state.tables.push(self.payload_bytes, samples);
        state.next_time = Some(next_time);
        self.payload_bytes = payload_bytes;
        self.num_segments += 1;
        Ok(())
    }

    /// Ticks per second of the movie header: the least common multiple of all clocks when it fits 32 bits.
    pub fn movie_timescale(&self) -> u32 {
        self.timescale
    }

    /// Bytes of heap memory that the tables hold.
    pub fn heap_bytes(&self) -> usize {
        self.tracks.iter().map(|state| state.tables.heap_bytes()).sum()
    }

    /// Writes everything that precedes the segment objects.
    ///
    /// # Errors
    /// [`ProgressiveError::EmptyTrack`], [`ProgressiveError::Box`].
    pub fn finish(self) -> Result<ProgressiveHeader, ProgressiveError> {
        if let Some(state) = self.tracks.iter().find(|state| state.tables.is_empty()) {
            return Err(ProgressiveError::EmptyTrack { track_id: state.track.header.id });
        }
        // Offsets depend on the length of the header and its length on how wide they are. Widening only ever makes it
        // longer, so this settles after at most one round per track.
        let mut header_bytes = 0u64;
        let mut wide = vec![false; self.tracks.len()];
        loop {
            let bytes = self.write(header_bytes, &wide)?;
            let length = bytes.len() as u64;
            let mut is_settled = length == header_bytes;
            for (state, is_wide) in self.tracks.iter().zip(&mut wide) {
                let needs = state.tables.last_offset().saturating_add(length) > u64::from(u32::MAX);
                is_settled &= *is_wide || !needs;
                *is_wide |= needs;
            }
            if is_settled {
                return Ok(ProgressiveHeader { bytes, payload_bytes: self.payload_bytes });
            }
            header_bytes = length;
        }
    }

    fn write(&self, header_bytes: u64, wide: &[bool]) -> Result<Vec<u8>, ProgressiveError> {
        let headers: Vec<TrackHeader> = self.tracks.iter().map(|state| state.track.header.clone()).collect();
        let durations: Vec<(u64, u64)> = self.tracks.iter().map(|state| self.durations(&state.track)).collect();
        let longest = durations.iter().map(|(empty, shown)| empty.saturating_add(*shown)).max().unwrap_or(0);
        let mut w = BoxWriter::new();
        w.boxed(b"ftyp", |w| {
            w.bytes(b"isom");
            w.u32(0x200);
            w.bytes(b"isomiso6mp41mp42");
        });
        w.boxed(b"moov", |w| {
            write_mvhd(w, self.timescale, longest, &headers);
            for ((state, is_wide), (empty, shown)) in self.tracks.iter().zip(wide).zip(durations) {
                let gap = WrittenEdit { duration: empty, media_time: None };
                let media = WrittenEdit { duration: shown, media_time: Some(state.track.header.delay) };
                let both = [gap, media];
                let edits = if empty == 0 { both.get(1..).unwrap_or(&both) } else { &both };
                let times = TrackTimes {
                    movie_duration: empty.saturating_add(shown),
                    media_duration: state.tables.duration(),
                    edits,
                };
                write_trak(w, &state.track.header, &times, |w| {
                    write_stsd(w, &state.entry);
                    state.tables.write(w, header_bytes, *is_wide);
                });
            }
        });
        match u32::try_from(self.payload_bytes + 8) {
            Ok(size) => {
                w.u32(size);
                w.bytes(b"mdat");
            }
            Err(_) => {
                w.u32(1);
                w.bytes(b"mdat");
                w.u64(self.payload_bytes + 16);
            }
        }
        Ok(w.into_bytes()?)
    }

    /// Length of the empty edit and of what is presented, in movie ticks to the nearest.
    fn durations(&self, track: &ProgressiveTrack) -> (u64, u64) {
        let (num, den) = track.leading_empty;
        (
            rescale(num, self.timescale, den),
            rescale(track.presentation_duration, self.timescale, track.header.timescale),
        )
    }
}

/// `value * to / from`, to the nearest, halves up.
fn rescale(value: u64, to: u32, from: u32) -> u64 {
    let from = u128::from(from.max(1));
    u64::try_from((u128::from(value) * u128::from(to) * 2 + from) / (from * 2)).unwrap_or(u64::MAX)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn movie_timescale(tracks: &[ProgressiveTrack]) -> u32 {
    let clocks = tracks.iter().flat_map(|track| {
        let (num, den) = track.leading_empty;
        let reduced = u64::from(den) / greatest_common_divisor(num, den.into()).max(1);
        [u64::from(track.header.timescale), if num == 0 { 1 } else { reduced }]
    });
    let mut multiple = 1u64;
    for clock in clocks {
        // Both stay below 2^32, so the product fits.
        multiple = multiple / greatest_common_divisor(multiple, clock).max(1) * clock;
        if multiple > u64::from(u32::MAX) {
            return FALLBACK_TIMESCALE;
        }
    }
    u32::try_from(multiple).unwrap_or(FALLBACK_TIMESCALE)
}

#[cfg(test)]
mod tests;
