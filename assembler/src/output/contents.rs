//! What an output directory holds, and what of it may be replaced. Looking is I/O; the decision is pure.

use splitreel_packaging::presentation::{REPORT_NAME, is_presentation_folder, is_presentation_path};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file or folder as one look saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    is_dir: bool,
    /// Neither a folder nor a regular file: links, sockets, devices.
    is_special: bool,
    bytes: u64,
    modified: (i64, i64),
}

/// Files and folders of a directory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Job id in the report, if the directory holds a presentation.
    pub job: Option<String>,
    /// Base name of single files, by the report.
    base: Option<String>,
    /// Fingerprint of the source's locator, by the report.
    pub source: Option<String>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Contents {
    /// Reads the report of a directory, and lists nothing. `None`: there is no such directory, or it is empty.
    ///
    /// # Errors
    /// Those of the file system; [`ErrorKind::NotADirectory`] for a file.
    pub fn glance(dir: &Path) -> io::Result<Option<Contents>> {
        match std::fs::read_dir(dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(mut entries) => Ok(entries.next().is_some().then(|| Contents::of_report(dir))),
        }
    }

    /// Lists a directory with everything below. `None`: there is no such directory, or it is empty.
    ///
    /// # Errors
    /// Those of the file system; [`ErrorKind::NotADirectory`] for a file.
    pub fn look(dir: &Path) -> io::Result<Option<Contents>> {
        let Some(mut contents) = Contents::glance(dir)? else { return Ok(None) };
        contents.entries = list(dir)?;
        Ok((!contents.entries.is_empty()).then_some(contents))
    }

    fn of_report(dir: &Path) -> Contents {
        let bytes = std::fs::read(dir.join(REPORT_NAME)).unwrap_or_default();
        let report: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |field: &str| report.pointer(field).and_then(|v| v.as_str()).map(str::to_owned);
        Contents {
            job: text("/run/job"),
            base: text("/run/base"),
            source: text("/source/locator_sha256"),
            entries: BTreeMap::new(),
        }
    }

    /// Paths relative to the directory, folders before their content.
    pub(super) fn paths(&self) -> impl DoubleEndedIterator<Item = (&Path, bool)> {
        self.entries.iter().map(|(path, entry)| (path.as_path(), entry.is_dir))
    }

    /// The first path that is no file or folder of a presentation with this base name.
    fn first_foreign(&self, base: &str) -> Option<&Path> {
        let base = self.base.as_deref().unwrap_or(base);
        let is_known = |path: &Path, entry: &Entry| match path.to_str() {
            None => false,
            Some(path) if entry.is_dir => is_presentation_folder(base, path),
            Some(path) => !entry.is_special && is_presentation_path(base, path),
        };
        self.entries.iter().find_map(|(path, entry)| (!is_known(path, entry)).then_some(path.as_path()))
    }

    /// The first path that is not as it was in `before`.
    fn first_change(&self, before: &Contents) -> Option<&Path> {
        self.entries.iter().find_map(|(path, entry)| {
            let is_same = before.entries.get(path).is_some_and(|old| match entry.is_dir {
                true => old.is_dir,
                false => old == entry,
            });
            (!is_same).then_some(path.as_path())
        })
    }
}

/// Whose directory may be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The presentation of the job itself.
    Job,
    /// A presentation of the source with this fingerprint, or one of an older version that states no source.
    Source(String),
    /// Whatever was seen there when the user asked for a replacement.
    Seen(Contents),
}

/// What an export may replace. An absent or empty directory always may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Job whose presentation is exported.
    pub job: String,
    /// Base name of its single files.
    pub base: String,
    /// Whose directory may be replaced.
    pub whose: Whose,
}

impl Permit {
    /// The first path of `now` that may not be replaced; `None` when the directory may be.
    pub fn foreign(&self, now: &Contents) -> Option<PathBuf> {
        let report = || Some(PathBuf::from(REPORT_NAME));
        match &self.whose {
            Whose::Seen(before) => now.first_change(before).map(Path::to_owned),
            Whose::Job if now.job.as_ref() == Some(&self.job) => now.first_foreign(&self.base).map(Path::to_owned),
            Whose::Source(source) if now.job.is_some() && now.source.as_ref().is_none_or(|held| held == source) => {
                now.first_foreign(&self.base).map(Path::to_owned)
            }
            Whose::Job | Whose::Source(_) => now.first_foreign(&self.base).map(Path::to_owned).or_else(report),
        }
    }
}

fn list(dir: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            // Of the entry itself: links are not followed.
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if metadata.is_dir() {
                open.push(path.clone());
            }
            let seen = Entry {
                is_dir: metadata.is_dir(),
                is_special: !metadata.is_dir() && !metadata.is_file(),
                bytes: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            };
            found.insert(path, seen);
        }
    }
    Ok(found)
}
