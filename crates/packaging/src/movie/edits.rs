//! The edit list of a track (ISO/IEC 14496-12 §8.6.6) and the mapping it defines from media time to presentation time.
//! Does not decide what to do with samples that are not presented.

use crate::bmff::{BmffError, BoxRef};

/// One entry of an edit list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// Length in movie ticks; 0 means "to the end" in fragmented files.
    pub segment_duration: u64,
    /// Start in the media in track ticks; -1 is an empty edit.
    pub media_time: i64,
    /// Rate, 16.16 fixed point; 0 dwells on one frame.
    pub rate: i32,
}

/// A stretch of media that an edit presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditSpan {
    /// First media time presented, in track ticks.
    pub media_start: i64,
    /// Media time where it ends, exclusive; none: never.
    pub media_end: Option<i64>,
    /// Presentation time of `media_start`, in track ticks.
    pub presentation_start: i64,
}

/// Maps composition times to presentation times, both in track ticks.
///
/// Rounding: edit durations are in movie ticks. Each one is converted on its own to the nearest track tick, halves away
/// from zero, and the converted durations are added; that is what libavformat does, so the times agree with it. The
/// result is exact whenever the durations are whole track ticks. A sample is presented when its composition time lies
/// in [media_time, media_time + converted duration); one that merely reaches into an edit is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditMap {
    spans: Vec<EditSpan>,
    is_plain: bool,
}

impl EditMap {
    /// Builds the map of an edit list. No edits: media time is presentation time. A last edit of duration 0 has no end.
    pub fn new(edits: &[Edit], movie_timescale: u32, timescale: u32) -> Self {
        let mut spans = Vec::new();
        let mut is_plain = true;
        let mut start = 0i64;
        for (index, edit) in edits.iter().enumerate() {
            let length = rescale(edit.segment_duration, movie_timescale, timescale);
            if edit.media_time >= 0 {
                is_plain &= edit.rate == 0x1_0000 && spans.is_empty();
                let endless = edit.segment_duration == 0 && index + 1 == edits.len();
                spans.push(EditSpan {
                    media_start: edit.media_time,
                    media_end: (!endless).then(|| edit.media_time.saturating_add(length)),
                    presentation_start: start,
                });
            }
            start = start.saturating_add(length);
        }
        if edits.is_empty() {
            spans.push(EditSpan { media_start: i64::MIN, media_end: None, presentation_start: i64::MIN });
        }
        Self { spans, is_plain }
    }

    /// The presented stretches of media in presentation order.
    pub fn spans(&self) -> &[EditSpan] {
        &self.spans
    }

    /// Whether at most one stretch of media is presented, at normal speed, after an optional silence: the list that
    /// nearly every file has. Otherwise media may repeat, move or stand still.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The presentation time of a sample with this composition time; none when the list leaves it out. Where several
    /// edits show it, the first counts.
    pub fn present(&self, pts: i64) -> Option<i64> {
        self.present_all(pts).next()
    }

    /// All presentation times of a sample with this composition time, in presentation order.
    pub fn present_all(&self, pts: i64) -> impl Iterator<Item = i64> {
        self.spans.iter().filter(move |span| pts >= span.media_start && span.media_end.is_none_or(|end| pts < end)).map(
            move |span| {
                let time = i128::from(pts) - i128::from(span.media_start) + i128::from(span.presentation_start);
                i64::try_from(time).unwrap_or(i64::MAX)
            },
        )
    }

    /// This map as libavformat applies it: when an edit starts between samples, the first sample presented is moved to
    /// the start of the first edit instead of keeping its distance from it. `times` are the composition times of all
    /// samples. Returns the map unchanged without edits or with several presented stretches.
    #[must_use]
    pub fn aligned_to_samples(&self, times: impl IntoIterator<Item = i64>) -> Self {
        let mut aligned = self.clone();
        if let [span] = aligned.spans.as_mut_slice()
            && span.media_start != i64::MIN
        {
            let inside = |pts: &i64| *pts >= span.media_start && span.media_end.is_none_or(|end| *pts < end);
            if let Some(first) = times.into_iter().filter(inside).min() {
                span.media_start = first;
            }
        }
        aligned
    }
}

/// `ticks * to / from` to the nearest integer, halves up; saturates at `i64::MAX`.
fn rescale(ticks: u64, from: u32, to: u32) -> i64 {
    let from = u128::from(from.max(1));
    let scaled = (u128::from(ticks) * u128::from(to) * 2 + from) / (from * 2);
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

/// Parses an `elst` box.
pub(super) fn parse(elst: &BoxRef<'_>) -> Result<Vec<Edit>, BmffError> {
    let mut fields = elst.fields();
    let (version, _) = fields.version_and_flags()?;
    let count = fields.count(if version == 1 { 20 } else { 12 })?;
    (0..count)
        .map(|_| {
            let segment_duration = fields.sized(version)?;
            let media_time = if version == 1 { fields.i64()? } else { i64::from(fields.i32()?) };
            Ok(Edit { segment_duration, media_time, rate: fields.i32()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NORMAL: i32 = 0x1_0000;

    fn edit(segment_duration: u64, media_time: i64) -> Edit {
        Edit { segment_duration, media_time, rate: NORMAL }
    }

    #[test]
    fn without_edits_nothing_moves() {
        let map = EditMap::new(&[], 1000, 90_000);
        assert!(map.is_plain());
        for pts in [i64::MIN, -5, 0, 7, i64::MAX] {
            assert_eq!(map.present(pts), Some(pts));
        }
    }

    #[test]
    fn one_edit_shifts_and_trims() {
        let map = EditMap::new(&[edit(2000, 1024)], 1000, 12_800);
        assert!(map.is_plain());
        assert_eq!(map.present(1023), None);
        assert_eq!(map.present(1024), Some(0));
        assert_eq!(map.present(1024 + 25_599), Some(25_599));
        assert_eq!(map.present(1024 + 25_600), None);
    }

    #[test]
    fn empty_edits_delay() {
        let map = EditMap::new(&[edit(400, -1), edit(100, -1), edit(0, 512)], 1000, 48_000);
        assert!(map.is_plain());
        assert_eq!(map.present(512), Some(24_000));
        assert_eq!(map.present(1 << 40), Some((1 << 40) - 512 + 24_000));
    }

    #[test]
    fn several_edits_repeat_and_reorder() {
        let map = EditMap::new(&[edit(1000, 5000), edit(1000, 0), edit(500, 5500)], 1000, 1000);
        assert!(!map.is_plain());
        assert_eq!(map.present_all(5600).collect::<Vec<_>>(), [600, 2100]);
        assert_eq!(map.present(400), Some(1400));
        assert_eq!(map.present(3000), None);
    }

    #[test]
    fn durations_round_to_the_nearest_track_tick() {
        // 1/600 s is 40.04 ticks of 24024; 3/600 s of 100 Hz is half a tick and goes up.
        assert_eq!(rescale(1, 600, 24_024), 40);
        assert_eq!(rescale(3, 600, 100), 1);
        assert_eq!(rescale(2, 600, 100), 0);
        assert_eq!(rescale(u64::MAX, 1, u32::MAX), i64::MAX);
    }

    #[test]
    fn alignment_moves_the_first_presented_sample() {
        let map = EditMap::new(&[edit(100, -1), edit(9000, 500)], 1000, 1000);
        let aligned = map.aligned_to_samples([0, 1000, 2000]);
        assert_eq!(aligned.present(0), None);
        assert_eq!(aligned.present(1000), Some(100));
        assert_eq!(map.present(1000), Some(600));
        assert_eq!(EditMap::new(&[], 1, 1).aligned_to_samples([5]).present(5), Some(5));
    }

    proptest! {
        #[test]
        fn any_list_maps_without_overflow(
            list in proptest::collection::vec((any::<u64>(), any::<i64>(), any::<i32>()), 0..6),
            scales in (1u32.., 1u32..), pts in any::<i64>(),
        ) {
            let edits: Vec<Edit> = list
                .into_iter()
                .map(|(segment_duration, media_time, rate)| Edit { segment_duration, media_time, rate })
                .collect();
            let map = EditMap::new(&edits, scales.0, scales.1);
            prop_assert!(map.present_all(pts).count() <= edits.len().max(1));
        }
    }
}
