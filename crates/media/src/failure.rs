//! Maps a failed process to a failure of the domain: its code and the remedy.

use crate::process::RunError;
use splitreel_core::{Failure, FailureCode};
use std::path::Path;

/// Lines of ffmpeg's own words that are kept with a failure.
const EVIDENCE_LINES: usize = 40;

/// The failed operation, for the message.
pub(crate) struct Context<'a> {
    /// `encoding segment 3` and the like.
    pub doing: &'a str,
    /// Where output is written.
    pub directory: &'a Path,
}

/// The failure of a run. A nonzero exit code counts as a media failure until another worker has tried.
pub(crate) fn from_run(error: &RunError, context: &Context<'_>) -> Failure {
    let doing = context.doing;
    let failure = match error {
        RunError::Spawn { program, source } => Failure::of(
            FailureCode::FfmpegNotStarted,
            format!("{doing}: {} could not be started: {source}", program.display()),
        ),
        RunError::Cancelled => Failure::of(FailureCode::Cancelled, format!("{doing}: cancelled")),
        RunError::TimedOut { wall_ms, .. } => {
            Failure::of(FailureCode::TimeLimit, format!("{doing}: stopped after {} s, its time limit", wall_ms / 1000))
        }
        RunError::Killed { signal, .. } => Failure::of(
            FailureCode::FfmpegKilled,
            format!("{doing}: ffmpeg was ended by {}; see whether the machine ran out of memory", signal_name(*signal)),
        ),
        RunError::Exit { tail, .. } => return exited(error, tail, context),
        RunError::OutputTooLarge { what, .. } => {
            Failure::of(FailureCode::OutputTooLarge, format!("{doing}: {what} exceeded its limit"))
        }
        RunError::NoSpace { .. } => Failure::of(
            FailureCode::NoSpace,
            format!(
                "{doing}: no space left in {}; free some or choose another scratch directory",
                context.directory.display()
            ),
        ),
    };
    failure.with_evidence(evidence(error.tail()))
}

fn exited(error: &RunError, tail: &[String], context: &Context<'_>) -> Failure {
    let says = |words: &str| tail.iter().any(|line| line.contains(words));
    let doing = context.doing;
    let failure = if let Some(line) = tail.iter().find(|line| line.contains("Unknown encoder")) {
        let name = line.split('\'').nth(1).unwrap_or("the encoder");
        unknown_encoder(name)
    } else if says("Cannot allocate memory") || says("Resource temporarily unavailable") {
        Failure::of(FailureCode::OutOfMemory, format!("{doing}: ffmpeg could not get memory or threads"))
    } else if says("Input/output error") {
        Failure::of(
            FailureCode::IoError,
            format!("{doing}: reading or writing failed in {}", context.directory.display()),
        )
    } else {
        Failure::of(FailureCode::FfmpegFailed, format!("{doing}: ffmpeg failed with {error}"))
    };
    failure.with_evidence(evidence(tail))
}

/// The plan asks for an encoder that this ffmpeg lacks.
pub(crate) fn unknown_encoder(name: &str) -> Failure {
    Failure::of(
        FailureCode::EncoderUnknown,
        format!(
            "this ffmpeg has no encoder {name:?}: choose one that `ffmpeg -encoders` lists, or install a build that has it"
        ),
    )
}

fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGKILL => "SIGKILL".into(),
        libc::SIGSEGV => "SIGSEGV (a crash)".into(),
        libc::SIGABRT => "SIGABRT (a crash)".into(),
        libc::SIGBUS => "SIGBUS (a crash)".into(),
        libc::SIGTERM => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

/// The last lines, bounded.
pub(crate) fn evidence(tail: &[String]) -> Vec<String> {
    let from = tail.len().saturating_sub(EVIDENCE_LINES);
    tail.get(from..).unwrap_or(&[]).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::FailureClass;

    fn of(error: &RunError) -> Failure {
        from_run(error, &Context { doing: "encoding segment 3", directory: Path::new("/scratch") })
    }

    #[test]
    fn each_ending_draws_on_its_budget() {
        let tail = vec!["[error] Unknown encoder 'libx999'".to_owned()];
        let unknown = of(&RunError::Exit { code: 1, tail: tail.clone() });
        assert_eq!((unknown.class, unknown.code.as_str()), (FailureClass::Permanent, "encoder_unknown"));
        assert!(unknown.message.contains("libx999") && unknown.message.contains("ffmpeg -encoders"));
        assert_eq!(unknown.evidence, tail);
        let full = of(&RunError::NoSpace { tail: vec![] });
        assert_eq!((full.class, full.code.as_str()), (FailureClass::Infra, "no_space"));
        assert!(full.message.contains("/scratch"));
        assert_eq!(of(&RunError::Exit { code: 1, tail: vec![] }).class, FailureClass::Media);
        assert_eq!(of(&RunError::Killed { signal: 9, tail: vec![] }).class, FailureClass::Infra);
    }
}
