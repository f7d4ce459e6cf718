//! Writes `styp`, `moof` and the `mdat` header of one CMAF fragment. Same input, same bytes.

use super::{NON_SYNC_FLAGS, SYNC_FLAGS};
use crate::bmff::{BmffError, BoxWriter};

/// One sample to be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleSpec {
    /// Duration in track ticks.
    pub duration: u32,
    /// Size in bytes.
    pub size: u32,
    /// Whether decoding can start here.
    pub is_sync: bool,
    /// Composition time minus decode time in track ticks.
    pub composition_offset: i32,
}

impl SampleSpec {
    fn flags(&self) -> u32 {
        if self.is_sync { SYNC_FLAGS } else { NON_SYNC_FLAGS }
    }
}

/// One fragment to be described.
#[derive(Debug, Clone, Copy)]
pub struct FragmentSpec<'a> {
    /// `mfhd` sequence number, increasing within a track file.
    pub sequence_number: u32,
    /// `track_ID` of the init segment.
    pub track_id: u32,
    /// Decode time of the first sample in track ticks.
    pub base_decode_time: u64,
    /// The samples in decode order; their bytes follow each other in the media data.
    pub samples: &'a [SampleSpec],
}

/// The bytes in front of the media data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentHeader {
    /// `styp`, `moof` and the header of `mdat`.
    pub bytes: Vec<u8>,
    /// Bytes of sample data that have to follow.
    pub payload_bytes: u64,
}

impl FragmentHeader {
    /// Length of the complete segment in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.payload_bytes.saturating_add(self.bytes.len() as u64)
    }
}

/// Why a fragment could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A fragment needs at least one sample.
    #[error("fragment {sequence_number} has no samples")]
    Empty {
        /// Its sequence number.
        sequence_number: u32,
    },
    /// The `moof` outgrew what its fields can hold.
    #[error("fragment {sequence_number} has too many samples: {num_samples}")]
    TooManySamples {
        /// Its sequence number.
        sequence_number: u32,
        /// Samples in it.
        num_samples: usize,
    },
    /// Box writing failed.
    #[error(transparent)]
    Box(#[from] BmffError),
}

const TFHD_DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
const TFHD_DURATION: u32 = 0x08;
const TFHD_SIZE: u32 = 0x10;
const TFHD_FLAGS: u32 = 0x20;
const TRUN_DATA_OFFSET: u32 = 0x001;
const TRUN_FIRST_FLAGS: u32 = 0x004;
const TRUN_DURATION: u32 = 0x100;
const TRUN_SIZE: u32 = 0x200;
const TRUN_FLAGS: u32 = 0x400;
const TRUN_COMPOSITION: u32 = 0x800;

/// The value that all samples share.
fn common<T: PartialEq + Copy>(samples: &[SampleSpec], get: impl Fn(&SampleSpec) -> T) -> Option<T> {
    let first = samples.first().map(&get)?;
    samples.iter().all(|sample| get(sample) == first).then_some(first)
}

/// Which fields are stated once for the fragment and which for every sample.
struct Fields {
    duration: Option<u32>,
    size: Option<u32>,
    flags: Option<u32>,
    first_flags: Option<u32>,
    has_composition: bool,
}

impl Fields {
    fn choose(samples: &[SampleSpec]) -> Self {
        let rest = samples.get(1..).unwrap_or(&[]);
        let all = common(samples, SampleSpec::flags);
        let others = common(rest, SampleSpec::flags);
        Self {
            duration: common(samples, |sample| sample.duration),
            size: common(samples, |sample| sample.size),
            flags: all.or(others),
            // A sync sample followed by others of one kind: the usual shape of a video fragment.
            first_flags: if all.is_none() && others.is_some() { samples.first().map(SampleSpec::flags) } else { None },
            has_composition: samples.iter().any(|sample| sample.composition_offset != 0),
        }
    }

    fn tfhd(&self) -> u32 {
        TFHD_DEFAULT_BASE_IS_MOOF
            | self.duration.map_or(0, |_| TFHD_DURATION)
            | self.size.map_or(0, |_| TFHD_SIZE)
            | self.flags.map_or(0, |_| TFHD_FLAGS)
    }

    fn trun(&self) -> u32 {
        TRUN_DATA_OFFSET
            | self.first_flags.map_or(0, |_| TRUN_FIRST_FLAGS)
            | self.duration.map_or(TRUN_DURATION, |_| 0)
            | self.size.map_or(TRUN_SIZE, |_| 0)
            | self.flags.map_or(TRUN_FLAGS, |_| 0)
            | if self.has_composition { TRUN_COMPOSITION } else { 0 }
    }
}

/// Writes the header of a CMAF segment that holds one fragment. The caller appends the sample data.
///
/// `tfhd` uses default-base-is-moof; values that all samples share are stated once; `tfdt` and `trun` are version 1. The
/// media data gets a 64-bit size when it needs one.
///
/// # Errors
/// [`FragmentError`].
pub fn write_fragment(spec: &FragmentSpec<'_>) -> Result<FragmentHeader, FragmentError> {
    let sequence_number = spec.sequence_number;
    let num_samples = spec.samples.len();
    if num_samples == 0 {
        return Err(FragmentError::Empty { sequence_number });
    }
    let too_many = FragmentError::TooManySamples { sequence_number, num_samples };
    let sample_count = u32::try_from(num_samples).map_err(|_| too_many.clone())?;
    let fields = Fields::choose(spec.samples);
    let payload_bytes = spec.samples.iter().map(|sample| u64::from(sample.size)).sum::<u64>();

    let mut w = BoxWriter::new();
    w.boxed(b"styp", |w| {
        w.bytes(b"cmfs");
        w.u32(0);
        w.bytes(b"cmfscmffiso6msdh");
    });
    let moof_at = w.position();
    let mut data_offset_at = 0;
    w.boxed(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(sequence_number));
        w.boxed(b"traf", |w| {
            w.full(b"tfhd", 0, fields.tfhd(), |w| {
                w.u32(spec.track_id);
                for value in [fields.duration, fields.size, fields.flags].into_iter().flatten() {
                    w.u32(value);
                }
            });
            w.full(b"tfdt", 1, 0, |w| w.u64(spec.base_decode_time));
            w.full(b"trun", 1, fields.trun(), |w| {
                w.u32(sample_count);
                data_offset_at = w.position();
                w.u32(0);
                if let Some(flags) = fields.first_flags {
                    w.u32(flags);
                }
                for sample in spec.samples {
                    write_sample(w, &fields, sample);
                }
            });
        });
    });
    let moof_bytes = w.position() - moof_at;
    let mdat_header = match u32::try_from(payload_bytes + 8) {
        Ok(size) => {
            w.u32(size);
            w.bytes(b"mdat");
            8
        }
        Err(_) => {
            w.u32(1);
            w.bytes(b"mdat");
            w.u64(payload_bytes + 16);
            16
        }
    };
    let data_offset = i32::try_from(moof_bytes + mdat_header).map_err(|_| too_many)?;
    w.patch(data_offset_at, data_offset as u32);
    Ok(FragmentHeader { bytes: w.into_bytes()?, payload_bytes })
}

fn write_sample(w: &mut BoxWriter, fields: &Fields, sample: &SampleSpec) {
    if fields.duration.is_none() {
        w.u32(sample.duration);
    }
    if fields.size.is_none() {
        w.u32(sample.size);
    }
    if fields.flags.is_none() {
        w.u32(sample.flags());
    }
    if fields.has_composition {
        w.i32(sample.composition_offset);
    }
}
