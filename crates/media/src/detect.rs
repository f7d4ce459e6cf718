//! Finds ffmpeg and ffprobe and lists their capabilities. Does not run media through them.

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

/// Paths of the programs.
#[derive(Clone, Debug, Default)]
pub struct ToolPaths {
    /// ffmpeg; `None` searches `PATH`.
    pub ffmpeg: Option<PathBuf>,
    /// ffprobe; `None` looks in the directory of ffmpeg, then searches `PATH`.
    pub ffprobe: Option<PathBuf>,
}

impl ToolPaths {
    /// From `SPLITREEL_FFMPEG` and `SPLITREEL_FFPROBE`.
    pub fn from_env() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        ToolPaths { ffmpeg: var("SPLITREEL_FFMPEG"), ffprobe: var("SPLITREEL_FFPROBE") }
    }
}

/// Reason why the programs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// Not installed, or not at the given path.
    #[error("{name} was not found{}: {INSTALL}, or set {variable} to its path", at(.path))]
    Missing {
        /// `ffmpeg` or `ffprobe`.
        name: &'static str,
        /// The environment variable that names it.
        variable: &'static str,
        /// The path that was given, if one was.
        path: Option<PathBuf>,
    },
    /// The program does not run.
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
    /// The program is not ffmpeg, or its version cannot be determined.
    #[error("{path} does not report an ffmpeg version: set {variable} to an ffmpeg program")]
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

/// The programs and their capabilities.
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
    /// Decoders by name, where a codec has several.
    pub decoders: BTreeSet<String>,
    /// Filters by name.
    pub filters: BTreeSet<String>,
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
        let asked = match ask_all(&ffmpeg, &ffprobe, sandbox.landlock_abi > 0).await {
            // Its libraries may be in a directory that no rule allows: run unconfined rather than not at all.
            Err(_) if sandbox.landlock_abi > 0 => {
                let asked = ask_all(&ffmpeg, &ffprobe, false).await?;
                tracing::warn!(program = %ffmpeg.path.display(), "ffmpeg does not start under Landlock; running without it");
                sandbox = Sandbox::default();
                asked
            }
            asked => asked?,
        };
        let version = ffmpeg.checked(&asked.version)?;
        ffprobe.checked(&asked.ffprobe_version)?;
        let codecs = Codecs::read(&asked.codecs);
        Ok(Ffmpeg {
            version,
            banner: asked.version.lines().next().unwrap_or_default().to_owned(),
            build_id: splitreel_core::plan::hex(&Sha256::digest(asked.version.as_bytes())),
            encoders: codecs.encoders,
            decodable: codecs.decodable,
            decoders: codecs.decoders,
            filters: entries(&asked.filters).map(|(_, name, _)| name.to_owned()).collect(),
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

/// Answers of the programs.
struct Asked {
    version: String,
    ffprobe_version: String,
    codecs: String,
    filters: String,
}

/// Runs few queries, in parallel: each is a process, and starting one costs more than its answer.
async fn ask_all(ffmpeg: &Program, ffprobe: &Program, landlock: bool) -> Result<Asked, DetectError> {
    let (version, ffprobe_version, codecs, filters) = tokio::try_join!(
        ffmpeg.ask("-version", landlock),
        ffprobe.ask("-version", landlock),
        ffmpeg.ask("-codecs", landlock),
        ffmpeg.ask("-filters", landlock),
    )?;
    Ok(Asked { version, ffprobe_version, codecs, filters })
}

/// Lines of ffmpeg's tables: flags, name, description.
fn entries(table: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    table.lines().filter_map(|line| {
        let (flags, rest) = line.trim_start().split_once(' ')?;
        let (name, description) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
        let is_entry =
            name != "=" && flags.len() <= 6 && flags.chars().all(|c| c == '.' || c.is_ascii_alphabetic() || c == '|');
        is_entry.then_some((flags, name, description))
    })
}

/// Output of `-codecs`: a line lists its encoders when there are several or their name differs from the codec's.
#[derive(Default)]
struct Codecs {
    encoders: BTreeSet<String>,
    decodable: BTreeSet<String>,
    decoders: BTreeSet<String>,
}

impl Codecs {
    fn read(table: &str) -> Self {
        let mut codecs = Codecs::default();
        for (flags, name, description) in entries(table) {
            if flags.starts_with('D') {
                codecs.decodable.insert(name.to_owned());
                let listed = description.split_once("(decoders:").and_then(|(_, rest)| rest.split_once(')'));
                codecs.decoders.extend(listed.iter().flat_map(|(list, _)| list.split_whitespace()).map(str::to_owned));
            }
            if flags.chars().nth(1) == Some('E') {
                let listed = description.split_once("(encoders:").and_then(|(_, rest)| rest.split_once(')'));
                match listed {
                    Some((list, _)) => codecs.encoders.extend(list.split_whitespace().map(str::to_owned)),
                    None => {
                        codecs.encoders.insert(name.to_owned());
                    }
                }
            }
        }
        codecs
    }
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
        let table = "Codecs:\n D..... = Decoding supported\n -------\n \
            DEV.LS h264                 H.264 / AVC (decoders: h264 h264_qsv ) (encoders: libx264 libx264rgb )\n \
            DEA.L. aac                  AAC (Advanced Audio Coding) (decoders: aac aac_fixed )\n \
            D.V.L. vvc                  H.266\n .EA.L. codec2  only made (encoders: libcodec2)\n";
        let codecs = Codecs::read(table);
        assert_eq!(codecs.encoders.into_iter().collect::<Vec<_>>(), ["aac", "libcodec2", "libx264", "libx264rgb"]);
        assert_eq!(codecs.decodable.into_iter().collect::<Vec<_>>(), ["aac", "h264", "vvc"]);
        let filters = "Filters:\n  T.. = Timeline support\n ... zscale  V->V  Apply\n TSC yadif             V->V  De\n";
        assert_eq!(entries(filters).map(|e| e.1).collect::<Vec<_>>(), ["zscale", "yadif"]);
    }

    #[tokio::test]
    async fn the_list_of_encoders_is_that_of_ffmpeg() {
        let found = Ffmpeg::detect(&ToolPaths::from_env()).await.unwrap();
        let program = Program { path: found.ffmpeg.clone(), variable: "" };
        let table = program.ask("-encoders", false).await.unwrap();
        let listed: BTreeSet<_> = entries(&table).map(|(_, name, _)| name.to_owned()).collect();
        assert!(listed.len() > 50 && found.encoders.contains("libx264"), "{listed:?}");
        assert_eq!(found.encoders, listed);
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
