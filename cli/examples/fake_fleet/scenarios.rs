//! What is measured, and how. Each scenario leaves no open job behind.

use crate::fleet::{Cluster, Fleet, Log, Noted};
use crate::measure::{Watched, cpu, p50_ms, per_piece, round};
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use splitreel_client::types::{JobCreate, ProfileChoice, Scope, TenantSettings, TokenCreate};
use splitreel_client::{Client, ClientConfig, Token};
use splitreel_core::JobId;
use splitreel_core::job::JobState;
use splitreel_core::profile::Profile;
use std::time::{Duration, Instant};

/// Rounds of what is measured one at a time.
const ROUNDS: usize = 100;
/// Segments of a job of the backlog.
const BACKLOG_JOB: u32 = 50_000;
/// Segments of one of as many jobs that just keep the slots busy as long as the measurement lasts.
const SMALL_JOB: u32 = 3_000;
/// Jobs that a busy tenant has: running, and behind them.
const BUSY_JOBS: u32 = 10;
const QUEUED_JOBS: u32 = 200;

/// Where and with what the scenarios run.
pub struct Stage {
    pub admin: Client,
    pub base: url::Url,
    pub cluster: Cluster,
    pub slots: u32,
    pub segments: u32,
    pub task: Duration,
    pub watched: Vec<Watched>,
}

fn segments_of(job: JobId) -> impl Fn(&Noted) -> bool {
    move |noted| noted.job == job && noted.is_segment
}

/// Between the first and the last of some moments.
fn span(from: &[Instant], to: &[Instant]) -> Result<f64> {
    let (first, last) = (from.iter().min().context("none")?, to.iter().max().context("none")?);
    Ok(last.duration_since(*first).as_secs_f64())
}

impl Stage {
    /// Submits a film with `segments` segments.
    async fn submit(&self, who: &Client, segments: u32) -> Result<JobId> {
        let mut profile = Profile::built_in("universal").context("no such profile")?;
        profile.name = "fleet".into();
        profile.split.segment_seconds = f64::from(crate::fleet::SEGMENT_SECONDS);
        let job = JobCreate {
            source: Some(format!("s3://sources/film-{segments}.mp4")),
            profile: Some(ProfileChoice::Inline(Box::new(profile))),
            ..JobCreate::default()
        };
        Ok(who.create_job(&job, None).await?.value.id)
    }

    async fn submit_many(&self, who: &Client, count: u32, segments: u32) -> Result<Vec<JobId>> {
        let jobs = futures::stream::iter(0..count).map(|_| self.submit(who, segments)).buffered(4);
        jobs.collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Waits until a job is planned.
    async fn until_planned(&self, job: JobId) -> Result<()> {
        for _ in 0..12_000 {
            match self.admin.job(job).await?.state {
                JobState::Probing | JobState::Planning => tokio::time::sleep(Duration::from_millis(50)).await,
                JobState::Running => return Ok(()),
                state => anyhow::bail!("job {job} is {}", state.as_str()),
            }
        }
        anyhow::bail!("job {job} is not planned")
    }

    async fn cancel(&self, job: JobId) -> Result<Duration> {
        let asked = Instant::now();
        self.admin.cancel_job(job).await?;
        Ok(asked.elapsed())
    }

    /// Measuring asks more often than people do.
    pub async fn unlimited(&self, tenant: &str) -> Result<()> {
        // The measured tenant goes first, whatever else runs.
        let weight = if tenant == "default" { 1_000 } else { 1 };
        let settings = TenantSettings { weight, requests_per_second: Some(100_000), ..TenantSettings::default() };
        self.admin.save_tenant(tenant, &settings, None).await?;
        Ok(())
    }

    /// A tenant of its own.
    async fn tenant(&self, name: &str) -> Result<Client> {
        let token = TokenCreate {
            name: name.to_owned(),
            scopes: [Scope::JobsRead, Scope::JobsWrite].into(),
            tenant: Some(name.to_owned()),
            expires_in_seconds: None,
        };
        let made = self.admin.create_token(&token).await?;
        self.unlimited(name).await?;
        Ok(Client::new(ClientConfig::new(self.base.clone(), Some(Token(made.secret))))?)
    }

    /// Durable segments per second, and what one costs in CPU time.
    pub async fn throughput(&self) -> Result<Value> {
        let fleet = Fleet::start(&self.cluster, self.slots, self.task).await?;
        let job = self.submit(&self.admin, self.segments).await?;
        let (log, count) = (&fleet.log, self.segments as usize);
        log.wait(&log.started, 1, segments_of(job)).await?;
        let before = cpu(&self.watched)?;
        let done = log.wait(&log.completed, count, segments_of(job)).await?;
        let after = cpu(&self.watched)?;
        let seconds = span(&Log::of(&log.started, segments_of(job)), &done)?;
        let percent = self.admin.job(job).await?.progress.percent;
        ensure!(percent > 99.0, "the coordinator sees {percent} % done");
        let claims = log.take_claims();
        self.cancel(job).await?;
        fleet.end().await?;
        Ok(json!({
            "segments": count, "slots": self.slots, "seconds": round(seconds),
            "segments_per_s": round(count as f64 / seconds),
            "cpu_ms_per_segment": per_piece(&before, &after, count),
            "claim_call_p50_ms": p50_ms(claims),
        }))
    }

    /// Ideal time over real time.
    pub async fn efficiency(&self) -> Result<Value> {
        let fleet = Fleet::start(&self.cluster, self.slots, self.task).await?;
        let job = self.submit(&self.admin, self.segments).await?;
        let (log, count) = (&fleet.log, self.segments as usize);
        let before = cpu(&self.watched)?;
        let done = log.wait(&log.completed, count, segments_of(job)).await?;
        let after = cpu(&self.watched)?;
        let mut started = Log::of(&log.started, segments_of(job));
        started.sort_unstable();
        let seconds = span(&started, &done)?;
        let first_wave = started.get(..self.slots as usize).context("fewer tasks than slots")?;
        let ramp = span(first_wave, first_wave)?;
        let ideal = self.task.as_secs_f64() * f64::from(self.segments.div_ceil(self.slots));
        let claims = log.take_claims();
        self.cancel(job).await?;
        fleet.end().await?;
        Ok(json!({
            "slots": self.slots, "tasks": count, "task_ms": self.task.as_millis(), "seconds": round(seconds),
            "ideal_seconds": round(ideal), "first_wave_seconds": round(ramp), "claim_call_p50_ms": p50_ms(claims),
            "cpu_ms_per_segment": per_piece(&before, &after, count), "efficiency": round(ideal / seconds),
        }))
    }

    /// From the answer to a submission to the order in the hands of an idle worker.
    pub async fn latency(&self) -> Result<Value> {
        let fleet = Fleet::start(&self.cluster, self.slots, self.task).await?;
        let log = &fleet.log;
        let (mut to_probe, mut to_segment) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let job = self.submit(&self.admin, 1).await?;
            let accepted = Instant::now();
            let segment = log.wait(&log.started, 1, segments_of(job)).await?;
            log.wait(&log.completed, 1, segments_of(job)).await?;
            let probe = Log::of(&log.started, |n| n.job == job && !n.is_segment);
            self.cancel(job).await?;
            // The first one opens connections.
            if round > 0 {
                to_probe.extend(probe.iter().map(|at| at.saturating_duration_since(accepted)));
                to_segment.extend(segment.iter().map(|at| at.saturating_duration_since(accepted)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let claims = log.take_claims();
        fleet.end().await?;
        Ok(json!({
            "rounds": to_probe.len(), "claim_p50_ms": p50_ms(to_probe), "first_segment_p50_ms": p50_ms(to_segment),
            "claim_call_p50_ms": p50_ms(claims),
        }))
    }

    /// How long a short job of one tenant waits for its first segment, alone and beside another tenant's work.
    pub async fn fairness(&self) -> Result<Value> {
        let fleet = Fleet::start(&self.cluster, self.slots, self.task).await?;
        let (busy, short) = (self.tenant("busy").await?, self.tenant("short").await?);
        let idle = self.starts(&fleet, &short).await?;
        let mut jobs = self.submit_many(&busy, BUSY_JOBS, 1_000).await?;
        for job in &jobs {
            self.until_planned(*job).await?;
        }
        jobs.extend(self.submit_many(&busy, QUEUED_JOBS, 20).await?);
        let beside = self.starts(&fleet, &short).await?;
        for job in jobs {
            self.cancel(job).await?;
        }
        fleet.end().await?;
        let (idle, beside) = (p50_ms(idle).context("none")?, p50_ms(beside).context("none")?);
        Ok(json!({
            "slots": self.slots, "task_ms": self.task.as_millis(), "idle_start_ms": idle, "busy_start_ms": beside,
            "start_ratio": round(beside / idle),
        }))
    }

    async fn starts(&self, fleet: &Fleet, who: &Client) -> Result<Vec<Duration>> {
        let mut starts = Vec::new();
        for _ in 0..11 {
            let job = self.submit(who, 2).await?;
            let accepted = Instant::now();
            let started = fleet.log.wait(&fleet.log.started, 1, segments_of(job)).await?;
            starts.extend(started.first().map(|at| at.saturating_duration_since(accepted)));
            fleet.log.wait(&fleet.log.completed, 2, segments_of(job)).await?;
            self.cancel(job).await?;
        }
        Ok(starts)
    }

    /// Claims and cancels with `segments` waiting behind them, over the same before and after with few waiting in as
    /// many jobs. Few and not none: the slots are to be as busy on either side, so that what differs is what waits.
    pub async fn backlog(&self) -> Result<Value> {
        let fleet = Fleet::start(&self.cluster, self.slots, self.task).await?;
        let idle = self.claims_and_cancels(&fleet).await?;
        let count = self.segments.div_ceil(BACKLOG_JOB);
        let mut sides = Vec::new();
        let mut large = Vec::new();
        let mut filled = 0.0;
        for (side, size) in [SMALL_JOB, BACKLOG_JOB, SMALL_JOB].into_iter().enumerate() {
            let began = Instant::now();
            let jobs = self.wait_behind(side, count, size).await?;
            filled = began.elapsed().as_secs_f64().max(filled);
            sides.push(self.claims_and_cancels(&fleet).await?);
            let mut is_busy = false;
            for job in jobs {
                is_busy |= self.admin.job(job).await?.progress.percent < 99.0;
                large.push(self.cancel(job).await?);
            }
            ensure!(is_busy, "the jobs behind ended before the measurement did");
        }
        fleet.end().await?;
        let [before, behind, after] = sides[..] else { anyhow::bail!("three sides are measured") };
        let few = (f64::midpoint(before.0, after.0), f64::midpoint(before.1, after.1));
        Ok(json!({
            "waiting": self.segments, "few": count * SMALL_JOB, "jobs": count, "fill_seconds": round(filled),
            "claim_call_p50_ms": {"idle": idle.0, "few_before": before.0, "waiting": behind.0, "few_after": after.0},
            "cancel_p50_ms": {"idle": idle.1, "few_before": before.1, "waiting": behind.1, "few_after": after.1},
            "claim_ratio": round(behind.0 / few.0), "cancel_ratio": round(behind.1 / few.1),
            "cancel_large_job_p50_ms": p50_ms(large),
        }))
    }

    /// Submits `count` jobs of `size` segments, each of a tenant of its own (in one tenant a job would be probed after those before it
    /// have ended), and waits until all are planned.
    async fn wait_behind(&self, side: usize, count: u32, size: u32) -> Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        for number in 0..count {
            let other = self.tenant(&format!("backlog-{side}-{number}")).await?;
            jobs.push(self.submit(&other, size).await?);
        }
        for job in &jobs {
            self.until_planned(*job).await?;
        }
        Ok(jobs)
    }

    /// The median claim and the median cancel of a running job, in milliseconds.
    async fn claims_and_cancels(&self, fleet: &Fleet) -> Result<(f64, f64)> {
        fleet.log.take_claims();
        let mut cancels = Vec::new();
        for _ in 0..60 {
            let job = self.submit(&self.admin, 100).await?;
            fleet.log.wait(&fleet.log.completed, 20, segments_of(job)).await?;
            cancels.push(self.cancel(job).await?);
        }
        let claims = fleet.log.take_claims();
        Ok((p50_ms(claims).context("no claims")?, p50_ms(cancels).context("no cancels")?))
    }
}
