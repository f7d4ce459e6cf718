//! Runs one ffmpeg or ffprobe: starts it confined, reads its pipes within bounds, kills it when it must go, always
//! waits for it. Does not know what the process is asked to do.

mod confine;
mod lines;
mod progress;
mod supervise;

pub use confine::Sandbox;
pub(crate) use confine::sandbox_of_this_kernel;
pub use progress::Progress;

use splitreel_telemetry::labels::Exit;
use splitreel_telemetry::record;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervise::{Group, Stop};
use tokio_util::sync::CancellationToken;

/// Called with every progress report of a running process, from a thread of its own.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Called with each line of output; breaking ends the process.
pub type LineSink = Box<dyn FnMut(&[u8]) -> ControlFlow<()> + Send>;

/// What becomes of standard output.
pub enum Stdout {
    /// Thrown away.
    Discard,
    /// Read as the key=value blocks of `-progress pipe:1`.
    Progress(ProgressSink),
    /// Kept whole; the process is killed beyond this many bytes.
    Collect {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// Handed on line by line without being kept; lines beyond 4 KiB are cut.
    Lines {
        /// Takes the lines.
        sink: LineSink,
        /// The process is killed beyond this many bytes.
        limit_bytes: u64,
    },
}

/// What a process may touch besides its own program and libraries.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Files and directories it may read.
    pub read: Vec<PathBuf>,
    /// Directories it may create and write files in.
    pub write: Vec<PathBuf>,
}

/// What a process may use up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Wall time until it is killed.
    pub wall: Duration,
    /// CPU seconds (`RLIMIT_CPU`), 0 = no limit.
    pub cpu_seconds: u64,
    /// Address space in bytes (`RLIMIT_AS`), 0 = no limit.
    pub address_space_bytes: u64,
    /// Largest file it may write, in bytes (`RLIMIT_FSIZE`), 0 = no limit.
    pub file_bytes: u64,
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Bytes of standard error until it is killed: ffmpeg can complain about every macroblock of a broken film.
    pub stderr_bytes: u64,
    /// Scheduling niceness, 0 to 19.
    pub nice: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            wall: Duration::from_secs(24 * 3600),
            cpu_seconds: 0,
            address_space_bytes: 64 << 30,
            file_bytes: 512 << 30,
            open_files: 256,
            stderr_bytes: 256 << 20,
            nice: 0,
        }
    }
}

/// One process to run.
pub struct Run {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What becomes of standard output.
    pub stdout: Stdout,
    /// What it may touch.
    pub access: Access,
    /// What it may use up.
    pub limits: Limits,
    /// Use Landlock where the kernel has it.
    pub landlock: bool,
}

impl Run {
    /// A run with default limits, confined, its output thrown away.
    pub fn new(program: &Path, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Run {
            program: program.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            stdout: Stdout::Discard,
            access: Access::default(),
            limits: Limits::default(),
            landlock: true,
        }
    }
}

/// What a finished process left behind.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// CPU time of the process, user and system, in milliseconds.
    pub cpu_ms: u64,
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// Last lines of standard error.
    pub stderr_tail: Vec<String>,
    /// Standard output, when it was collected.
    pub stdout: Vec<u8>,
    /// The line sink had enough and the process was ended early.
    pub is_stopped: bool,
}

/// Why a process gave no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("{program} could not be started")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The caller took the work back.
    #[error("cancelled")]
    Cancelled,
    /// It ran into its wall or CPU limit.
    #[error("killed after {wall_ms} ms: time limit")]
    TimedOut {
        /// Wall time it had.
        wall_ms: u64,
        /// Last lines of standard error.
        tail: Vec<String>,
    },
    /// A signal from elsewhere ended the process (out of memory, a crash).
    #[error("ended by signal {signal}")]
    Killed {
        /// The signal.
        signal: i32,
        /// Last lines of standard error.
        tail: Vec<String>,
    },
    /// It reported failure.
    #[error("exit code {code}")]
    Exit {
        /// The code.
        code: i32,
        /// Last lines of standard error.
        tail: Vec<String>,
    },
    /// It wrote more than it may, to a pipe or to a file.
    #[error("{what} outgrew its limit")]
    OutputTooLarge {
        /// `standard output`, `standard error` or `a file`.
        what: &'static str,
        /// Last lines of standard error.
        tail: Vec<String>,
    },
    /// A disk is full.
    #[error("no space left on device")]
    NoSpace {
        /// Last lines of standard error.
        tail: Vec<String>,
    },
}

impl RunError {
    /// The last lines of standard error, where there are any.
    pub fn tail(&self) -> &[String] {
        match self {
            RunError::Spawn { .. } | RunError::Cancelled => &[],
            RunError::TimedOut { tail, .. }
            | RunError::Killed { tail, .. }
            | RunError::Exit { tail, .. }
            | RunError::OutputTooLarge { tail, .. }
            | RunError::NoSpace { tail } => tail,
        }
    }
}

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
