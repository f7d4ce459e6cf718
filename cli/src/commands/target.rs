//! Inputs and output directories: what may be read, what may be replaced.

use crate::exit::Problem;
use splitreel_assembler::output::{Contents, Holder, LockError, OutputLock, Whose, clear_leftovers};
use splitreel_backend::grants::pin_file;
use splitreel_core::JobId;
use splitreel_core::digest::sha256_hex;
use splitreel_core::names::{output_base, output_names};
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

/// The file name of an input; bytes that are not UTF-8 are replaced.
fn name_of(input: &Path) -> String {
    input.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// The base name of an input's outputs.
pub fn base_of(input: &Path) -> String {
    output_base(&name_of(input))
}

/// Where outputs go.
pub enum Destination {
    /// The directory that the user named, for the only input.
    Exactly(PathBuf),
    /// A directory of its own for each input, with this at the end of its name.
    Below(PathBuf, &'static str),
}

impl Destination {
    /// The destination that the command line asks for.
    pub fn of(output: Option<PathBuf>, num_inputs: usize) -> Self {
        match output {
            Some(dir) if num_inputs > 1 => Destination::Below(dir, ""),
            Some(dir) => Destination::Exactly(dir),
            None => Destination::Below(PathBuf::from("."), ".streams"),
        }
    }

    /// Locks the output directory of an input. Where the user named none, directories that belong to other inputs of
    /// this call (`taken`), to unfinished jobs of other sources (`reserved`), to other presentations or to the user are
    /// passed over: the next name is tried.
    pub fn claim(
        &self,
        input: &Path,
        locator: &str,
        taken: &[PathBuf],
        reserved: &[(PathBuf, String)],
        force: bool,
    ) -> Result<Output, Problem> {
        let (folder, end) = match self {
            Destination::Exactly(dir) => return Output::claim(&absolute(dir)?, locator, force),
            Destination::Below(folder, end) => (folder, end),
        };
        let names = output_names(&name_of(input), locator);
        let places = names.map(|name| absolute(&folder.join(format!("{name}{end}")))).collect::<Result<Vec<_>, _>>()?;
        let free: Vec<&PathBuf> = places.iter().filter(|dir| !taken.contains(dir)).collect();
        let reserved_for =
            |dir: &Path| reserved.iter().find(|(place, _)| place == dir).map(|(_, source)| source.as_str());
        // A source goes where it went before.
        let ours = sha256_hex(locator.as_bytes());
        let is_own = |dir: &Path| {
            let held = Contents::glance(dir).ok().flatten().and_then(|held| held.source);
            reserved_for(dir) == Some(locator) || held.as_ref() == Some(&ours)
        };
        if let Some(dir) = free.iter().find(|dir| is_own(dir)) {
            return Output::claim(dir, locator, force);
        }
        for dir in free.into_iter().filter(|dir| reserved_for(dir).is_none()) {
            match Output::claim_for(dir, locator, force)? {
                Claimed::Ours(output) => return Ok(output),
                Claimed::Others => {}
            }
        }
        Err(Problem::usage(format!("{}: all names for its output are taken", input.display()))
            .line("give an output directory with -o"))
    }
}

/// The absolute path of an output directory. What a link leads to is replaced, not the link.
fn absolute(dir: &Path) -> Result<PathBuf, Problem> {
    let dir = std::path::absolute(dir).map_err(|e| Problem::usage(format!("{}: {e}", dir.display())))?;
    if dir.file_name().is_none() {
        return Err(Problem::usage(format!("{}: give an output directory with a name of its own", dir.display())));
    }
    let is_link = dir.symlink_metadata().is_ok_and(|m| m.is_symlink());
    if is_link { dir.canonicalize().map_err(|e| unusable(&dir, &e)) } else { Ok(dir) }
}

/// What an output directory holds now.
#[derive(Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nothing, or it does not exist.
    Nothing,
    /// A presentation.
    Presentation {
        /// Job id from its report.
        job: String,
        /// Fingerprint of its source's locator, from its report; older reports have none.
        source: Option<String>,
    },
    /// Something else.
    Other,
}

impl Holds {
    /// Whether it is the presentation of this job.
    pub fn is_of(&self, id: JobId) -> bool {
        matches!(self, Holds::Presentation { job, .. } if *job == id.to_string())
    }

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
        let lock = lock(dir, locator)?.map_err(|e| locked(dir, e))?;
        Output::of(lock, force)
    }

    /// As [`Output::claim`], for one of several names: a directory that another source is written to, that holds another
    /// source's presentation, or other files, is left to them.
    fn claim_for(dir: &Path, locator: &str, force: bool) -> Result<Claimed, Problem> {
        let ours = sha256_hex(locator.as_bytes());
        let lock = match lock(dir, locator)? {
            Err(LockError::Busy(Holder { source: Some(source), .. })) if source != ours => return Ok(Claimed::Others),
            lock => lock.map_err(|e| locked(dir, e))?,
        };
        if dir.is_file() {
            return Ok(Claimed::Others);
        }
        let output = Output::of(lock, force)?;
        Ok(match &output.holds {
            Holds::Other => Claimed::Others,
            Holds::Presentation { source: Some(source), .. } if *source != ours => Claimed::Others,
            Holds::Nothing | Holds::Presentation { .. } => Claimed::Ours(output),
        })
    }

    fn of(lock: OutputLock, force: bool) -> Result<Output, Problem> {
        let dir = lock.dir();
        for kept in clear_leftovers(&lock).map_err(|e| unusable(dir, &e))? {
            tracing::warn!(folder = %kept.display(), "folder of an earlier run holds other files; kept");
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
            Some(Contents { job: Some(job), source, .. }) => {
                Holds::Presentation { job: job.clone(), source: source.clone() }
            }
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

/// One of several names for an output directory.
enum Claimed {
    /// It is ours.
    Ours(Output),
    /// It is in use.
    Others,
}

/// Makes the folder around an output directory and locks the directory.
fn lock(dir: &Path, locator: &str) -> Result<Result<OutputLock, LockError>, Problem> {
    std::fs::create_dir_all(dir.parent().unwrap_or(Path::new("/"))).map_err(|e| unusable(dir, &e))?;
    Ok(OutputLock::acquire(dir, &sha256_hex(locator.as_bytes())))
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
