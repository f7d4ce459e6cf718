//! `splitreel plan`: probes, plans and explains, without doing.

use crate::config::{Config, EncodeArgs};
use crate::engine;
use crate::exit::{Exit, Problem, printable};
use clap::Args;
use splitreel_backend::grants::local_path;
use splitreel_core::plan::{Plan, Timeline};
use splitreel_core::planner;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::Progress;
use splitreel_core::time::OutputTicks;
use splitreel_core::{Failure, LeaseId};
use splitreel_media::{FfmpegToolkit, Limits, ProbeOptions, Request, Toolkit};
use std::path::PathBuf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// File to plan for.
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    #[command(flatten)]
    pub encode: EncodeArgs,
    /// The whole plan as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Plans one input.
pub async fn plan(config: &Config, args: PlanArgs) -> Result<Exit, Problem> {
    let profile = config.profile(&args.encode)?;
    let source = super::target::pin_source(&args.input)?;
    let ffmpeg = engine::detect().await?;
    let capabilities = engine::capabilities(&ffmpeg);
    let scratch = std::env::temp_dir().join(format!("splitreel-plan-{}", uuid::Uuid::now_v7()));
    let tools = FfmpegToolkit::new(ffmpeg, scratch.clone(), Limits::default(), ProbeOptions::default());
    let request = Request {
        lease: LeaseId(uuid::Uuid::now_v7()),
        name: source.locator.clone(),
        source: local_path(&source.locator).unwrap_or_default(),
        is_complete: true,
        progress: watch::channel(Progress::default()).0,
        cancel: CancellationToken::new(),
    };
    let probed = tools.probe(request, false, profile.source).await;
    let _ = std::fs::remove_dir_all(&scratch);
    let refused = |f: Failure| super::watch::failed(&source.locator, &f);
    let mut info = probed.map_err(refused)?;
    info.bytes = source.bytes;
    let plan = planner::plan(&info, &profile, &capabilities).map_err(refused)?;
    if args.json {
        let json = serde_json::json!({ "source": info, "plan": plan, "plan_sha256": plan.hash() });
        say!("{json:#}");
    } else {
        explain(&info, &plan);
    }
    Ok(Exit::Done)
}

fn explain(info: &SourceInfo, plan: &Plan) {
    say!("source      {} bytes, {}", info.bytes, info.demuxer);
    if let Some(v) = &info.video {
        let rotated = if v.rotation == 0 { String::new() } else { format!(", rotated {}°", v.rotation) };
        say!(
            "  video     stream {}: {} {}x{}{rotated}, {}, {} frames, {} keyframes (by {})",
            v.stream,
            v.codec,
            v.width,
            v.height,
            v.pix_fmt,
            v.frames.pts.len(),
            v.frames.keyframes.len(),
            match v.frames.evidence {
                splitreel_core::source::IndexEvidence::Moov => "its index",
                splitreel_core::source::IndexEvidence::PacketScan => "a packet scan",
                splitreel_core::source::IndexEvidence::DecodeScan => "decoding once",
            }
        );
    }
    for a in &info.audio {
        say!(
            "  audio     stream {}: {} {} Hz, {} channels, {} from {:.3} s",
            a.stream,
            a.codec,
            a.sample_rate,
            a.channels,
            printable(&a.language),
            a.first_pts.seconds()
        );
    }
    say!("");
    for d in &plan.decisions {
        say!("{:<18}{}\n{:18}because {}", d.subject, printable(&d.choice), "", printable(&d.reason));
    }
    if let Some(timeline) = &plan.timeline {
        explain_segments(plan, timeline);
    }
    let tasks = plan.tasks(1);
    let cost: u64 = tasks.iter().map(|t| t.expected_cost).sum();
    let most = tasks.iter().map(|t| t.expected_cost).max().unwrap_or(0);
    say!(
        "\n{} tasks, expected cost {cost} (kilopixels to encode); the longest task is {:.0} % of it",
        tasks.len(),
        100.0 * most as f64 / cost.max(1) as f64
    );
    say!("plan sha256 {}", plan.hash());
}

/// Lists the segments with the frames and media segments of the best rendition.
fn explain_segments(plan: &Plan, timeline: &Timeline) {
    let at = |t: OutputTicks| t.at(timeline.output_timebase()).seconds();
    say!("\nsegment        from          to   frames  seek  media segments");
    for (place, s) in timeline.segments.iter().enumerate() {
        let seek = s.seek.first().map_or_else(
            || "start".to_owned(),
            |k| format!("-{:.0} ms", (s.start - *k).at(timeline.source_timebase).seconds() * 1000.0),
        );
        let leading = plan.timeline_tracks().next().and_then(|track| plan.part_at(track, place));
        say!(
            "{:>7} {:>11.3} {:>11.3} {:>8}  {:>8}  {}",
            s.index + 1,
            at(s.output_start),
            at(s.output_end),
            leading.map_or(0, |p| p.frames.num_frames),
            seek,
            leading.map_or(0, |p| p.grid.media_segments.len())
        );
    }
}
