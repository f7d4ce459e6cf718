//! The life of one process, seen from the thread that forks it and waits for it.

#![allow(unsafe_code, reason = "waits for, signals and confines processes by system calls")]

use super::confine::Cage;
use super::lines::{LineSplitter, Tail};
use super::progress::ProgressParser;
use super::run::{Output, Run, RunError, Stdout};
use ffmpeg_sidecar::command::FfmpegCommand;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Lines of standard error that are kept.
const TAIL_LINES: usize = 200;
/// Characters of such a line that are kept.
const TAIL_CHARS: usize = 500;
/// Longest line of standard output that is handed on.
const MAX_LINE_BYTES: usize = 4096;

/// Why a process was killed from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    TimedOut,
    StderrFlood,
    StdoutFlood,
    Enough,
}

/// The process group that may have to be killed.
#[derive(Default)]
pub(super) struct Group {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leader: Option<libc::pid_t>,
    stop: Option<Stop>,
    is_over: bool,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the group; the first reason counts. Before the start it prevents the start from lasting.
    pub(super) fn stop(&self, why: Stop) {
        let mut state = self.lock();
        if state.is_over {
            return;
        }
        state.stop.get_or_insert(why);
        if let Some(leader) = state.leader {
            kill_group(leader);
        }
    }

    fn started(&self, leader: libc::pid_t) {
        let mut state = self.lock();
        state.leader = Some(leader);
        if state.stop.is_some() {
            kill_group(leader);
        }
    }

    /// Reaps the leader. The process id stays ours until then, so that no signal can hit a stranger.
    fn reap(&self, leader: libc::pid_t) -> std::io::Result<(libc::c_int, libc::rusage)> {
        let mut state = self.lock();
        kill_group(leader);
        let mut status = 0;
        // SAFETY: rusage is plain data, all zeros is a value of it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let waited = loop {
            // SAFETY: both pointers are to live locals.
            let waited = unsafe { libc::wait4(leader, &mut status, 0, &mut usage) };
            if waited >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                break waited;
            }
        };
        state.leader = None;
        state.is_over = true;
        if waited < 0 { Err(std::io::Error::last_os_error()) } else { Ok((status, usage)) }
    }
}

fn kill_group(leader: libc::pid_t) {
    // SAFETY: killpg has no memory effects; the id belongs to a child that was not reaped yet.
    unsafe { libc::killpg(leader, libc::SIGKILL) };
}

/// Blocks until the leader has ended, without reaping it.
fn await_end(leader: libc::pid_t) {
    // SAFETY: siginfo_t is plain data.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` outlives the call.
        let result =
            unsafe { libc::waitid(libc::P_PID, leader as libc::id_t, &mut info, libc::WEXITED | libc::WNOWAIT) };
        if result == 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Runs the process to its end on the calling thread.
pub(super) fn supervise(run: Run, group: &Group) -> Result<Output, RunError> {
    let Run { program, args, stdin, stdout, access, limits, landlock } = run;
    let spawn_error = |source| RunError::Spawn { program: program.clone(), source };
    let cage = Cage::new(&program, &access, &limits, landlock);
    let mut builder = FfmpegCommand::new_with_path(&program);
    builder.args(&args);
    let command = builder.as_inner_mut();
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::piped()).process_group(0);
    let (output, stdout) = match stdout {
        Stdout::Pipe(writer) => (Stdio::from(writer), Stdout::Discard),
        Stdout::Discard => (Stdio::null(), Stdout::Discard),
        read => (Stdio::piped(), read),
    };
    command.stdout(output);
    command.env_clear().envs(cage.environment());
    let mut lock = cage.into_lock();
    // SAFETY: the closure makes system calls only; it neither allocates nor takes locks.
    unsafe { command.pre_exec(move || lock.close()) };

    let started = Instant::now();
    let mut child = command.spawn().map_err(spawn_error)?;
    // The command holds this program's copies of a pipe's ends: the other process must see the pipe close.
    drop(builder);
    let leader = libc::pid_t::try_from(child.id()).unwrap_or(0);
    group.started(leader);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (kept, tail) = std::thread::scope(|scope| {
        let reader = out.map(|pipe| scope.spawn(move || read_stdout(pipe, stdout, group)));
        let complaints = err.map(|pipe| scope.spawn(move || read_stderr(pipe, limits.stderr_bytes, group)));
        await_end(leader);
        // Whatever the process started and left behind would keep the pipes open.
        kill_group(leader);
        let kept = reader.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let tail = complaints.and_then(|thread| thread.join().ok()).unwrap_or_default();
        (kept, tail)
    });
    let reaped = group.reap(leader);
    let wall_ms = started.elapsed().as_millis() as u64;
    let (status, usage) = reaped.map_err(spawn_error)?;
    let cpu_ms = milliseconds(usage.ru_utime).saturating_add(milliseconds(usage.ru_stime));
    let stop = group.lock().stop;
    let out_of_cpu = limits.cpu_seconds > 0 && cpu_ms / 1000 >= limits.cpu_seconds;
    verdict(Ending { status, stop, out_of_cpu, cpu_ms, wall_ms }, kept, tail)
}

struct Ending {
    status: libc::c_int,
    stop: Option<Stop>,
    out_of_cpu: bool,
    cpu_ms: u64,
    wall_ms: u64,
}

fn verdict(end: Ending, stdout: Vec<u8>, tail: Vec<String>) -> Result<Output, RunError> {
    let Ending { status, stop, out_of_cpu, cpu_ms, wall_ms } = end;
    let is_success = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    let output = |is_stopped| Output { cpu_ms, wall_ms, stderr_tail: tail.clone(), stdout, is_stopped };
    match stop {
        Some(Stop::Enough) => return Ok(output(true)),
        // A process that was done before the signal reached it has still done its work.
        _ if is_success && stop != Some(Stop::StdoutFlood) => return Ok(output(false)),
        Some(Stop::Cancelled) => return Err(RunError::Cancelled),
        Some(Stop::TimedOut) => return Err(RunError::TimedOut { wall_ms, tail }),
        Some(Stop::StdoutFlood) => return Err(RunError::OutputTooLarge { what: "standard output", tail }),
        Some(Stop::StderrFlood) => return Err(RunError::OutputTooLarge { what: "standard error", tail }),
        None => {}
    }
    let says = |words: &str| tail.iter().any(|line| line.contains(words));
    if out_of_cpu {
        return Err(RunError::TimedOut { wall_ms, tail });
    }
    if says("No space left on device") || says("Disk quota exceeded") {
        return Err(RunError::NoSpace { tail });
    }
    if says("File too large") || (libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGXFSZ) {
        return Err(RunError::OutputTooLarge { what: "a file", tail });
    }
    if libc::WIFSIGNALED(status) {
        return Err(RunError::Killed { signal: libc::WTERMSIG(status), tail });
    }
    Err(RunError::Exit { code: libc::WEXITSTATUS(status), tail })
}

fn milliseconds(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(micros / 1000)
}

fn read_stderr(mut pipe: impl Read, limit_bytes: u64, group: &Group) -> Vec<String> {
    let mut tail = Tail::new(TAIL_LINES, TAIL_CHARS);
    let mut seen = 0u64;
    let mut buffer = [0u8; 16 << 10];
    while let Some(block) = read_block(&mut pipe, &mut buffer) {
        seen = seen.saturating_add(block.len() as u64);
        if seen > limit_bytes {
            group.stop(Stop::StderrFlood);
        }
        tail.push(block);
    }
    tail.finish()
}

fn read_stdout(mut pipe: impl Read, mode: Stdout, group: &Group) -> Vec<u8> {
    let mut buffer = vec![0u8; 64 << 10];
    let mut kept = Vec::new();
    match mode {
        Stdout::Discard | Stdout::Pipe(_) => {}
        Stdout::Bytes(mut sink) => {
            while let Some(block) = read_block(&mut pipe, &mut buffer) {
                sink(block);
            }
        }
        Stdout::Collect { limit_bytes } => {
            while let Some(block) = read_block(&mut pipe, &mut buffer) {
                if kept.len().saturating_add(block.len()) > limit_bytes {
                    group.stop(Stop::StdoutFlood);
                    break;
                }
                // Writing to a vector cannot fail.
                let _ = kept.write_all(block);
            }
        }
        Stdout::Progress(sink) => {
            let mut parser = ProgressParser::default();
            let mut lines = LineSplitter::new(MAX_LINE_BYTES);
            while let Some(block) = read_block(&mut pipe, &mut buffer) {
                let _ = lines.push(block, &mut |line: &[u8]| {
                    if let Some(progress) = parser.line(line) {
                        sink(progress);
                    }
                    ControlFlow::Continue(())
                });
            }
        }
        Stdout::Lines { mut sink, limit_bytes } => {
            let mut lines = LineSplitter::new(MAX_LINE_BYTES);
            let mut seen = 0u64;
            let mut is_open = true;
            while let Some(block) = read_block(&mut pipe, &mut buffer) {
                seen = seen.saturating_add(block.len() as u64);
                if seen > limit_bytes {
                    group.stop(Stop::StdoutFlood);
                    break;
                }
                if is_open && lines.push(block, &mut sink).is_break() {
                    is_open = false;
                    group.stop(Stop::Enough);
                }
            }
            if is_open {
                lines.finish(&mut sink);
            }
        }
    }
    kept
}

fn read_block<'a>(pipe: &mut impl Read, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    loop {
        match pipe.read(buffer) {
            Ok(0) => return None,
            Ok(count) => return buffer.get(..count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
