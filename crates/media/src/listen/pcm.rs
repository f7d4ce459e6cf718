//! Blocks of PCM with their times, read from a Matroska stream as it comes out of ffmpeg. Only what ffmpeg's muxer writes
//! for one track of 32-bit floats: RFC 9559 (Matroska), RFC 8794 (EBML).

use splitreel_core::levels::{Levels, Meter};

/// Largest element that is kept in memory.
const MAX_ELEMENT_BYTES: u64 = 64 << 20;

const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const AUDIO: u32 = 0xE1;
const SAMPLING_FREQUENCY: u32 = 0xB5;
const CHANNELS: u32 = 0x9F;
const CLUSTER: u32 = 0x1F43_B675;
const TIMESTAMP: u32 = 0xE7;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;
const SIMPLE_BLOCK: u32 = 0xA3;

/// Why the stream cannot be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PcmError {
    /// An element is damaged or beyond all proportion.
    #[error("the decoder's stream is damaged")]
    Damaged,
    /// The stream has no audio.
    #[error("the decoder delivered nothing")]
    Empty,
}

/// Reads the stream piece by piece.
pub(super) struct PcmReader {
    lead_ms: i64,
    buffer: Vec<u8>,
    /// Bytes of an unused element that are still to come.
    skip: u64,
    rate: f64,
    channels: usize,
    cluster_ms: i64,
    meter: Option<Meter>,
    samples: Vec<f32>,
    is_damaged: bool,
}

impl PcmReader {
    /// `lead_ms` is taken from all times.
    pub(super) fn new(lead_ms: i64) -> Self {
        PcmReader {
            lead_ms,
            buffer: Vec::new(),
            skip: 0,
            rate: 8_000.0,
            channels: 1,
            cluster_ms: 0,
            meter: None,
            samples: Vec::new(),
            is_damaged: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.is_damaged {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while let Some(read) = self.element(rest) {
            rest = rest.get(read..).unwrap_or_default();
        }
        self.buffer = rest.to_vec();
    }

    /// Takes one element, or the head of one that holds others, and returns its bytes; `None` until more bytes are there.
    fn element(&mut self, rest: &[u8]) -> Option<usize> {
        if self.skip > 0 {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
            self.skip -= skipped as u64;
            return (skipped > 0).then_some(skipped);
        }
        let (id, id_bytes) = id(rest)?;
        let (size, size_bytes) = size(rest.get(id_bytes..)?)?;
        let head = id_bytes + size_bytes;
        match id {
            SEGMENT | TRACKS | TRACK_ENTRY | AUDIO | CLUSTER | BLOCK_GROUP => return Some(head),
            SAMPLING_FREQUENCY | CHANNELS | TIMESTAMP | BLOCK | SIMPLE_BLOCK if size <= MAX_ELEMENT_BYTES => {}
            _ if size < u64::MAX => {
                self.skip = size;
                return Some(head);
            }
            _ => {
                self.is_damaged = true;
                return None;
            }
        }
        let end = head.checked_add(usize::try_from(size).ok()?)?;
        let data = rest.get(head..end)?;
        match id {
            SAMPLING_FREQUENCY => self.rate = float(data).unwrap_or(self.rate),
            CHANNELS => self.channels = usize::try_from(uint(data)).unwrap_or(0).clamp(1, 64),
            TIMESTAMP => self.cluster_ms = i64::try_from(uint(data)).unwrap_or(0),
            _ => self.block(data),
        }
        Some(end)
    }

    /// A block: track number, time of 16 bits from the cluster's, flags, samples.
    fn block(&mut self, data: &[u8]) {
        let Some((_, track_bytes)) = size(data) else { return };
        let Some([high, low, _flags, samples @ ..]) = data.get(track_bytes..) else { return };
        let start_ms = self.cluster_ms + i64::from(i16::from_be_bytes([*high, *low])) - self.lead_ms;
        self.samples.clear();
        self.samples.extend(samples.chunks_exact(4).map(|b| match b {
            [a, b, c, d] => f32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0.0,
        }));
        let (rate, channels) = (self.rate.round() as u32, self.channels);
        self.meter.get_or_insert_with(|| Meter::new(rate, channels)).push(start_ms, &self.samples);
    }

    /// The levels of the whole stream.
    pub(super) fn finish(self) -> Result<Levels, PcmError> {
        if self.is_damaged {
            return Err(PcmError::Damaged);
        }
        self.meter.map(Meter::finish).ok_or(PcmError::Empty)
    }
}

/// An element's id with its marker, and its length in bytes.
fn id(bytes: &[u8]) -> Option<(u32, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    let id = bytes.get(..length.min(4))?.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
    Some((id, length.min(4)))
}

/// An element's size, `u64::MAX` when it is not known, and the length of the field in bytes.
fn size(bytes: &[u8]) -> Option<(u64, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    if length > 8 {
        return Some((u64::MAX, 1));
    }
    let value = bytes.get(..length)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = (1u64 << (7 * length)) - 1;
    Some((if value & mask == mask { u64::MAX } else { value & mask }, length))
}

fn uint(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn float(bytes: &[u8]) -> Option<f64> {
    match bytes {
        [a, b, c, d] => Some(f64::from(f32::from_be_bytes([*a, *b, *c, *d]))),
        _ => Some(f64::from_be_bytes(bytes.try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(id: &[u8], data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len()).unwrap() | 0x1000_0000;
        [id, &size.to_be_bytes(), data].concat()
    }

    /// A stream of one track of 8 kHz with two channels; the second channel is silent.
    fn stream(blocks: &[(u16, i16)]) -> Vec<u8> {
        let audio = [element(&[0xB5], &8_000f64.to_be_bytes()), element(&[0x9F], &[2])].concat();
        let entry = element(&[0xAE], &element(&[0xE1], &audio));
        let mut all = element(&[0x1A, 0x45, 0xDF, 0xA3], &[0; 20]);
        all.extend([0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        all.extend(element(&[0x16, 0x54, 0xAE, 0x6B], &entry));
        for (cluster, offset) in blocks {
            let samples: Vec<u8> = (0..8_000).flat_map(|_| [0.5f32, 0.0]).flat_map(f32::to_le_bytes).collect();
            let block = [&[0x81][..], &offset.to_be_bytes(), &[0x80], &samples].concat();
            let time = element(&[0xE7], &cluster.to_be_bytes());
            all.extend(element(&[0x1F, 0x43, 0xB6, 0x75], &[time, element(&[0xA3], &block)].concat()));
        }
        all
    }

    fn read(bytes: &[u8], step: usize) -> Result<Levels, PcmError> {
        let mut reader = PcmReader::new(1_000);
        bytes.chunks(step).for_each(|piece| reader.push(piece));
        reader.finish()
    }

    #[test]
    fn blocks_are_measured_at_their_times_however_the_stream_is_cut() {
        let stream = stream(&[(1_000, 0), (4_000, -1_000)]);
        let levels = read(&stream, stream.len()).unwrap();
        assert_eq!((levels.sample_rate, levels.samples, levels.first_ms, levels.last_ms), (8_000, 16_000, 0, 3_000));
        let silence = splitreel_core::levels::SILENCE;
        assert_eq!(levels.seconds, [vec![-60, silence, -60], vec![silence; 3]]);
        for step in [1, 7, 4096] {
            assert_eq!(read(&stream, step).unwrap(), levels);
        }
    }

    #[test]
    fn no_audio_and_no_matroska_are_errors() {
        assert_eq!(read(&stream(&[]), 100), Err(PcmError::Empty));
        assert_eq!(read(&[0; 100], 100), Err(PcmError::Damaged));
    }
}
