//! The intake: turns a hint that an object was uploaded into at most one job. Storage decides what there is; the job
//! store decides whether it is new. It owns no state beside the uploads that it watches until they rest.

use super::event::UploadEvent;
use super::rule::{NamedRule, Place, RuleSet, Verdict};
use crate::accept::{Accept, StartError, Started, Target};
use crate::directory::Profiles;
use crate::documents::put_document;
use serde::{Deserialize, Serialize};
use splitreel_backend::grants::GrantError;
use splitreel_backend::records::{Expect, Record, RecordFilter, RecordKey};
use splitreel_backend::{Records, StoreError, World};
use splitreel_client::types::Rule;
use splitreel_core::JobId;
use splitreel_core::digest::fingerprint;
use splitreel_core::source::SourceRef;
use splitreel_telemetry::labels::{TriggerOutcome, TriggerSource};
use splitreel_telemetry::record;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Kind of the records that hold rules.
pub const RULE_KIND: &str = "rule";
/// Kind of the records of uploads that are watched until they rest.
pub const HELD_KIND: &str = "held_upload";
const PAGE: usize = 500;
/// A watched upload that could not be looked at, or had no room, is looked at again after this time.
const HELD_RETRY_MS: i64 = 30_000;
const MAX_RULES: usize = 10_000;

/// What became of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "job", rename_all = "snake_case")]
pub enum Outcome {
    /// A new job.
    Started(JobId),
    /// This version of the object had its job before.
    Existing(JobId),
    /// No rule takes it.
    NoRule,
    /// There is no such object (any more).
    Gone,
    /// It is empty, or still watched until it rests.
    NotReady,
    /// The tenant has as many open jobs as it may: its job starts when there is room.
    Waiting,
    /// It lies where this deployment writes.
    OwnOutput,
}

/// Counts what became of a hint, and hands it on.
pub(crate) fn counted(source: TriggerSource, followed: Result<Outcome, IntakeError>) -> Result<Outcome, IntakeError> {
    let outcome = match &followed {
        Ok(Outcome::Started(_)) => TriggerOutcome::Started,
        Ok(Outcome::Existing(_)) => TriggerOutcome::Replayed,
        Ok(Outcome::NotReady | Outcome::Waiting) => TriggerOutcome::Held,
        Ok(Outcome::NoRule | Outcome::Gone | Outcome::OwnOutput) => TriggerOutcome::Ignored,
        Err(_) => TriggerOutcome::Failed,
    };
    record::trigger_event(source, outcome);
    followed
}

/// Why a hint could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The job could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There are more rules than are read.
    #[error("there are more than {MAX_RULES} rules")]
    TooManyRules,
}

impl From<StoreError> for IntakeError {
    fn from(error: StoreError) -> Self {
        IntakeError::Start(error.into())
    }
}

impl From<GrantError> for IntakeError {
    fn from(error: GrantError) -> Self {
        IntakeError::Start(error.into())
    }
}

impl IntakeError {
    /// Whether the same hint may succeed later without a change of settings.
    pub fn is_temporary(&self) -> bool {
        matches!(self, IntakeError::Start(error) if error.is_temporary())
    }
}

/// Turns hints into jobs: cheap to clone.
#[derive(Clone)]
pub struct Intake {
    inner: Arc<Inner>,
}

struct Inner {
    accept: Accept,
    records: Arc<dyn Records>,
    world: World,
    own: Vec<Place>,
}

/// An upload that is watched: as it was seen last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    bucket: String,
    key: String,
    bytes: u64,
    version: String,
}

impl Intake {
    /// An intake over the given seams. `own`: places that this deployment writes to beside the rules' outputs,
    /// first of all the work prefix.
    pub fn new(accept: Accept, records: Arc<dyn Records>, world: World, own: Vec<Place>) -> Self {
        Intake { inner: Arc::new(Inner { accept, records, world, own }) }
    }

    /// Places that this deployment writes to, beside the rules' outputs.
    pub fn own_places(&self) -> &[Place] {
        &self.inner.own
    }

    /// The rules as they are now. Records that cannot be read are left out and reported.
    ///
    /// # Errors
    /// When the record store does not answer, or holds too many.
    pub async fn rules(&self) -> Result<RuleSet, IntakeError> {
        let mut rules: Vec<NamedRule> = Vec::new();
        let mut after = None;
        loop {
            let filter = RecordFilter { kind: RULE_KIND.to_owned(), after, limit: PAGE, ..RecordFilter::default() };
            let page = self.inner.records.list(filter).await?;
            after = page.last().map(|record| (record.key.tenant.clone(), record.key.id.clone()));
            let is_last = page.len() < PAGE;
            rules.extend(page.into_iter().filter_map(named_rule));
            if is_last {
                return Ok(RuleSet::new(rules, &self.inner.own));
            }
            if rules.len() >= MAX_RULES {
                return Err(IntakeError::TooManyRules);
            }
        }
    }

    /// Follows a hint by the rules as they are now. `tenant`: only this tenant's rules.
    ///
    /// # Errors
    /// [`IntakeError`]; nothing was started, or the same hint finds what was.
    pub async fn offer(&self, event: &UploadEvent, tenant: Option<&str>) -> Result<Outcome, IntakeError> {
        self.offer_by(&self.rules().await?, event, tenant).await
    }

    /// Follows a hint by the given rules.
    ///
    /// # Errors
    /// As [`Intake::offer`].
    pub async fn offer_by(
        &self,
        rules: &RuleSet,
        event: &UploadEvent,
        tenant: Option<&str>,
    ) -> Result<Outcome, IntakeError> {
        match self.find(rules, event, tenant).await? {
            Err(outcome) => Ok(outcome),
            Ok(found) if found.named.rule.settle_seconds > 0 => self.rest(&found).await,
            Ok(found) => self.start(&found).await,
        }
    }

    /// Follows a hint about an object that is known to rest.
    ///
    /// # Errors
    /// As [`Intake::offer`].
    pub async fn offer_settled(&self, rules: &RuleSet, event: &UploadEvent) -> Result<Outcome, IntakeError> {
        match self.find(rules, event, None).await? {
            Err(outcome) => Ok(outcome),
            Ok(found) => self.start(&found).await,
        }
    }

    /// Starts the job of a source that was pinned by the caller, at most one for the same `identity` texts, version
    /// of the source and profile. `name`: what the output is named after. [`Outcome::Waiting`] started nothing: the
    /// caller asks again.
    ///
    /// # Errors
    /// As [`Intake::offer`].
    pub async fn start_job(
        &self,
        source: SourceRef,
        identity: &[&str],
        name: &str,
        target: &Target,
    ) -> Result<Outcome, IntakeError> {
        Ok(match self.inner.accept.start(source, identity, name, target).await? {
            Started::New(job) => Outcome::Started(job),
            Started::Existing(job) => Outcome::Existing(job),
            Started::NoRoom => Outcome::Waiting,
        })
    }

    /// Pins the source that a locator names now.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn pin(&self, locator: &str) -> Result<SourceRef, GrantError> {
        self.inner.accept.pin(locator).await
    }

    /// The profiles that rules may name.
    pub fn profiles(&self) -> &Profiles {
        &self.inner.accept.directory().profiles
    }

    /// Checks held uploads that are due: starts the unchanged ones, holds the changed ones again.
    /// Call every second or so; several coordinators may. Answers what was decided.
    ///
    /// # Errors
    /// When the record store does not answer. An upload that cannot be looked at is reported and looked at later.
    pub async fn release_held(&self) -> Result<Vec<Outcome>, IntakeError> {
        let due = self.inner.records.due(HELD_KIND, self.now(), PAGE).await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let rules = self.rules().await?;
        let mut outcomes = Vec::with_capacity(due.len());
        let mut full: BTreeSet<String> = BTreeSet::new();
        for (place, record) in (0..).zip(due) {
            // Storage is not asked about all that waits behind the first one without room.
            if full.contains(&record.key.tenant) {
                self.look_later(record, place).await?;
                continue;
            }
            match counted(TriggerSource::Held, self.release(&rules, &record).await) {
                Ok(outcome) => {
                    if outcome == Outcome::Waiting {
                        full.insert(record.key.tenant);
                    }
                    outcomes.push(outcome);
                }
                Err(error) => {
                    tracing::warn!(%error, id = %record.key.id, "checking a held upload failed; will retry");
                    self.look_later(record, place).await?;
                }
            }
        }
        Ok(outcomes)
    }

    /// Puts a record off; those of one pass keep their order by their `place`.
    async fn look_later(&self, record: Record, place: i64) -> Result<(), IntakeError> {
        let (now, expect) = (self.now(), Expect::Version(record.version));
        let due = Some(now.saturating_add(HELD_RETRY_MS).saturating_add(place));
        let _ = self.inner.records.put(&record.key, expect, record.doc, due, now).await?;
        Ok(())
    }

    async fn release(&self, rules: &RuleSet, record: &Record) -> Result<Outcome, IntakeError> {
        let held = serde_json::from_value::<Held>(record.doc.clone()).ok();
        let outcome = match held {
            None => Outcome::Gone,
            Some(held) => {
                let event = UploadEvent::exact(&held.bucket, &held.key);
                match self.find(rules, &event, Some(&record.key.tenant)).await? {
                    Err(outcome) => outcome,
                    Ok(found) if found.held() == held => self.start(&found).await?,
                    Ok(found) => return self.rest(&found).await,
                }
            }
        };
        if outcome == Outcome::Waiting {
            // Its record was written anew.
            return Ok(outcome);
        }
        // A conflict means that another hint came in: its record stays, and its job will be the same.
        let _ = self.inner.records.delete(&record.key, Expect::Version(record.version)).await?;
        Ok(outcome)
    }

    /// The object that an event means and the rule that takes it, or why there is nothing to do.
    async fn find<'r>(
        &self,
        rules: &'r RuleSet,
        event: &UploadEvent,
        tenant: Option<&str>,
    ) -> Result<Result<Found<'r>, Outcome>, IntakeError> {
        let mut nothing = Outcome::NoRule;
        let mut first: Option<Found<'r>> = None;
        for key in &event.keys {
            let named = match rules.decide(&event.bucket, key, tenant) {
                Verdict::Take(named) => named,
                Verdict::OwnOutput => {
                    nothing = Outcome::OwnOutput;
                    continue;
                }
                Verdict::NoRule => continue,
            };
            let locator = format!("s3://{}/{key}", event.bucket);
            let source = match self.inner.accept.pin(&locator).await {
                Ok(source) => source,
                Err(GrantError::NotFound { .. }) => {
                    nothing = Outcome::Gone;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Two readings of a key can both exist; the entity tag decides which of them was meant.
            let is_meant = [&event.etag, &event.version]
                .into_iter()
                .flatten()
                .any(|said| source.version.trim_matches('"') == said.as_str());
            let found = Found { named, bucket: event.bucket.clone(), key: key.clone(), source };
            if is_meant || event.keys.len() == 1 {
                first = Some(found);
                break;
            }
            first.get_or_insert(found);
        }
        Ok(match first {
            None => Err(nothing),
            Some(found) if found.source.bytes == 0 => Err(Outcome::NotReady),
            Some(found) => Ok(found),
        })
    }

    async fn start(&self, found: &Found<'_>) -> Result<Outcome, IntakeError> {
        let Rule { profile, output, priority, .. } = &found.named.rule;
        let target = Target {
            tenant: found.named.tenant.clone(),
            profile: profile.clone(),
            output: output.clone(),
            priority: *priority,
        };
        let name = found.key.rsplit('/').next().unwrap_or(&found.key);
        let outcome = self.start_job(found.source.clone(), &[&found.bucket, &found.key], name, &target).await?;
        tracing::info!(tenant = %target.tenant, rule = %found.named.id, ?outcome, "object matched a rule");
        if outcome == Outcome::Waiting {
            self.hold(found, HELD_RETRY_MS).await?;
        }
        Ok(outcome)
    }

    /// Watches an upload until it rests.
    async fn rest(&self, found: &Found<'_>) -> Result<Outcome, IntakeError> {
        self.hold(found, i64::from(found.named.rule.settle_seconds).saturating_mul(1000)).await?;
        Ok(Outcome::NotReady)
    }

    /// Notes an upload to be looked at after `ms`, unless it is noted as it is.
    async fn hold(&self, found: &Found<'_>, ms: i64) -> Result<(), IntakeError> {
        let key = RecordKey {
            kind: HELD_KIND.to_owned(),
            tenant: found.named.tenant.clone(),
            id: fingerprint(&[&found.bucket, &found.key]),
        };
        let now = self.now();
        let due = now.saturating_add(ms);
        let held = found.held();
        let before = self.inner.records.get(&key).await?;
        let expect = match &before {
            None => Expect::Absent,
            Some(record) => {
                let is_same = serde_json::from_value::<Held>(record.doc.clone()).is_ok_and(|seen| seen == held);
                if is_same && record.due_ms.is_some_and(|due| due > now) {
                    return Ok(());
                }
                Expect::Version(record.version)
            }
        };
        // A conflict means that another process watches it already.
        let _ = put_document(self.inner.records.as_ref(), &key, expect, &held, Some(due), now).await?;
        Ok(())
    }

    fn now(&self) -> i64 {
        self.inner.world.clock.now_ms()
    }
}

struct Found<'r> {
    named: &'r NamedRule,
    bucket: String,
    key: String,
    source: SourceRef,
}

impl Found<'_> {
    fn held(&self) -> Held {
        Held {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            bytes: self.source.bytes,
            version: self.source.version.clone(),
        }
    }
}

fn named_rule(record: Record) -> Option<NamedRule> {
    match serde_json::from_value(record.doc) {
        Ok(rule) => Some(NamedRule { tenant: record.key.tenant, id: record.key.id, rule }),
        Err(error) => {
            tracing::error!(tenant = %record.key.tenant, rule = %record.key.id, %error, "rule record is corrupt; skipped");
            None
        }
    }
}
