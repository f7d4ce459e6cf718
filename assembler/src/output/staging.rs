//! Staging directories next to an output directory: a hidden one where the next content is made, and the preview. Each
//! has a marker inside that names the output directory; a directory without this marker is not ours.

use super::contents::Contents;
use super::lock::OutputLock;
use super::names::{NAME_MAX, PREFIX, cut, id_of, name_of};
use splitreel_packaging::presentation::{is_presentation_folder, is_presentation_path};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// File name of the marker.
const MARKER: &str = ".splitreel";
/// First line of the marker.
const MARKER_LINE: &str = "splitreel helper: deleted by splitreel when it is done, or by its next run";
/// File that says that what a helper still holds was replaced and may be deleted.
const REPLACED: &str = "replaced";
/// Folder in a helper that becomes the output directory.
const STAGING: &str = "new";
/// Other names that are tried when a name is taken.
const TRIES: usize = 16;

/// Marks a directory as a helper of an output directory.
pub(crate) fn mark(helper: &Path, dir: &Path, base: &str) -> io::Result<()> {
    std::fs::write(helper.join(MARKER), format!("{MARKER_LINE}\nfor {}\nbase {base}\n", id_of(dir)))
}

/// Whether a path is a directory, not a link to one, with the marker of a helper of this output directory.
pub(crate) fn is_marked(helper: &Path, dir: &Path) -> bool {
    helper.symlink_metadata().is_ok_and(|m| m.is_dir()) && base_in(helper, dir).is_some()
}

/// The base name in the marker of a helper of this output directory.
fn base_in(helper: &Path, dir: &Path) -> Option<String> {
    let marker = helper.join(MARKER);
    if !marker.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() < 4096) {
        return None;
    }
    let text = std::fs::read_to_string(marker).ok()?;
    let mut lines = text.lines();
    let is_ours = lines.next() == Some(MARKER_LINE) && lines.next()?.strip_prefix("for ") == Some(id_of(dir).as_str());
    lines.next()?.strip_prefix("base ").filter(|_| is_ours).map(str::to_owned)
}

/// A hidden directory next to an output directory. Its folder [`Staging::folder`] is filled, then put in place of the
/// output directory; afterwards it holds what was replaced.
#[derive(Clone, Debug)]
pub struct Staging {
    path: PathBuf,
    base: String,
}

impl Staging {
    /// Makes a helper with an empty staging folder, for the presentation of a job whose single files are named after
    /// `base`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(lock: &OutputLock, job: &str, base: &str) -> io::Result<Staging> {
        let dir = lock.dir();
        for n in 0..TRIES {
            let name = cut(OsStr::new(&format!("{PREFIX}{job}")), NAME_MAX - 4);
            let path = dir.with_file_name(numbered(&name, n));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    mark(&path, dir, base)?;
                    std::fs::create_dir(path.join(STAGING))?;
                    return Ok(Staging { path, base: base.to_owned() });
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// The folder to be filled.
    pub fn folder(&self) -> PathBuf {
        self.path.join(STAGING)
    }

    /// Says that what the staging folder holds now was replaced and may be deleted.
    pub(crate) fn mark_replaced(&self) -> io::Result<()> {
        std::fs::write(self.path.join(REPLACED), "")
    }

    /// Deletes the helper. What is not ours stays, with the helper around it: false.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self) -> io::Result<bool> {
        let staging = self.folder();
        if self.path.join(REPLACED).symlink_metadata().is_ok() {
            remove_listed(&staging)?;
        } else {
            remove_ours(&staging, &self.base)?;
        }
        if staging.symlink_metadata().is_ok() {
            return Ok(false);
        }
        for file in [REPLACED, MARKER] {
            remove_file(&self.path.join(file))?;
        }
        remove_empty(&self.path)
    }
}

/// Deletes the helpers that dead processes left next to an output directory, the preview apart. Answers the ones that
/// hold files which are not ours; these stay.
///
/// # Errors
/// Those of the file system.
pub fn clear_leftovers(lock: &OutputLock) -> io::Result<Vec<PathBuf>> {
    let dir = lock.dir();
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) || !is_marked(&path, dir) {
            continue;
        }
        let Some(base) = base_in(&path, dir) else { continue };
        if !(Staging { path: path.clone(), base }).remove()? {
            kept.push(path);
        }
    }
    Ok(kept)
}

/// Names for the preview directory of an output directory, the usual one first. A name that is taken by a directory of
/// the user's, or that would be too long, is passed over.
pub(crate) fn preview_names(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let (dir, name) = (dir.to_owned(), name_of(dir).to_owned());
    let short = cut(&name, NAME_MAX - ".0123456789abcdef-16.partial".len());
    let others = (0..TRIES).map({
        let id = id_of(&dir);
        move |n| {
            let mut other = short.clone();
            other.push(format!(".{id}"));
            numbered(&other, n)
        }
    });
    std::iter::once(name).chain(others).filter_map(move |mut name| {
        name.push(".partial");
        (name.len() <= NAME_MAX).then(|| dir.with_file_name(name))
    })
}

fn numbered(name: &OsStr, n: usize) -> OsString {
    let mut name = name.to_owned();
    if n > 0 {
        name.push(format!("-{n}"));
    }
    name
}

/// Deletes the files of a presentation or preview below `root`, our temporary files, and the folders that become empty.
/// Everything else stays, and the folders around it.
pub(crate) fn remove_ours(root: &Path, base: &str) -> io::Result<()> {
    walk(root, &|path, is_dir| {
        path.to_str().is_some_and(|p| if is_dir { is_presentation_folder(base, p) } else { is_ours(base, p) })
    })?;
    if root.join(MARKER).symlink_metadata().is_ok() && is_left_alone(root)? {
        remove_file(&root.join(MARKER))?;
    }
    remove_empty(root).map(|_| ())
}

/// Whether a directory holds its marker and nothing else.
fn is_left_alone(root: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(root)? {
        if entry?.file_name() != MARKER {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Deletes everything that a look finds below `root`. What appears after the look stays.
fn remove_listed(root: &Path) -> io::Result<()> {
    walk(root, &|_, _| true)?;
    remove_empty(root).map(|_| ())
}

/// Deletes the files below `root` that `is_ours` admits, and the admitted folders that are empty then. Links are not
/// followed.
fn walk(root: &Path, is_ours: &dyn Fn(&Path, bool) -> bool) -> io::Result<()> {
    let Some(contents) = Contents::look(root)? else { return Ok(()) };
    for (path, is_dir) in contents.paths().rev().filter(|(path, is_dir)| is_ours(path, *is_dir)) {
        if is_dir {
            remove_empty(&root.join(path))?;
        } else {
            remove_file(&root.join(path))?;
        }
    }
    Ok(())
}

/// Paths that a presentation, a preview or a copy in progress makes.
fn is_ours(base: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_copy = name.starts_with(PREFIX) && name.ends_with(".part");
    let is_draft = name.strip_suffix(".new").is_some_and(|stem| matches!(stem, "master" | "manifest" | "playlist"));
    is_copy || is_draft || is_presentation_path(base, path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a folder if it is empty. False: it is not.
fn remove_empty(path: &Path) -> io::Result<bool> {
    match std::fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(e) => Err(e),
    }
}
