//! What the user sees while jobs run: bars on a terminal, plain lines elsewhere, JSON lines for programs.

use crate::exit::{Problem, printable};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use splitreel_core::event::Event;
use splitreel_core::part::Presentation;
use splitreel_core::plan::{FrameCount, LeftOut, Plan, Timeline};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How to show progress.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// Events as JSON lines on standard output.
    #[arg(long)]
    pub json: bool,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Between two progress lines where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Between two progress objects of the JSON form.
const JSON_EVERY: Duration = Duration::from_millis(500);

/// How far a job is.
pub struct Snapshot {
    /// Job id.
    pub job: String,
    /// File name of the source.
    pub name: String,
    /// The work is known.
    pub is_planned: bool,
    /// 0 to 1.
    pub share: f64,
    /// Expected seconds to the end.
    pub eta_seconds: Option<f64>,
    /// Media seconds per wall second.
    pub speed: Option<f64>,
    /// Tasks done.
    pub num_done: usize,
    /// Tasks in all.
    pub num_tasks: usize,
    /// Label, share and speed of each running attempt.
    pub running: Vec<(String, f64, Option<f64>)>,
}

/// Where it goes.
enum Form {
    Bars { all: MultiProgress, bars: BTreeMap<String, Bars> },
    Plain { last: Instant },
    Json { last: Instant },
    Quiet,
}

struct Bars {
    overall: ProgressBar,
    workers: Vec<ProgressBar>,
}

/// The line about the frames of the renditions that share a frame list: "exact" only where every frame is kept.
fn frames_in_words(count: &FrameCount, names: bool, num_segments: Option<usize>) -> String {
    let word = if count.left_out.is_empty() { "exact" } else { "frames" };
    let mut line = format!("  {word:<7} {} of {} frames", count.frames, count.source_frames);
    if names {
        line.push_str(&format!(" in {}", count.renditions.join(", ")));
    }
    if let Some(num) = num_segments {
        line.push_str(&format!(" over {num} {}", if num == 1 { "segment" } else { "segments" }));
    }
    for LeftOut { frames, reason } in &count.left_out {
        line.push_str(&format!(", {frames} left out because {reason}"));
    }
    if num_segments.is_some() {
        line.push_str(", proof in report.json");
    }
    line
}

/// The display.
pub struct Display {
    form: Form,
}

impl Display {
    /// Chooses the form.
    pub fn new(json: bool, quiet: bool) -> Self {
        let form = if json {
            Form::Json { last: Instant::now() }
        } else if quiet {
            Form::Quiet
        } else if std::io::stderr().is_terminal() {
            Form::Bars {
                all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
                bars: BTreeMap::new(),
            }
        } else {
            Form::Plain { last: Instant::now() }
        };
        Display { form }
    }

    /// Whether events are to be fetched for it.
    pub fn wants_events(&self) -> bool {
        matches!(self.form, Form::Json { .. })
    }

    /// A line for people.
    pub fn say(&mut self, line: String) {
        let line = printable(&line);
        match &self.form {
            Form::Bars { all, .. } => all.suspend(|| eprintln!("{line}")),
            Form::Plain { .. } => eprintln!("{line}"),
            Form::Json { .. } => emit(&json!({ "event": "said", "text": line })),
            Form::Quiet => {}
        }
    }

    /// A line that matters only to those who look closely.
    pub fn detail(&mut self, line: String) {
        if !matches!(self.form, Form::Json { .. }) {
            self.say(format!("  {line}"));
        }
    }

    /// An error line, shown in every form.
    pub fn problem(&mut self, line: String) {
        Problem::failed(line).print_above(self);
    }

    /// A task became done.
    pub fn task_done(&mut self, name: &str, label: &str) {
        if let Form::Plain { .. } = self.form {
            eprintln!("{}: {label} done", printable(name));
        }
    }

    /// An event of the job store.
    pub fn event(&mut self, event: &Event) {
        if self.wants_events()
            && let Ok(value) = serde_json::to_value(event)
        {
            emit(&value);
        }
    }

    /// Progress of all open jobs.
    pub fn update(&mut self, jobs: &[Snapshot]) {
        match &mut self.form {
            Form::Quiet => {}
            Form::Json { last } => {
                if last.elapsed() < JSON_EVERY {
                    return;
                }
                *last = Instant::now();
                for s in jobs.iter().filter(|s| s.is_planned) {
                    let running: Vec<_> = s
                        .running
                        .iter()
                        .map(|(l, share, speed)| json!({ "what": l, "share": round(*share), "speed": speed }))
                        .collect();
                    emit(
                        &json!({ "event": "progress", "job": s.job, "share": round(s.share), "eta_s": s.eta_seconds.map(|e| e.round()),
                        "speed": s.speed.map(round), "tasks_done": s.num_done, "tasks": s.num_tasks, "running": running }),
                    );
                }
            }
            Form::Plain { last } => {
                if last.elapsed() < PLAIN_EVERY {
                    return;
                }
                *last = Instant::now();
                for s in jobs.iter().filter(|s| s.is_planned) {
                    eprintln!("{}: {}", printable(&s.name), summary(s));
                }
            }
            Form::Bars { all, bars } => {
                let gone: Vec<String> = bars.keys().filter(|k| !jobs.iter().any(|s| s.job == **k)).cloned().collect();
                for k in gone {
                    if let Some(b) = bars.remove(&k) {
                        b.clear();
                    }
                }
                for s in jobs {
                    let entry = bars.entry(s.job.clone()).or_insert_with(|| {
                        let overall = all.add(ProgressBar::new(1000));
                        if let Ok(style) = ProgressStyle::with_template("{prefix:.bold} [{bar:32}] {msg}") {
                            overall.set_style(style.progress_chars("=> "));
                        }
                        overall.set_prefix(printable(&s.name));
                        Bars { overall, workers: Vec::new() }
                    });
                    entry.show(all, s);
                }
            }
        }
    }

    /// A job was laid out.
    pub fn done(
        &mut self,
        name: &str,
        dir: &Path,
        presentation: &Presentation,
        plan: Option<&Plan>,
        took: Duration,
        num_reused: usize,
    ) {
        let counts = plan.map(Plan::frame_counts).unwrap_or_default();
        let frames = counts.first().map(|count| count.frames);
        let media = plan.and_then(|p| p.timeline.as_ref()).map(Timeline::seconds);
        let num_segments = plan.map_or(0, Plan::num_segments);
        if let Form::Json { .. } = self.form {
            emit(
                &json!({ "event": "done", "output": dir, "files": presentation.num_files, "bytes": presentation.bytes, "hash": presentation.hash,
                "wall_s": round(took.as_secs_f64()), "frames": frames, "frame_counts": counts, "segments": num_segments, "reused_tasks": num_reused }),
            );
            return;
        }
        if matches!(self.form, Form::Quiet) {
            return;
        }
        let speed =
            media.map_or_else(String::new, |m| format!(", {:.2}× real time", m / took.as_secs_f64().max(0.001)));
        self.say(format!("{name}: done in {}{speed}", clock(took.as_secs_f64())));
        for (n, count) in counts.iter().enumerate() {
            self.say(frames_in_words(count, counts.len() > 1, (n == 0).then_some(num_segments)));
        }
        self.say(format!(
            "  output  {} ({:.1} MB in {} files)",
            dir.display(),
            presentation.bytes as f64 / 1e6,
            presentation.num_files
        ));
        self.say(format!("  play    {}", dir.join("master.m3u8").display()));
    }

    /// Takes the bars away.
    pub fn finish(&mut self) {
        if let Form::Bars { bars, .. } = &mut self.form {
            for (_, b) in std::mem::take(bars) {
                b.clear();
            }
        }
    }

    fn suspend(&self, work: impl FnOnce()) {
        match &self.form {
            Form::Bars { all, .. } => all.suspend(work),
            _ => work(),
        }
    }
}

impl Problem {
    /// Prints without tearing the bars; in JSON form also as an event.
    pub fn print_above(&self, display: &Display) {
        display.suspend(|| self.print());
        if let Form::Json { .. } = display.form {
            emit(&json!({ "event": "error", "exit_code": self.exit.code(), "lines": self.lines }));
        }
    }
}

impl Bars {
    fn show(&mut self, all: &MultiProgress, s: &Snapshot) {
        self.overall.set_position((s.share * 1000.0) as u64);
        self.overall.set_message(if s.is_planned { summary(s) } else { "looking at the source".into() });
        while self.workers.len() < s.running.len() {
            let bar = all.insert_after(self.workers.last().unwrap_or(&self.overall), ProgressBar::new(1000));
            if let Ok(style) = ProgressStyle::with_template("  {msg:24} [{bar:20}] {prefix}") {
                bar.set_style(style.progress_chars("=> "));
            }
            self.workers.push(bar);
        }
        while self.workers.len() > s.running.len() {
            if let Some(bar) = self.workers.pop() {
                bar.finish_and_clear();
                all.remove(&bar);
            }
        }
        for (bar, (label, share, speed)) in self.workers.iter().zip(&s.running) {
            bar.set_position((share * 1000.0) as u64);
            bar.set_message(label.clone());
            bar.set_prefix(speed.map_or_else(String::new, |x| format!("{x:.1}×")));
        }
    }

    fn clear(self) {
        for bar in self.workers {
            bar.finish_and_clear();
        }
        self.overall.finish_and_clear();
    }
}

fn summary(s: &Snapshot) -> String {
    let eta = s.eta_seconds.map_or_else(String::new, |e| format!(", {} left", clock(e)));
    let speed = s.speed.filter(|x| *x > 0.0).map_or_else(String::new, |x| format!(", {x:.2}×"));
    format!("{:3.0} %, {} of {} tasks{speed}{eta}", s.share * 100.0, s.num_done, s.num_tasks)
}

fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0);
    if s < 60.0 {
        return format!("{s:.1} s");
    }
    let whole = s.round() as u64;
    if whole < 3600 {
        format!("{}:{:02} min", whole / 60, whole % 60)
    } else {
        format!("{}:{:02} h", whole / 3600, whole % 3600 / 60)
    }
}

fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

/// One line per value. A reader that went away is no reason to fail.
fn emit(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(frames: u64, left_out: &[(u64, &str)]) -> FrameCount {
        FrameCount {
            renditions: vec!["720p".into(), "360p".into()],
            source_frames: 200,
            frames,
            left_out: left_out.iter().map(|(n, why)| LeftOut { frames: *n, reason: (*why).into() }).collect(),
        }
    }

    #[test]
    fn the_closing_line_says_exact_only_where_every_frame_is_kept() {
        let all = frames_in_words(&count(200, &[]), false, Some(8));
        assert_eq!(all, "  exact   200 of 200 frames over 8 segments, proof in report.json");
        let fewer = frames_in_words(&count(198, &[(2, "they cannot be decoded")]), false, Some(1));
        assert_eq!(
            fewer,
            "  frames  198 of 200 frames over 1 segment, 2 left out because they cannot be decoded, proof in report.json"
        );
        let half = frames_in_words(&count(100, &[(100, "the profile asks for every second frame")]), true, None);
        assert_eq!(
            half,
            "  frames  100 of 200 frames in 720p, 360p, 100 left out because the profile asks for every second frame"
        );
    }
}
