//! Inputs and output directories: what may be read, what may be replaced.

use crate::exit::Problem;
use splitreel_assembler::output::{Contents, LockError, OutputLock, Whose, clear_leftovers};
use splitreel_backend::grants::pin_file;
use splitreel_core::digest::sha256_hex;
use splitreel_core::job::output_base;
use splitreel_core::source::SourceRef;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Pins an input file, or says why it cannot be one.
pub fn pin_source(input: &Path) -> Result<SourceRef, Problem> {
    let name = input.display();
    match pin_file(input) {
        Ok(_) if input.is_dir() => Err(Problem::source(format!("{name}: this is a directory: give a media file"))),
        Ok(s) if !std::fs::metadata(input).is_ok_and(|m| m.is_file()) => {
            Err(Problem::source(format!("{}: this is not a regular file: copy it to one first", s.locator)))
        }
        Ok(s) if s.bytes == 0 => {
            Err(Problem::source(format!("{name}: the file is empty: it was not written, or the copy failed")))
        }
        Ok(s) => std::fs::File::open(input)
            .map(|_| s)
            .map_err(|e| Problem::source(format!("{name}: the file cannot be read: {e}"))),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Problem::source(format!("{name}: there is no such file: check the path")))
        }
        Err(e) => Err(Problem::source(format!("{name}: the file cannot be read: {e}"))),
    }
}

/// The base name of an input's outputs.
pub fn base_of(input: &Path) -> String {
    output_base(&input.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()))
}

/// The absolute output directory of an input.
pub fn output_of(input: &Path, output: Option<&Path>, is_one_of_many: bool) -> Result<PathBuf, Problem> {
    let dir = match (output, is_one_of_many) {
        (Some(dir), false) => dir.to_owned(),
        (Some(dir), true) => dir.join(base_of(input)),
        (None, _) => PathBuf::from(format!("{}.streams", base_of(input))),
    };
    let dir = std::path::absolute(&dir).map_err(|e| Problem::usage(format!("{}: {e}", dir.display())))?;
    if dir.file_name().is_none() || dir.to_str().is_none() {
        return Err(Problem::usage(format!("{}: give an output directory with a name of its own", dir.display())));
    }
    // What a link leads to is replaced, not the link.
    let is_link = dir.symlink_metadata().is_ok_and(|m| m.is_symlink());
    if is_link { dir.canonicalize().map_err(|e| unusable(&dir, &e)) } else { Ok(dir) }
}

/// What an output directory holds now.
#[derive(Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nothing, or it does not exist.
    Nothing,
    /// The presentation of this job.
    Presentation {
        /// Job id from its report.
        job: String,
    },
    /// Something else.
    Other,
}

impl Holds {
    /// Why a directory is not replaced, for people.
    pub fn refusal(&self, dir: &Path) -> Problem {
        let what = match self {
            Holds::Presentation { .. } => "holds the presentation of another source or of other settings",
            Holds::Nothing | Holds::Other => "holds other files",
        };
        Problem::usage(format!("{}: the output directory {what}", dir.display()))
    }
}

/// A locked output directory.
pub struct Output {
    /// The right to write it.
    pub lock: OutputLock,
    /// What it held when it was locked.
    pub holds: Holds,
    /// What of it may be replaced.
    pub whose: Whose,
}

impl Output {
    /// Locks an output directory, makes sure that it can be written, and looks at it. `force`: whatever it holds now may
    /// be replaced.
    pub fn claim(dir: &Path, locator: &str, force: bool) -> Result<Output, Problem> {
        std::fs::create_dir_all(dir.parent().unwrap_or(Path::new("/"))).map_err(|e| unusable(dir, &e))?;
        let lock = OutputLock::acquire(dir, &sha256_hex(locator.as_bytes())).map_err(|e| locked(dir, e))?;
        for kept in clear_leftovers(&lock).map_err(|e| unusable(dir, &e))? {
            tracing::warn!(helper = %kept.display(), "helper directory of an earlier run holds other files; kept");
        }
        let found = if force { Contents::look(dir) } else { Contents::glance(dir) };
        let found = found.map_err(|e| match e.kind() {
            ErrorKind::NotADirectory => {
                Problem::usage(format!("{}: this is a file: give an output directory", dir.display()))
            }
            _ => unusable(dir, &e),
        })?;
        let holds = match &found {
            None => Holds::Nothing,
            Some(Contents { job: Some(job), .. }) => Holds::Presentation { job: job.clone() },
            Some(_) => Holds::Other,
        };
        let whose = if force { Whose::Seen(found.unwrap_or_default()) } else { Whose::Job };
        Ok(Output { lock, holds, whose })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.lock.dir()
    }
}

fn unusable(dir: &Path, error: &std::io::Error) -> Problem {
    Problem::usage(format!("{}: the output directory cannot be written: {error}", dir.display()))
}

/// Why an output directory could not be locked, for people.
pub fn locked(dir: &Path, error: LockError) -> Problem {
    match error {
        LockError::Busy(holder) => {
            let process = holder.process.map_or_else(String::new, |id| format!(" (process {id})"));
            Problem::usage(format!("{}: another splitreel{process} is writing this directory", dir.display()))
                .line("wait until that one has ended, or give another directory with -o")
        }
        LockError::Io { source, .. } => unusable(dir, &source),
    }
}
