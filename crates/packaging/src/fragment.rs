//! Media segments: one movie fragment with its media data (ISO/IEC 14496-12 §8.8, §8.16.2; ISO/IEC 23000-19 §7.3).
//! Writes headers and reads them back; sample bytes never pass through here.

mod index;
mod write;

pub use index::{
    FragmentIndex, IndexError, MAX_SEGMENT_SAMPLES, Parsed, SegmentIndex, TrackRun, index_segment, parse_segment,
};
pub use write::{FragmentError, FragmentHeader, FragmentSpec, SampleSpec, write_fragment};

/// Flags of a sync sample: depends on no other (§8.8.3.1).
pub const SYNC_FLAGS: u32 = 0x0200_0000;
/// Flags of any other sample: depends on others, is no sync sample.
pub const NON_SYNC_FLAGS: u32 = 0x0101_0000;
/// The bit that says "not a sync sample".
pub const NON_SYNC_BIT: u32 = 0x0001_0000;

/// A sample as a segment describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentSample {
    /// Position of the first byte, from the start of the segment.
    pub offset: u64,
    /// Duration in track ticks.
    pub duration: u32,
    /// Size in bytes.
    pub size: u32,
    /// Sample flags (§8.8.3.1).
    pub flags: u32,
    /// Composition time minus decode time in track ticks.
    pub composition_offset: i32,
}

impl FragmentSample {
    /// Whether decoding can start here.
    pub fn is_sync(&self) -> bool {
        self.flags & NON_SYNC_BIT == 0
    }
}

#[cfg(test)]
mod tests;
