//! Inputs and output directories: what may be read, what may be replaced.

use crate::exit::{Exit, Problem};
use splitreel_backend::grants::pin_file;
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
    Ok(dir)
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

/// Looks at an output directory and makes sure that it can be written.
pub fn inspect(dir: &Path) -> Result<Holds, Problem> {
    let unusable = |e: std::io::Error| Problem {
        exit: Exit::Usage,
        lines: vec![format!("{}: the output directory cannot be written: {e}", dir.display())],
    };
    let parent = dir.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(unusable)?;
    let trial = splitreel_assembler::export::sibling(dir, ".staging");
    let _ = std::fs::remove_dir_all(&trial);
    std::fs::create_dir(&trial).and_then(|()| std::fs::remove_dir(&trial)).map_err(unusable)?;
    match std::fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Holds::Nothing),
        Err(e) if e.kind() == ErrorKind::NotADirectory => {
            Err(Problem::usage(format!("{}: this is a file: give an output directory", dir.display())))
        }
        Err(e) => Err(unusable(e)),
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(Holds::Nothing);
            }
            let report = std::fs::read(dir.join("report.json"))
                .ok()
                .and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok());
            let job = report.as_ref().and_then(|r| r.pointer("/run/job")).and_then(|j| j.as_str());
            Ok(job.map_or(Holds::Other, |j| Holds::Presentation { job: j.to_owned() }))
        }
    }
}
