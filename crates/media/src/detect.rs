//! Finds ffmpeg and ffprobe and what they can do. Does not run media through them.

use crate::process::{Output, Run, RunError, Sandbox, Stdout, run, sandbox_of_this_kernel};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The oldest release that is supported.
const OLDEST: Version = Version { major: 5, minor: 1 };
const INSTALL: &str = "install it (Debian, Ubuntu: apt-get install ffmpeg)";

/// Release of ffmpeg that a build behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where to look for the programs.
#[derive(Clone, Debug, Default)]
pub struct ToolPaths {
    /// ffmpeg; `None` searches `PATH`.
    pub ffmpeg: Option<PathBuf>,
    /// ffprobe; `None` looks beside ffmpeg, then searches `PATH`.
    pub ffprobe: Option<PathBuf>,
}

impl ToolPaths {
    /// From `SPLITREEL_FFMPEG` and `SPLITREEL_FFPROBE`.
    pub fn from_env() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        ToolPaths { ffmpeg: var("SPLITREEL_FFMPEG"), ffprobe: var("SPLITREEL_FFPROBE") }
    }
}

/// Why the programs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// Not installed, or not where it was said to be.
    #[error("{name} was not found{}: {INSTALL}, or set {variable} to its path", at(.path))]
    Missing {
        /// `ffmpeg` or `ffprobe`.
        name: &'static str,
        /// The environment variable that names it.
        variable: &'static str,
        /// The path that was given, if one was.
        path: Option<PathBuf>,
    },
    /// It does not run.
    #[error("{path} does not run: reinstall it, or set {variable} to one that does")]
    Broken {
        /// The program.
        path: PathBuf,
        /// The environment variable that names it.
        variable: &'static str,
        /// How it failed.
        #[source]
        source: RunError,
    },
    /// It is no ffmpeg, or its version cannot be told.
    #[error("{path} does not say an ffmpeg version: set {variable} to an ffmpeg program")]
    Unknown {
        /// The program.
        path: PathBuf,
        /// The environment variable that names it.
        variable: &'static str,
    },
    /// Too old.
    #[error("{path} is ffmpeg {version}, older than {OLDEST}: upgrade it, or set {variable} to a newer one")]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
        /// The environment variable that names it.
        variable: &'static str,
    },
}

fn at(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default()
}

/// The programs and what they can do.
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    /// Absolute path of ffmpeg.
    pub ffmpeg: PathBuf,
    /// Absolute path of ffprobe.
    pub ffprobe: PathBuf,
    /// Release that ffmpeg behaves like.
    pub version: Version,
    /// First line of `ffmpeg -version`.
    pub banner: String,
    /// SHA-256 of the whole of `ffmpeg -version`, hex: two builds with the same id encode alike.
    pub build_id: String,
    /// Encoders by name.
    pub encoders: BTreeSet<String>,
    /// Codecs that can be decoded, by name.
    pub decodable: BTreeSet<String>,
    /// Filters by name.
    pub filters: BTreeSet<String>,
    /// Demuxers by name; aliases are entries of their own.
    pub demuxers: BTreeSet<String>,
    /// How processes are confined here.
    pub sandbox: Sandbox,
}

impl Ffmpeg {
    /// Finds the programs, checks their version and reads their lists.
    ///
    /// # Errors
    /// [`DetectError`], which says what to do.
    pub async fn detect(paths: &ToolPaths) -> Result<Ffmpeg, DetectError> {
        let ffmpeg = Program { path: locate_ffmpeg(paths)?, variable: "SPLITREEL_FFMPEG" };
        let ffprobe = Program { path: locate_ffprobe(paths, &ffmpeg.path)?, variable: "SPLITREEL_FFPROBE" };
        let mut sandbox = sandbox_of_this_kernel();
        let text = match ffmpeg.ask("-version", true).await {
            Ok(text) => text,
            // Its libraries may be where no rule lets it read: better unconfined than not at all.
            Err(_) if sandbox.landlock_abi > 0 => {
                let text = ffmpeg.ask("-version", false).await?;
                tracing::warn!(program = %ffmpeg.path.display(), "ffmpeg does not start under Landlock, which stays off");
                sandbox = Sandbox::default();
                text
            }
            Err(error) => return Err(error),
        };
        let version = ffmpeg.checked(&text)?;
        let confined = sandbox.landlock_abi > 0;
        let (probe, encoders, codecs, filters, demuxers) = tokio::try_join!(
            ffprobe.ask("-version", confined),
            ffmpeg.ask("-encoders", confined),
            ffmpeg.ask("-codecs", confined),
            ffmpeg.ask("-filters", confined),
            ffmpeg.ask("-demuxers", confined),
        )?;
        ffprobe.checked(&probe)?;
        Ok(Ffmpeg {
            version,
            banner: text.lines().next().unwrap_or_default().to_owned(),
            build_id: splitreel_core::plan::hex(&Sha256::digest(text.as_bytes())),
            encoders: names(&encoders, |_| true),
            decodable: names(&codecs, |flags| flags.starts_with('D')),
            filters: names(&filters, |_| true),
            demuxers: names(&demuxers, |flags| flags.contains('D')),
            ffmpeg: ffmpeg.path,
            ffprobe: ffprobe.path,
            sandbox,
        })
    }

    /// True when processes run under Landlock.
    pub(crate) fn landlock(&self) -> bool {
        self.sandbox.landlock_abi > 0
    }
}

struct Program {
    path: PathBuf,
    variable: &'static str,
}

impl Program {
    async fn ask(&self, question: &str, landlock: bool) -> Result<String, DetectError> {
        let mut question = Run::new(&self.path, ["-hide_banner", question]);
        question.stdout = Stdout::Collect { limit_bytes: 8 << 20 };
        question.limits.wall = Duration::from_secs(30);
        question.landlock = landlock;
        let Output { stdout, .. } = run(question, CancellationToken::new())
            .await
            .map_err(|source| DetectError::Broken { path: self.path.clone(), variable: self.variable, source })?;
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    fn checked(&self, text: &str) -> Result<Version, DetectError> {
        let (path, variable) = (self.path.clone(), self.variable);
        match parse_version(text) {
            None => Err(DetectError::Unknown { path, variable }),
            Some(version) if version < OLDEST => Err(DetectError::TooOld { path, version, variable }),
            Some(version) => Ok(version),
        }
    }
}

fn locate_ffmpeg(paths: &ToolPaths) -> Result<PathBuf, DetectError> {
    let found = match &paths.ffmpeg {
        Some(path) => program_at(path),
        None => search_path("ffmpeg"),
    };
    found.ok_or_else(|| DetectError::Missing {
        name: "ffmpeg",
        variable: "SPLITREEL_FFMPEG",
        path: paths.ffmpeg.clone(),
    })
}

fn locate_ffprobe(paths: &ToolPaths, ffmpeg: &Path) -> Result<PathBuf, DetectError> {
    let found = match &paths.ffprobe {
        Some(path) => program_at(path),
        None => program_at(&ffmpeg.with_file_name("ffprobe")).or_else(|| search_path("ffprobe")),
    };
    found.ok_or_else(|| DetectError::Missing {
        name: "ffprobe",
        variable: "SPLITREEL_FFPROBE",
        path: paths.ffprobe.clone(),
    })
}

fn search_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).find_map(|dir| program_at(&dir.join(name)))
}

fn program_at(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::fs::canonicalize(path).ok()?;
    let meta = std::fs::metadata(&path).ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then_some(path)
}

/// The release from `-version`. Development builds (`N-12345-g…`, dated ones) are placed by their libavcodec.
fn parse_version(text: &str) -> Option<Version> {
    let mut words = text.lines().next()?.split_whitespace();
    let (name, word) = (words.next()?, words.nth(1)?);
    if name != "ffmpeg" && name != "ffprobe" {
        return None;
    }
    let mut numbers = word.trim_start_matches(['n', 'v']).split(['.', '-', '+', '~']).map(str::parse::<u32>);
    if let (true, Some(Ok(major)), Some(Ok(minor))) = (word.contains('.'), numbers.next(), numbers.next())
        && (1..100).contains(&major)
    {
        return Some(Version { major, minor });
    }
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("libavcodec"))?;
    let mut numbers = line.split('/').next()?.split('.').map(|part| part.trim().parse::<u32>().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    // libavcodec 59 belongs to the 5.x releases; 59.37 is 5.1.
    Some(Version { major: major.checked_sub(54)?, minor: u32::from(major > 59 || minor >= 37) })
}

/// Names in ffmpeg's tables: lines of flags, name, description; names may be lists.
fn names(table: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in table.lines() {
        let mut words = line.split_whitespace();
        let (Some(flags), Some(name)) = (words.next(), words.next()) else { continue };
        let is_entry =
            name != "=" && flags.len() <= 6 && flags.chars().all(|c| c == '.' || c.is_ascii_alphabetic() || c == '|');
        if is_entry && wanted(flags) {
            found.extend(name.split(',').map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_and_of_odd_builds() {
        let version = |text: &str| parse_version(text).map(|v| (v.major, v.minor));
        assert_eq!(version("ffmpeg version 5.1.9-0+deb12u1 Copyright (c)"), Some((5, 1)));
        assert_eq!(version("ffmpeg version n7.1 Copyright"), Some((7, 1)));
        assert_eq!(version("ffmpeg version 9.0.2-static https://x Copyright"), Some((9, 0)));
        assert_eq!(version("ffprobe version 4.4.2 Copyright"), Some((4, 4)));
        let odd = "ffmpeg version N-12345-g0123abc Copyright\nconfiguration:\nlibavutil      58. 29.100 / 58. 29.100\n\
                   libavcodec     60. 31.102 / 60. 31.102";
        assert_eq!(version(odd), Some((6, 1)));
        let dated = "ffmpeg version 2021-05-01-git-abc Copyright\nlibavcodec     59.  1.100 / 59.  1.100";
        assert_eq!(version(dated), Some((5, 0)));
        assert_eq!(version("GNU bash, version 5.2"), None);
        assert_eq!(version("ffmpeg version whatever"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn tables_give_names() {
        let table = "Encoders:\n V..... = Video\n ------\n V....D libx264              H.264\n A....D aac  AAC\n";
        assert_eq!(names(table, |_| true).into_iter().collect::<Vec<_>>(), ["aac", "libx264"]);
        let demuxers = " D. = Demuxing supported\n --\n D  mov,mp4,m4a,3gp,3g2,mj2 QuickTime / MOV\n E  mp4 x\n";
        assert!(names(demuxers, |flags| flags.contains('D')).contains("m4a"));
    }

    #[tokio::test]
    async fn a_missing_program_says_what_to_do() {
        let paths = ToolPaths { ffmpeg: Some("/nonexistent/ffmpeg".into()), ffprobe: None };
        let error = Ffmpeg::detect(&paths).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nonexistent/ffmpeg") && text.contains("apt-get install ffmpeg"), "{text}");
        assert!(text.contains("SPLITREEL_FFMPEG"), "{text}");
    }
}
