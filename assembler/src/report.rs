//! `report.json`: the certificate, which is the same for every run of a plan, the decisions, and figures of this run.

use serde::Serialize;
use splitreel_backend::lease::{Assembly, SourceName};
use splitreel_core::Failure;
use splitreel_core::assembly::Certificate;
use splitreel_core::part::Cost;
use splitreel_core::plan::{Decision, FrameCount};

/// The whole report.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    /// Format version.
    version: u32,
    /// What was transcoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a SourceName>,
    /// The certificate.
    certificate: &'a Certificate,
    /// The planner's decisions and their reasons.
    decisions: &'a [Decision],
    /// How many frames of the source each rendition shows, and why others are left out.
    frames: Vec<FrameCount>,
    /// Figures of this run; these differ from run to run.
    run: Run<'a>,
}

#[derive(Serialize)]
struct Run<'a> {
    job: &'a str,
    /// Base name of single files.
    base: &'a str,
    profile: &'a str,
    created_ms: i64,
    assembled_ms: i64,
    wall_ms: i64,
    extra_attempts: u32,
    /// Number of the plan.
    generation: u32,
    /// Why the job was last planned again.
    #[serde(skip_serializing_if = "Option::is_none")]
    replanned: Option<&'a Failure>,
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
    pub(crate) fn new(certificate: &'a Certificate, assembly: &'a Assembly) -> Self {
        let Assembly { plan, base, probe, video, audio, history, .. } = assembly;
        let mut tasks = vec![TaskCost { task: "probe".into(), cost: probe.cost }];
        tasks.extend(video.iter().map(|v| TaskCost { task: format!("segment {}", v.segment), cost: v.cost }));
        tasks.extend(audio.iter().map(|a| TaskCost { task: format!("audio {}", a.stored.track), cost: a.cost }));
        let cost = tasks.iter().fold(Cost::default(), |sum, t| Cost {
            cpu_ms: sum.cpu_ms + t.cost.cpu_ms,
            wall_ms: sum.wall_ms + t.cost.wall_ms,
            bytes_read: sum.bytes_read + t.cost.bytes_read,
            requests: sum.requests + t.cost.requests,
            bytes_written: sum.bytes_written + t.cost.bytes_written,
        });
        let run = Run {
            job: &history.job,
            base,
            profile: &history.profile,
            created_ms: history.created_ms,
            assembled_ms: history.assembled_ms,
            wall_ms: history.assembled_ms.saturating_sub(history.created_ms),
            extra_attempts: history.extra_attempts,
            generation: history.generation,
            replanned: history.replanned.as_ref(),
            cost,
            tasks,
        };
        Report {
            version: 1,
            source: history.source.as_ref(),
            certificate,
            decisions: &plan.decisions,
            frames: plan.frame_counts(),
            run,
        }
    }
}
