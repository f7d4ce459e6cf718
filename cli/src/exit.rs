//! Exit codes and the errors that lead to them. Every message names the thing, what is wrong and what to do.

use splitreel_core::{Failure, FailureClass, FailureCode};
use splitreel_telemetry::Chain;
use std::process::ExitCode;

/// Documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Done,
    /// Wrong usage or configuration.
    Usage,
    /// The source cannot be used.
    Source,
    /// Processing failed for good.
    Failed,
    /// This worker is older than the coordinator accepts; a newer one is to be started.
    Outdated,
    /// Interrupted; running the same command again resumes.
    Interrupted,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Usage => 2,
            Exit::Source => 3,
            Exit::Failed => 4,
            Exit::Outdated => 75,
            Exit::Interrupted => 130,
        }
    }

    /// What a failed job means for the command.
    pub fn of_failure(failure: &Failure) -> Exit {
        match (failure.class, &failure.code) {
            (FailureClass::Source, _) => Exit::Source,
            (_, FailureCode::EncoderUnknown | FailureCode::ProfileInvalid | FailureCode::ContainerUnavailable) => {
                Exit::Usage
            }
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(e: Exit) -> Self {
        ExitCode::from(e.code())
    }
}

/// An error for people.
#[derive(Debug)]
pub struct Problem {
    /// Exit code.
    pub exit: Exit,
    /// One or more lines; the first says what is wrong.
    pub lines: Vec<String>,
}

impl Problem {
    /// Wrong usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Problem { exit: Exit::Usage, lines: vec![message.into()] }
    }

    /// The source cannot be used.
    pub fn source(message: impl Into<String>) -> Self {
        Problem { exit: Exit::Source, lines: vec![message.into()] }
    }

    /// Processing failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Problem { exit: Exit::Failed, lines: vec![message.into()] }
    }

    /// An error of a lower layer, with all its causes in one line.
    pub fn because(what: impl std::fmt::Display, error: &dyn std::error::Error) -> Self {
        Problem::failed(format!("{what}: {}", Chain(error)))
    }

    /// Adds a line of detail or advice.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Writes it to standard error.
    pub fn print(&self) {
        for (i, line) in self.lines.iter().enumerate() {
            let line = printable(line);
            if i == 0 { eprintln!("splitreel: {line}") } else { eprintln!("  {line}") }
        }
    }
}

/// Text that cannot move the cursor, change colours or reorder the line: file names and metadata are data.
pub fn printable(text: &str) -> String {
    let is_harmless = |c: char| (!c.is_control() || c == '\t') && !is_format(c);
    text.chars().flat_map(|c| if is_harmless(c) { vec![c] } else { c.escape_default().collect() }).collect()
}

/// Characters without a shape of their own that change how others are shown: directions (Unicode UAX #9), line and
/// paragraph separators, zero-width spaces and joiners, byte order marks.
fn is_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn names_cannot_move_the_cursor_or_reorder_the_line() {
        assert_eq!(printable("a\n\u{1b}[31mb\u{202e}gpj\u{2066}"), "a\\n\\u{1b}[31mb\\u{202e}gpj\\u{2066}");
        assert_eq!(
            printable("\u{43c}\u{43e}\u{439} \u{5e9}\u{5dc}\tcafe\u{301}"),
            "\u{43c}\u{43e}\u{439} \u{5e9}\u{5dc}\tcafe\u{301}"
        );
    }
}
