//! Settings: defaults < configuration file < environment < flags (the last two through clap).

use crate::exit::Problem;
use crate::profile_file;
use crate::roles::settings::{Api, Dispatch, Folders, Hands, Listen, Servers, Storage, Upstream};
use clap::Args;
use serde::Deserialize;
use splitreel_core::profile::Profile;
use std::path::{Path, PathBuf};

/// Settings of an encode, shared by `run` and `plan`.
#[derive(Clone, Debug, Default, Args)]
pub struct EncodeArgs {
    /// universal, efficiency, passthrough, or a profile file ending in .toml.
    #[arg(long, env = "SPLITREEL_PROFILE", value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// Seconds per segment, or auto.
    #[arg(long, env = "SPLITREEL_SEGMENT_SECONDS", value_name = "S|auto")]
    pub segment_seconds: Option<String>,
    /// Also make a chunk set with chunks of this size in MiB (16 to 128; 0 = none).
    #[arg(long, env = "SPLITREEL_CHUNK_MB", value_name = "N")]
    pub chunk_mb: Option<u32>,
    /// Keep the single MP4 beside the chunk set.
    #[arg(long, env = "SPLITREEL_KEEP_FULL")]
    pub keep_full: bool,
    /// Number of the programme of a multiplex [default: that of the default or largest picture].
    #[arg(long, env = "SPLITREEL_PROGRAMME", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub programme: Option<u32>,
}

/// What the configuration file may hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where jobs, parts and scratch files are kept.
    pub state: Option<PathBuf>,
    /// Profile name or file.
    pub profile: Option<String>,
    /// Seconds per segment; 0 = auto.
    pub segment_seconds: Option<f64>,
    /// Chunk size in MiB.
    pub chunk_mb: Option<u32>,
    /// Keep the single MP4 beside the chunk set.
    pub keep_full: Option<bool>,
    /// Attempts at the same time.
    pub workers: Option<usize>,
    /// Server roles: where they listen.
    pub listen: Listen,
    /// Server roles: database and broker.
    pub servers: Servers,
    /// Server roles: object storage.
    pub storage: Storage,
    /// Coordinator and `serve`: who may use the API, and whom it calls.
    pub api: Api,
    /// Coordinator: dispatch and sources.
    pub dispatch: Dispatch,
    /// `serve`: watch folder and folders of sources.
    pub folders: Folders,
    /// Workers, assemblers and commands that talk to a server: where it is.
    pub upstream: Upstream,
    /// Workers and assemblers: what they do at a time.
    pub hands: Hands,
}

/// Settings that are not a command's own.
#[derive(Clone, Debug)]
pub struct Config {
    /// State directory.
    pub state: PathBuf,
    /// The file's settings, for what flags leave open.
    pub file: File,
}

/// Reads the configuration file: `file` where one is named, else the user's own where it exists. `state`: directory
/// named by flag or environment.
pub fn load(file: Option<&Path>, state: Option<&Path>) -> Result<Config, Problem> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute());
    let base = |var: &str, under: &str| {
        std::env::var_os(var)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
            .or_else(|| home.as_ref().map(|h| h.join(under)))
    };
    let file = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                Problem::usage(format!("{}: the configuration file cannot be read: {e}", path.display()))
            })?;
            Some((path.to_owned(), text))
        }
        None => base("XDG_CONFIG_HOME", ".config")
            .map(|d| d.join("splitreel/config.toml"))
            .and_then(|p| std::fs::read_to_string(&p).ok().map(|t| (p, t))),
    };
    let file = match file {
        Some((path, text)) => toml::from_str(&text).map_err(|e| Problem::usage(format!("{}: {e}", path.display())))?,
        None => File::default(),
    };
    let state = state
        .map(Path::to_owned)
        .or_else(|| file.state.clone())
        .or_else(|| base("XDG_STATE_HOME", ".local/state").map(|d| d.join("splitreel")))
        .unwrap_or_else(|| PathBuf::from(".splitreel"));
    Ok(Config { state, file })
}

impl Config {
    /// The profile with all settings applied, valid.
    pub fn profile(&self, args: &EncodeArgs) -> Result<Profile, Problem> {
        let name = args.profile.as_deref().or(self.file.profile.as_deref()).unwrap_or("universal");
        let mut profile = profile_file::resolve(name)?;
        let seconds = match args.segment_seconds.as_deref() {
            None => self.file.segment_seconds,
            Some("auto") => Some(0.0),
            Some(text) => Some(text.parse::<f64>().ok().filter(|s| s.is_finite() && *s > 0.0).ok_or_else(|| {
                Problem::usage(format!(
                    "--segment-seconds {text}: not a number of seconds above 0: use for example 10, or auto"
                ))
            })?),
        };
        if let Some(s) = seconds {
            profile.split.segment_seconds = s;
        }
        if let Some(mb) = args.chunk_mb.or(self.file.chunk_mb) {
            profile.packaging.chunk_mb = mb;
        }
        if args.keep_full || self.file.keep_full == Some(true) {
            profile.packaging.keep_full = true;
        }
        if let Some(number) = args.programme {
            profile.source.programme = number;
        }
        let errors = profile.validate();
        if errors.is_empty() {
            return Ok(profile);
        }
        let mut problem = Problem::usage(format!(
            "{} cannot be used:",
            if errors.len() == 1 { "a setting" } else { "some settings" }
        ));
        for e in errors {
            problem = problem.line(e.to_string());
        }
        Err(problem)
    }

    /// Attempts at the same time.
    pub fn workers(&self, flag: Option<usize>) -> Result<usize, Problem> {
        match flag.or(self.file.workers) {
            Some(n @ 1..=1024) => Ok(n),
            Some(n) => Err(Problem::usage(format!("--workers {n}: use 1 to 1024"))),
            None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_is_read_and_names_every_table() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).unwrap();
        let section = text.split("### Settings").nth(1).unwrap();
        let blocks: Vec<&str> =
            section.split("```toml\n").skip(1).take(2).map(|b| b.split("```").next().unwrap()).collect();
        let file: File = toml::from_str(&blocks.concat()).unwrap();
        assert_eq!(file.workers, Some(2));
        // Every field of every table has a value in the example: what is new must be described.
        let shown = format!("{file:?}");
        assert!(!shown.contains("None"), "{shown}");
    }
}
