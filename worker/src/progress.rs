//! Progress of an attempt, composed of fetching, encoding and storing. A worker claims its next task shortly before the
//! attempt ends, and an attempt whose progress stands still loses its lease.

use splitreel_core::task::Progress;
use splitreel_media::ENCODED_PER_MILLE;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// While bytes of the source arrive, in per mille.
pub(crate) const FETCHING: Range<u16> = 0..100;
/// While parts are stored. Encoding reports the progress before, from 0: most sources are there at once.
pub(crate) const STORING: Range<u16> = ENCODED_PER_MILLE..1_000;

/// A transfer of bytes as a part of an attempt.
pub(crate) struct Transfer<'a> {
    progress: &'a watch::Sender<Progress>,
    part: Range<u16>,
    expected_bytes: u64,
    moved: AtomicU64,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(progress: &'a watch::Sender<Progress>, part: Range<u16>, expected_bytes: u64) -> Self {
        Transfer { progress, part, expected_bytes, moved: AtomicU64::new(0) }
    }

    /// Adds transferred bytes.
    pub(crate) fn moved(&self, bytes: u64) {
        let all = self.moved.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.raise_to(within(&self.part, all, self.expected_bytes));
    }

    /// Raises the progress to that of a shared fetch.
    pub(crate) fn raise_to(&self, done_per_mille: u16) {
        self.progress.send_if_modified(|progress| {
            let is_news = done_per_mille > progress.done_per_mille;
            progress.done_per_mille = progress.done_per_mille.max(done_per_mille);
            is_news
        });
    }
}

fn within(part: &Range<u16>, done: u64, all: u64) -> u16 {
    let width = u128::from(part.end - part.start);
    let share = (u128::from(done.min(all)) * width).checked_div(u128::from(all)).unwrap_or(0);
    part.start + u16::try_from(share).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_goes_from_fetching_to_stored_and_never_back() {
        let (progress, now) = watch::channel(Progress::default());
        let at = || now.borrow().done_per_mille;
        let fetching = Transfer::new(&progress, FETCHING, 4);
        fetching.moved(1);
        assert_eq!(at(), 25);
        fetching.moved(9);
        assert_eq!(at(), 100);
        let storing = Transfer::new(&progress, STORING, 10);
        storing.moved(5);
        assert_eq!(at(), 975);
        storing.raise_to(3);
        assert_eq!(at(), 975);
        storing.moved(5);
        assert_eq!(at(), 1_000);
        Transfer::new(&progress, FETCHING, 0).moved(7);
        assert_eq!(at(), 1_000);
    }
}
