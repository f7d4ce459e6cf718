//! Runs one ffmpeg or ffprobe: starts it confined, reads its pipes within bounds, kills it when it must go, always
//! waits for it. Does not know what the process is asked to do.

mod confine;
mod lines;
mod progress;
mod run;
mod supervise;

pub use confine::Sandbox;
pub(crate) use confine::sandbox_of_this_kernel;
pub use progress::Progress;
pub use run::{Access, Limits, Output, ProgressSink, Run, RunError, Stdout};

use splitreel_telemetry::labels::Exit;
use splitreel_telemetry::record;
use std::path::PathBuf;
use std::sync::Arc;
use supervise::{Group, Stop};
use tokio_util::sync::CancellationToken;

/// Runs a process to its end.
///
/// The process is killed, with everything it may have started, when `cancel` fires, when a limit is hit, when this
/// future is dropped, and by the kernel when this program dies.
///
/// # Errors
/// [`RunError`]; success only means that the process said so.
pub async fn run(run: Run, cancel: CancellationToken) -> Result<Output, RunError> {
    let outcome = run_to_its_end(run, cancel).await;
    record::ffmpeg_exited(match &outcome {
        Ok(_) => Exit::Ok,
        Err(RunError::Exit { .. } | RunError::NoSpace { .. }) => Exit::Error,
        Err(RunError::Killed { .. }) => Exit::Signal,
        Err(RunError::TimedOut { .. } | RunError::OutputTooLarge { .. }) => Exit::Limit,
        Err(RunError::Cancelled) => Exit::Cancelled,
        Err(RunError::Spawn { .. }) => Exit::NotStarted,
    });
    outcome
}

async fn run_to_its_end(run: Run, cancel: CancellationToken) -> Result<Output, RunError> {
    if cancel.is_cancelled() {
        return Err(RunError::Cancelled);
    }
    let program = run.program.clone();
    let wall = run.limits.wall;
    let group = Arc::new(Group::default());
    let (done, mut result) = tokio::sync::oneshot::channel();
    let _kill_on_drop = KillOnDrop(Arc::clone(&group));
    // One thread for the life of the process: the parent-death signal follows the thread that forked.
    let supervisor = {
        let group = Arc::clone(&group);
        std::thread::Builder::new().name("ffmpeg".into()).spawn(move || {
            // The receiver is gone when the caller was dropped; the process is dead by then.
            let _ = done.send(supervise::supervise(run, &group));
        })
    };
    if let Err(source) = supervisor {
        return Err(RunError::Spawn { program, source });
    }
    let stop = tokio::select! {
        outcome = &mut result => return finished(outcome, program),
        () = cancel.cancelled() => Stop::Cancelled,
        () = tokio::time::sleep(wall) => Stop::TimedOut,
    };
    group.stop(stop);
    finished(result.await, program)
}

fn finished(
    outcome: Result<Result<Output, RunError>, tokio::sync::oneshot::error::RecvError>,
    program: PathBuf,
) -> Result<Output, RunError> {
    match outcome {
        Ok(outcome) => outcome,
        Err(_) => Err(RunError::Spawn { program, source: std::io::Error::other("the supervising thread ended") }),
    }
}

struct KillOnDrop(Arc<Group>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.stop(Stop::Cancelled);
    }
}
