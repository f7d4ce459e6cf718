//! `report.json`: the certificate (the same for every run of a plan), the decisions, and facts about this run.

use serde::Serialize;
use splitreel_backend::lease::History;
use splitreel_core::assembly::Certificate;
use splitreel_core::part::{AudioPart, Cost, ProbeResult, VideoPart};
use splitreel_core::plan::{Decision, Plan};

/// The whole report.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    /// Format version.
    version: u32,
    /// What was proven.
    certificate: &'a Certificate,
    /// What was decided, and why.
    decisions: &'a [Decision],
    /// How it went: differs from run to run.
    run: Run<'a>,
}

#[derive(Serialize)]
struct Run<'a> {
    job: &'a str,
    profile: &'a str,
    created_ms: i64,
    assembled_ms: i64,
    wall_ms: i64,
    extra_attempts: u32,
    cost: Cost,
    tasks: Vec<TaskCost>,
}

#[derive(Serialize)]
struct TaskCost {
    task: String,
    #[serde(flatten)]
    cost: Cost,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        certificate: &'a Certificate,
        plan: &'a Plan,
        probe: &ProbeResult,
        video: &[VideoPart],
        audio: &[AudioPart],
        history: &'a History,
    ) -> Self {
        let mut tasks = vec![TaskCost { task: "probe".into(), cost: probe.cost }];
        tasks.extend(video.iter().map(|v| TaskCost { task: format!("segment {}", v.segment), cost: v.cost }));
        tasks.extend(audio.iter().map(|a| TaskCost { task: format!("audio {}", a.rendition), cost: a.cost }));
        let cost = tasks.iter().fold(Cost::default(), |sum, t| Cost {
            cpu_ms: sum.cpu_ms + t.cost.cpu_ms,
            wall_ms: sum.wall_ms + t.cost.wall_ms,
            bytes_read: sum.bytes_read + t.cost.bytes_read,
            requests: sum.requests + t.cost.requests,
            bytes_written: sum.bytes_written + t.cost.bytes_written,
        });
        let run = Run {
            job: &history.job,
            profile: &history.profile,
            created_ms: history.created_ms,
            assembled_ms: history.assembled_ms,
            wall_ms: history.assembled_ms.saturating_sub(history.created_ms),
            extra_attempts: history.extra_attempts,
            cost,
            tasks,
        };
        Report { version: 1, certificate, decisions: &plan.decisions, run }
    }
}
