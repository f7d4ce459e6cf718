//! One process to run: what it may touch and use up, and what it leaves behind.

use super::progress::Progress;
use std::ffi::OsString;
use std::io::{PipeReader, PipeWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Called with every progress report of a running process, from a thread of its own.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Called with each line of output; breaking ends the process.
pub type LineSink = Box<dyn FnMut(&[u8]) -> ControlFlow<()> + Send>;

/// Called with each block of output.
pub type ByteSink = Box<dyn FnMut(&[u8]) + Send>;

/// What becomes of standard output.
pub enum Stdout {
    /// Thrown away.
    Discard,
    /// Read as the key=value blocks of `-progress pipe:1`.
    Progress(ProgressSink),
    /// Handed on block by block without being kept.
    Bytes(ByteSink),
    /// Written by the process itself into a pipe: the other end is the standard input of another process.
    Pipe(PipeWriter),
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
    /// Pipe that is its standard input; `None` = empty input.
    pub stdin: Option<PipeReader>,
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
            stdin: None,
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
