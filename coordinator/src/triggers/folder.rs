//! Looking at a watch folder: which files there are, and which of them rest. The decision is pure; the scan reads
//! names and sizes only and follows no links.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Deepest subfolder that is looked into.
const MAX_DEPTH: usize = 32;
/// Ends of names that programs give to files that they are still writing.
const UNFINISHED: [&str; 6] = [".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart"];

/// A file as one look saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its modification time, nanoseconds since the epoch.
    pub modified_ns: i64,
}

/// Whether files of this name are ignored: hidden ones, and ones named as unfinished.
pub fn is_ignored_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(['.', '~']) || UNFINISHED.iter().any(|end| name.ends_with(end))
}

/// What the looks have seen so far.
#[derive(Debug, Default)]
pub struct Looks {
    files: BTreeMap<PathBuf, Look>,
}

#[derive(Debug)]
struct Look {
    bytes: u64,
    modified_ns: i64,
    /// When it was first seen like this, milliseconds on the caller's clock.
    since_ms: i64,
    is_handled: bool,
}

impl Looks {
    /// Notes a complete listing of the folder. Answers the files that were seen with the same size and modification
    /// time at an earlier look at least `settle_ms` ago, and were not handled since. Empty files never rest.
    pub fn note(&mut self, listing: Vec<SeenFile>, now_ms: i64, settle_ms: i64) -> Vec<SeenFile> {
        let mut before = std::mem::take(&mut self.files);
        let mut resting = Vec::new();
        for file in listing {
            let look = match before.remove(&file.path) {
                Some(look) if (look.bytes, look.modified_ns) == (file.bytes, file.modified_ns) => {
                    // A clock that was set back must not let a file rest for ever, nor at once.
                    let since_ms = look.since_ms.min(now_ms);
                    if !look.is_handled && file.bytes > 0 && now_ms.saturating_sub(since_ms) >= settle_ms {
                        resting.push(file.clone());
                    }
                    Look { since_ms, ..look }
                }
                _ => Look { bytes: file.bytes, modified_ns: file.modified_ns, since_ms: now_ms, is_handled: false },
            };
            self.files.insert(file.path, look);
        }
        resting
    }

    /// The file needs no other look until it changes.
    pub fn handled(&mut self, file: &SeenFile) {
        if let Some(look) = self.files.get_mut(&file.path) {
            look.is_handled = (look.bytes, look.modified_ns) == (file.bytes, file.modified_ns);
        }
    }

    /// Some file has been seen but not handled: another look is worth it soon.
    pub fn has_open(&self) -> bool {
        self.files.values().any(|look| !look.is_handled && look.bytes > 0)
    }
}

/// Lists the regular files of a folder whose names are not ignored, at most `max`; links are not followed, and what
/// cannot be read is left out. Blocking.
///
/// # Errors
/// When the folder itself cannot be read, or holds more than `max` files.
pub fn scan(folder: &Path, subfolders: bool, max: usize) -> io::Result<Vec<SeenFile>> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), 0usize)];
    while let Some((path, depth)) = open.pop() {
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let is_ignored = is_ignored_name(&entry.file_name().to_string_lossy());
            // Of the entry itself: a link is neither a file nor a folder here.
            let Some(metadata) = entry.metadata().ok().filter(|_| !is_ignored) else { continue };
            if metadata.is_dir() && subfolders && depth < MAX_DEPTH {
                open.push((entry.path(), depth + 1));
            } else if metadata.is_file() {
                if found.len() == max {
                    return Err(io::Error::other(format!("more than {max} files")));
                }
                let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
                let modified_ns = modified.map_or(0, |t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX));
                found.push(SeenFile { path: entry.path(), bytes: metadata.len(), modified_ns });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Some process that we may look into has the file open for writing. False where that cannot be known. Blocking.
pub fn is_open_for_writing(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let is_process = |name: &std::ffi::OsString| name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    processes.flatten().filter(|entry| is_process(&entry.file_name())).any(|process| {
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { return false };
        descriptors.flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|target| target == path)
                && std::fs::read_to_string(process.path().join("fdinfo").join(fd.file_name()))
                    .is_ok_and(|info| is_write_mode(&info))
        })
    })
}

/// The `flags` line of fdinfo: octal, the lowest two bits are the access mode, 0 = read only.
fn is_write_mode(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn file(path: &str, bytes: u64, modified_ns: i64) -> SeenFile {
        SeenFile { path: path.into(), bytes, modified_ns }
    }

    #[test]
    fn a_growing_file_is_taken_once_when_it_rests() {
        let mut looks = Looks::default();
        let mut taken = Vec::new();
        for step in 0..20 {
            let bytes = 100 * step.min(10) as u64;
            let listing = vec![file("/in/a.mp4", bytes, i64::from(step.min(10)))];
            for resting in looks.note(listing, i64::from(step) * 1000, 2000) {
                looks.handled(&resting);
                taken.push((step, resting.bytes));
            }
        }
        assert_eq!(taken, [(12, 1000)]);
    }

    #[test]
    fn a_second_look_is_needed_however_old_the_file_is() {
        let mut looks = Looks::default();
        assert!(looks.note(vec![file("/in/a", 5, 1)], 1_000_000, 0).is_empty());
        assert_eq!(looks.note(vec![file("/in/a", 5, 1)], 1_000_000, 0).len(), 1);
    }

    #[test]
    fn a_file_that_is_replaced_is_taken_again_and_an_empty_one_never() {
        let mut looks = Looks::default();
        let mut taken = Vec::new();
        for (now, bytes, modified) in [(0, 5, 1), (9, 5, 1), (18, 5, 2), (27, 5, 2), (36, 0, 3), (45, 0, 3), (54, 5, 3)]
        {
            for resting in looks.note(vec![file("/in/a", bytes, modified)], now, 5) {
                looks.handled(&resting);
                taken.push((now, resting.modified_ns));
            }
        }
        assert_eq!(taken, [(9, 1), (27, 2)]);
    }

    #[test]
    fn names_of_unfinished_files_are_ignored() {
        for name in [".hidden.mp4", "a.mp4.part", "a.TMP", "a.crdownload", "~lock.mp4", "a.mp4.filepart"] {
            assert!(is_ignored_name(name), "{name}");
        }
        for name in ["a.mp4", "part.mp4", "a.tmp.mkv", "crdownload"] {
            assert!(!is_ignored_name(name), "{name}");
        }
    }

    #[test]
    fn a_scan_sees_files_and_follows_no_links() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("sub/.hidden")).unwrap();
        for name in ["a.mp4", "b.part", "sub/c.mp4", "sub/.hidden/d.mp4"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link.mp4")).unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("sub/etc")).unwrap();
        let names = |subfolders| {
            let found = scan(folder.path(), subfolders, 10).unwrap();
            found.iter().map(|f| f.path.strip_prefix(folder.path()).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["a.mp4"]);
        assert_eq!(names(true), ["a.mp4", "sub/c.mp4"]);
        assert!(scan(folder.path(), true, 1).is_err());
        assert!(scan(&folder.path().join("none"), true, 1).is_err());
    }

    #[test]
    fn who_writes_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let mut writer = std::fs::File::create(&path).unwrap();
        writer.write_all(b"x").unwrap();
        assert!(is_open_for_writing(&path));
        drop(writer);
        let _reader = std::fs::File::open(&path).unwrap();
        assert!(!is_open_for_writing(&path));
        assert!(is_write_mode("pos:\t0\nflags:\t0100001\n") && !is_write_mode("pos:\t0\nflags:\t0100000\n"));
    }

    proptest! {
        /// Whatever the writer does, what is taken was seen unchanged for the whole time before.
        #[test]
        fn nothing_is_taken_that_changed_within_the_time(
            steps in prop::collection::vec((0u64..3, 0i64..3, 1i64..900), 1..60), settle in 0i64..2000,
        ) {
            let mut looks = Looks::default();
            let mut history: Vec<(i64, u64, i64)> = Vec::new();
            let mut now = 0;
            for (bytes, modified, gap) in steps {
                now += gap;
                history.push((now, bytes, modified));
                for resting in looks.note(vec![file("/in/a", bytes, modified)], now, settle) {
                    let since = history.iter().rev().take_while(|h| (h.1, h.2) == (bytes, modified)).map(|h| h.0).last();
                    prop_assert!(now - since.unwrap() >= settle && history.len() > 1 && resting.bytes > 0);
                }
            }
        }
    }
}
