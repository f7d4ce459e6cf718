//! Sample tables under construction (ISO/IEC 14496-12 §8.6, §8.7), run-length compact where the boxes are.

use crate::bmff::BoxWriter;
use crate::fragment::FragmentSample;

/// A value and how often it repeats.
#[derive(Debug, Clone, Copy)]
struct Run<T> {
    count: u32,
    value: T,
}

fn push_run<T: PartialEq + Copy>(runs: &mut Vec<Run<T>>, value: T) {
    match runs.last_mut() {
        Some(run) if run.value == value => run.count += 1,
        _ => runs.push(Run { count: 1, value }),
    }
}

/// Consecutive chunks with the same number of samples.
#[derive(Debug, Clone, Copy)]
struct ChunkRun {
    /// 1-based number of the first chunk.
    first: u32,
    samples: u32,
}

/// The tables of one track.
#[derive(Debug, Default)]
pub(super) struct Tables {
    durations: Vec<Run<u32>>,
    composition: Vec<Run<i32>>,
    sizes: Vec<u32>,
    sync: Vec<u32>,
    chunks: Vec<ChunkRun>,
    /// From the first byte of the media data.
    offsets: Vec<u64>,
    duration: u64,
}

impl Tables {
    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Sum of all durations in track ticks.
    pub(super) fn duration(&self) -> u64 {
        self.duration
    }

    /// Whether `count` more samples keep every count within 32 bits.
    pub(super) fn has_room_for(&self, count: usize) -> bool {
        self.sizes.len().checked_add(count).is_some_and(|total| u32::try_from(total).is_ok())
    }

    /// Appends the samples of an object that starts at `base` in the media data. Samples that follow each other without
    /// a gap form a chunk.
    pub(super) fn push(&mut self, base: u64, samples: &[FragmentSample]) {
        let mut chunk_samples = 0u32;
        let mut expected = None;
        for sample in samples {
            if expected != Some(sample.offset) {
                self.end_chunk(chunk_samples);
                chunk_samples = 0;
                self.offsets.push(base.saturating_add(sample.offset));
            }
            chunk_samples += 1;
            expected = sample.offset.checked_add(sample.size.into());
            push_run(&mut self.durations, sample.duration);
            push_run(&mut self.composition, sample.composition_offset);
            self.sizes.push(sample.size);
            self.duration = self.duration.saturating_add(sample.duration.into());
            if sample.is_sync() {
                self.sync.push(self.sizes.len() as u32);
            }
        }
        self.end_chunk(chunk_samples);
    }

    fn end_chunk(&mut self, samples: u32) {
        if samples > 0 && self.chunks.last().is_none_or(|run| run.samples != samples) {
            self.chunks.push(ChunkRun { first: self.offsets.len() as u32, samples });
        }
    }

    /// The largest chunk offset, from the first byte of the media data.
    pub(super) fn last_offset(&self) -> u64 {
        self.offsets.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.durations.capacity() * size_of::<Run<u32>>()
            + self.composition.capacity() * size_of::<Run<i32>>()
            + self.sizes.capacity() * size_of::<u32>()
            + self.sync.capacity() * size_of::<u32>()
            + self.chunks.capacity() * size_of::<ChunkRun>()
            + self.offsets.capacity() * size_of::<u64>()
    }

    /// Writes `stts` … `stco` with `media_start` added to the chunk offsets; `is_wide` chooses `co64`.
    pub(super) fn write(&self, w: &mut BoxWriter, media_start: u64, is_wide: bool) {
        w.full(b"stts", 0, 0, |w| write_runs(w, &self.durations, |w, value| w.u32(value)));
        if self.composition.iter().any(|run| run.value != 0) {
            let version = u8::from(self.composition.iter().any(|run| run.value < 0));
            w.full(b"ctts", version, 0, |w| write_runs(w, &self.composition, |w, value| w.i32(value)));
        }
        if self.sync.len() < self.sizes.len() {
            w.full(b"stss", 0, 0, |w| {
                w.u32(self.sync.len() as u32);
                self.sync.iter().for_each(|number| w.u32(*number));
            });
        }
        w.full(b"stsc", 0, 0, |w| {
            w.u32(self.chunks.len() as u32);
            for run in &self.chunks {
                w.u32(run.first);
                w.u32(run.samples);
                w.u32(1);
            }
        });
        w.full(b"stsz", 0, 0, |w| self.write_sizes(w));
        let kind = if is_wide { b"co64" } else { b"stco" };
        w.full(kind, 0, 0, |w| {
            w.u32(self.offsets.len() as u32);
            for offset in &self.offsets {
                let offset = offset.saturating_add(media_start);
                if is_wide { w.u64(offset) } else { w.u32(offset as u32) }
            }
        });
    }

    fn write_sizes(&self, w: &mut BoxWriter) {
        let first = self.sizes.first().copied().unwrap_or(0);
        // A constant of 0 would mean "see the list".
        let is_constant = first != 0 && self.sizes.iter().all(|size| *size == first);
        w.u32(if is_constant { first } else { 0 });
        w.u32(self.sizes.len() as u32);
        if !is_constant {
            self.sizes.iter().for_each(|size| w.u32(*size));
        }
    }
}

fn write_runs<T: Copy>(w: &mut BoxWriter, runs: &[Run<T>], write: impl Fn(&mut BoxWriter, T)) {
    w.u32(runs.len() as u32);
    for run in runs {
        w.u32(run.count);
        write(w, run.value);
    }
}
