//! Processes: confined, bounded, killed when they must go, always waited for.

use crate::clips::{self, Dir, ffmpeg};
use splitreel_media::{Access, Output, Progress, Run, RunError, Stdout, run};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Produces frames for ever, at real-time speed, and reports progress.
const ENDLESS: [&str; 12] = [
    "-nostdin",
    "-progress",
    "pipe:1",
    "-stats_period",
    "0.05",
    "-re",
    "-f",
    "lavfi",
    "-i",
    "testsrc2=s=64x64",
    "-f",
    "null",
];

async fn endless(dir: &Dir) -> (Run, String) {
    // A unique argument by which the process can be found in /proc.
    let mark = format!("comment={}", dir.path().display());
    let mut args: Vec<String> = ENDLESS.map(str::to_owned).into();
    args.extend(["-metadata".into(), mark.clone(), "-".into()]);
    (Run::new(&ffmpeg().await.ffmpeg, args), mark)
}

fn is_running(mark: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.windows(mark.len()).any(|window| window == mark.as_bytes())
    })
}

/// Sends the first report of progress to the test.
fn first_report() -> (Stdout, tokio::sync::oneshot::Receiver<()>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let sink = Arc::new(move |_: Progress| {
        if let Some(tell) = tell.lock().unwrap().take() {
            let _ = tell.send(());
        }
    });
    (Stdout::Progress(sink), told)
}

#[tokio::test]
async fn cancelling_leaves_no_process() {
    let dir = Dir::new();
    let (mut spec, mark) = endless(&dir).await;
    let (stdout, running) = first_report();
    spec.stdout = stdout;
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(spec, cancel.clone()));
    running.await.unwrap();
    assert!(is_running(&mark));
    cancel.cancel();
    assert!(matches!(task.await.unwrap(), Err(RunError::Cancelled)));
    assert!(!is_running(&mark));
}

#[tokio::test]
async fn dropping_the_future_kills_the_process() {
    let dir = Dir::new();
    let (mut spec, mark) = endless(&dir).await;
    let (stdout, running) = first_report();
    spec.stdout = stdout;
    let task = tokio::spawn(run(spec, CancellationToken::new()));
    running.await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while is_running(&mark) {
        assert!(std::time::Instant::now() < deadline, "still running");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn wall_limit() {
    let dir = Dir::new();
    let (mut spec, mark) = endless(&dir).await;
    spec.limits.wall = Duration::from_millis(300);
    assert!(matches!(run(spec, CancellationToken::new()).await, Err(RunError::TimedOut { .. })));
    assert!(!is_running(&mark));
}

#[tokio::test]
async fn progress_never_runs_back() {
    let (tell, told) = mpsc::channel();
    let args = "-nostdin -progress pipe:1 -stats_period 0.02 -f lavfi -i testsrc2=s=320x240:d=8 -c:v mpeg4 -f null -";
    let mut spec = Run::new(&ffmpeg().await.ffmpeg, args.split(' '));
    spec.stdout = Stdout::Progress(Arc::new(move |progress| tell.send(progress).unwrap()));
    let Output { cpu_ms, .. } = run(spec, CancellationToken::new()).await.unwrap();
    let reports: Vec<Progress> = told.iter().collect();
    assert!(reports.is_sorted_by(|a, b| a.frames <= b.frames && a.out_time_us <= b.out_time_us));
    let last = reports.last().unwrap();
    assert!(last.is_end && last.frames == 200, "{last:?}");
    assert!(cpu_ms > 0);
}

#[tokio::test]
async fn standard_error_is_a_bounded_tail() {
    // At least one line for each of 250 frames.
    let args = "-nostdin -loglevel info -f lavfi -i testsrc2=s=64x64:d=10 -vf showinfo -f null -";
    let output = run(Run::new(&ffmpeg().await.ffmpeg, args.split(' ')), CancellationToken::new()).await.unwrap();
    assert_eq!(output.stderr_tail.len(), 200);
    assert!(output.stderr_tail.iter().all(|line| line.chars().count() <= 500));
    let mut spec = Run::new(&ffmpeg().await.ffmpeg, args.split(' '));
    spec.limits.stderr_bytes = 10_000;
    let flood = run(spec, CancellationToken::new()).await;
    assert!(matches!(flood, Err(RunError::OutputTooLarge { what: "standard error", .. })), "{flood:?}");
}

#[tokio::test]
async fn standard_output_is_bounded() {
    let args = "-nostdin -loglevel error -f lavfi -i testsrc2=s=320x240:d=8 -f rawvideo -";
    let mut spec = Run::new(&ffmpeg().await.ffmpeg, args.split(' '));
    spec.stdout = Stdout::Collect { limit_bytes: 100_000 };
    let flood = run(spec, CancellationToken::new()).await;
    assert!(matches!(flood, Err(RunError::OutputTooLarge { what: "standard output", .. })), "{flood:?}");
}

#[tokio::test]
async fn files_are_bounded() {
    let dir = Dir::new();
    let target = format!("file:{}", dir.file("big.avi").display());
    let args = format!("-nostdin -y -loglevel error -f lavfi -i testsrc2=s=320x240:d=8 -c:v rawvideo {target}");
    let mut spec = Run::new(&ffmpeg().await.ffmpeg, args.split(' '));
    spec.access = Access { read: vec![], write: vec![dir.path().to_owned()] };
    spec.limits.file_bytes = 1 << 20;
    let result = run(spec, CancellationToken::new()).await;
    assert!(matches!(result, Err(RunError::OutputTooLarge { what: "a file", .. })), "{result:?}");
    assert!(std::fs::metadata(dir.file("big.avi")).unwrap().len() <= 1 << 20);
}

#[tokio::test]
async fn nothing_outside_is_read_or_written() {
    let found = ffmpeg().await;
    if found.sandbox.landlock_abi == 0 {
        return;
    }
    let dir = Dir::new();
    let (inside, outside) = (dir.sub("inside"), dir.sub("outside"));
    clips::make(&outside.join("secret.wav"), "-f lavfi -i sine=d=0.1");
    let attempt = |source: std::path::PathBuf, target: std::path::PathBuf| {
        let args = ["-nostdin", "-y", "-loglevel", "error", "-i"].map(std::ffi::OsString::from);
        let mut spec = Run::new(&found.ffmpeg, args);
        spec.args.extend([source.into_os_string(), "-c".into(), "copy".into(), target.into_os_string()]);
        spec.access = Access { read: vec![], write: vec![inside.clone()] };
        run(spec, CancellationToken::new())
    };
    let read = attempt(outside.join("secret.wav"), inside.join("copy.wav")).await;
    assert!(
        matches!(&read, Err(RunError::Exit { tail, .. }) if tail.iter().any(|l| l.contains("Permission denied"))),
        "{read:?}"
    );
    std::fs::copy(outside.join("secret.wav"), inside.join("own.wav")).unwrap();
    attempt(inside.join("own.wav"), inside.join("copy.wav")).await.unwrap();
    let write = attempt(inside.join("own.wav"), outside.join("copy.wav")).await;
    assert!(matches!(write, Err(RunError::Exit { .. })), "{write:?}");
    assert!(!outside.join("copy.wav").exists());
}

#[tokio::test]
async fn a_program_that_is_not_there() {
    let result = run(Run::new("/nonexistent/ffmpeg".as_ref(), ["-version"]), CancellationToken::new()).await;
    assert!(matches!(result, Err(RunError::Spawn { .. })), "{result:?}");
}
