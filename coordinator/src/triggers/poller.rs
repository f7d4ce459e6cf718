//! The bucket poller: finds new objects below a prefix by listing it, for stores that send no events.
//!
//! A sweep lists the prefix once, page by page. What it remembers is one record per rule, bounded in size: where the
//! sweep is, up to which modification time everything was taken, and short fingerprints of what was seen beyond that.
//! When a fingerprint was crowded out, the object is offered again and finds its job.

use super::event::UploadEvent;
use super::intake::{Intake, IntakeError, Outcome, counted};
use super::rule::{NamedRule, RuleSet};
use crate::documents::put_document;
use serde::{Deserialize, Serialize};
use splitreel_backend::buckets::{Buckets, ListError, Listed};
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::{Records, World};
use splitreel_core::digest::{fingerprint, short_fingerprint};
use splitreel_telemetry::labels::{Pass, TriggerSource};
use splitreel_telemetry::record;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Kind of the records that hold where a poller is.
pub const POLL_KIND: &str = "poll";

/// Settings of the poller.
#[derive(Clone, Debug)]
pub struct PollConfig {
    /// Objects per listing request.
    pub page: usize,
    /// Objects older than this when first seen are taken at once; younger ones when two sweeps saw them alike.
    pub settle_ms: i64,
    /// Longest time between an object's modification time and its appearance in the listing: the longest upload.
    pub late_ms: i64,
    /// Fingerprints remembered of objects that were taken, and as many of objects that are watched.
    pub remembered: usize,
    /// How often to see whether a sweep is due.
    pub tick: Duration,
}

impl Default for PollConfig {
    fn default() -> Self {
        PollConfig {
            page: 1000,
            settle_ms: 60_000,
            late_ms: 24 * 3_600_000,
            remembered: 8192,
            tick: Duration::from_secs(1),
        }
    }
}

/// What is remembered of a prefix between two pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PollState {
    /// When the next sweep starts, milliseconds since the epoch.
    next_ms: i64,
    /// The sweep that is under way has come to this key; empty = none is under way.
    after: String,
    /// All that was modified up to then was taken.
    through_ms: Option<i64>,
    /// Latest modification time that the sweep saw.
    latest_ms: Option<i64>,
    /// Earliest modification time that the sweep saw of what it left.
    left_ms: Option<i64>,
    /// Fingerprints of what was taken, the oldest first.
    taken: Vec<u64>,
    /// Fingerprints of what the last sweep left because it is young.
    young: Vec<u64>,
    /// The same of the sweep that is under way.
    next_young: Vec<u64>,
}

impl PollState {
    /// A sweep is under way or due.
    pub fn is_due(&self, now_ms: i64) -> bool {
        !self.after.is_empty() || self.next_ms <= now_ms
    }

    /// Which objects of a page are to be offered. Pure.
    pub fn choose(&self, page: &[Listed], now_ms: i64, config: &PollConfig) -> Vec<Listed> {
        let (taken, young) = (self.taken.iter().collect::<BTreeSet<_>>(), self.young.iter().collect::<BTreeSet<_>>());
        let is_chosen = |listed: &&Listed| {
            let mark = mark(listed);
            let rests = now_ms.saturating_sub(listed.modified_ms) >= config.settle_ms || young.contains(&mark);
            self.is_candidate(listed) && rests && !taken.contains(&mark)
        };
        page.iter().filter(is_chosen).cloned().collect()
    }

    fn is_candidate(&self, listed: &Listed) -> bool {
        let is_object = listed.bytes > 0 && !listed.key.ends_with('/');
        is_object && self.through_ms.is_none_or(|through| listed.modified_ms > through)
    }

    /// The state after a page. `done`: keys of it that were offered with an end. `every_ms`: time between the starts
    /// of two sweeps. Pure.
    #[must_use]
    pub fn after_page(
        mut self,
        page: &[Listed],
        done: &BTreeSet<String>,
        now_ms: i64,
        every_ms: i64,
        config: &PollConfig,
    ) -> PollState {
        if self.after.is_empty() {
            self.next_ms = now_ms.saturating_add(every_ms);
        }
        let mut known: BTreeSet<u64> = self.taken.iter().copied().collect();
        for listed in page {
            self.latest_ms = self.latest_ms.max(Some(listed.modified_ms));
            if !self.is_candidate(listed) {
                continue;
            }
            let mark = mark(listed);
            if done.contains(&listed.key) {
                if known.insert(mark) {
                    self.taken.push(mark);
                }
            } else if !known.contains(&mark) {
                self.left_ms = Some(self.left_ms.map_or(listed.modified_ms, |left| left.min(listed.modified_ms)));
                if self.next_young.len() < config.remembered {
                    self.next_young.push(mark);
                }
            }
        }
        let surplus = self.taken.len().saturating_sub(config.remembered);
        self.taken.drain(..surplus);
        match page.last() {
            Some(last) if page.len() >= config.page => self.after.clone_from(&last.key),
            _ => self.end_sweep(config),
        }
        self
    }

    fn end_sweep(&mut self, config: &PollConfig) {
        self.after.clear();
        // By the store's own clock: it need not agree with ours.
        let latest = self.latest_ms.take().map(|latest| latest.saturating_sub(config.late_ms.max(0)));
        let left = self.left_ms.take().map(|left| left.saturating_sub(1));
        let reached = match (latest, left) {
            (Some(latest), Some(left)) => Some(latest.min(left)),
            (latest, _) => latest,
        };
        self.through_ms = self.through_ms.max(reached);
        self.young = std::mem::take(&mut self.next_young);
    }
}

fn mark(listed: &Listed) -> u64 {
    short_fingerprint(&[&listed.key, &listed.etag, &listed.bytes.to_string()])
}

/// Polls the prefixes of all rules that ask for it.
pub struct Poller {
    buckets: Arc<dyn Buckets>,
    records: Arc<dyn Records>,
    intake: Intake,
    world: World,
    config: PollConfig,
}

impl Poller {
    /// A poller over the given seams.
    pub fn new(
        buckets: Arc<dyn Buckets>,
        records: Arc<dyn Records>,
        intake: Intake,
        world: World,
        config: PollConfig,
    ) -> Self {
        Poller { buckets, records, intake, world, config }
    }

    /// Polls until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            if let Err(error) = record::pass(Pass::Poll, self.poll()).await {
                tracing::warn!(%error, "polling pass failed; retrying");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.config.tick) => {}
            }
        }
    }

    /// Lists one page for each rule whose sweep is under way or due. Answers what became of the objects offered.
    ///
    /// # Errors
    /// When the rules cannot be read. A prefix that cannot be listed is reported and tried again.
    pub async fn poll(&self) -> Result<Vec<Outcome>, IntakeError> {
        let rules = self.intake.rules().await?;
        let mut outcomes = Vec::new();
        for named in rules.rules().iter().filter(|named| named.rule.enabled) {
            if let Some(every) = named.rule.poll_seconds {
                let every_ms = i64::from(every).saturating_mul(1000);
                match self.step(&rules, named, every_ms).await {
                    Ok(found) => outcomes.extend(found),
                    Err(error) => {
                        tracing::warn!(%error, tenant = %named.tenant, rule = %named.id, "polling a prefix failed; will retry");
                    }
                }
            }
        }
        Ok(outcomes)
    }

    async fn step(&self, rules: &RuleSet, named: &NamedRule, every_ms: i64) -> Result<Vec<Outcome>, PollError> {
        let key = RecordKey {
            kind: POLL_KIND.to_owned(),
            tenant: named.tenant.clone(),
            // An edited rule starts afresh.
            id: fingerprint(&[&named.id, &named.rule.bucket, &named.rule.prefix]),
        };
        let record = self.records.get(&key).await.map_err(IntakeError::from)?;
        let expect = record.as_ref().map_or(Expect::Absent, |record| Expect::Version(record.version));
        // A state that cannot be read is forgotten: everything is offered again and finds its jobs.
        let state: PollState = record.and_then(|r| serde_json::from_value(r.doc).ok()).unwrap_or_default();
        let now = self.world.clock.now_ms();
        if !state.is_due(now) {
            return Ok(Vec::new());
        }
        let (bucket, prefix) = (&named.rule.bucket, &named.rule.prefix);
        let page = self.buckets.list(bucket, prefix, &state.after, self.config.page).await?;
        let settle_ms = self.config.settle_ms.max(i64::from(named.rule.settle_seconds).saturating_mul(1000));
        let config = PollConfig { settle_ms, ..self.config.clone() };
        let mut done = BTreeSet::new();
        let mut outcomes = Vec::new();
        for listed in state.choose(&page, now, &config) {
            let mut event = UploadEvent::exact(bucket, &listed.key);
            event.etag = Some(listed.etag.trim_matches('"').to_owned());
            match counted(TriggerSource::Poller, self.intake.offer_settled(rules, &event).await) {
                // What is gone may come back late; what is empty is not chosen.
                Ok(outcome @ (Outcome::Gone | Outcome::NotReady)) => outcomes.push(outcome),
                Ok(outcome) => {
                    done.insert(listed.key);
                    outcomes.push(outcome);
                }
                Err(error) => tracing::warn!(%error, %bucket, "object not accepted; will retry"),
            }
        }
        let next = state.after_page(&page, &done, now, every_ms, &config);
        // A conflict: another coordinator polled at the same time. Its page stands; what we offered has its jobs.
        let written = put_document(self.records.as_ref(), &key, expect, &next, None, now).await;
        let _ = written.map_err(IntakeError::from)?;
        Ok(outcomes)
    }
}

#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
}
