//! The watch folder: files that are put there become jobs when they rest. Looking is by polling; the system's file
//! notifications only make the next look come sooner.

use super::folder::{Looks, SeenFile, is_open_for_writing, scan};
use super::intake::{Intake, IntakeError, Outcome, counted};
use crate::accept::Target;
use crate::documents::put_document;
use notify::Watcher;
use serde::{Deserialize, Serialize};
use splitreel_backend::grants::file_locator;
use splitreel_backend::records::{Expect, RecordKey};
use splitreel_backend::{Records, World};
use splitreel_core::digest::fingerprint;
use splitreel_telemetry::labels::TriggerSource;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Kind of the records of files that were handled.
pub const WATCHED_KIND: &str = "watched_file";

/// Settings of a watch folder.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The folder.
    pub folder: PathBuf,
    /// Whether its subfolders are watched too.
    pub subfolders: bool,
    /// Ends of the names of files that are taken, upper and lower case alike; empty = all.
    pub suffixes: Vec<String>,
    /// What jobs are made of.
    pub target: Target,
    /// Time between two looks.
    pub every: Duration,
    /// Minimum age: a file is submitted once its size and modification time were stable for this long, in milliseconds.
    pub settle_ms: i64,
    /// Most files that are looked at.
    pub max_files: usize,
}

impl WatchConfig {
    /// Looks at a folder every two seconds and takes what rests for three.
    pub fn new(folder: PathBuf, target: Target) -> Self {
        WatchConfig {
            folder,
            subfolders: false,
            suffixes: Vec::new(),
            target,
            every: Duration::from_secs(2),
            settle_ms: 3000,
            max_files: 100_000,
        }
    }
}

/// Why a folder is not watched, or a look failed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The folder cannot be read.
    #[error("the watch folder {folder} cannot be read")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Its output would start jobs.
    #[error("the output {output} lies inside the watch folder {folder}: outputs would start jobs; choose another")]
    OutputInside {
        /// The folder.
        folder: PathBuf,
        /// The output.
        output: PathBuf,
    },
    /// Records or storage failed.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

/// Watches one folder.
pub struct FolderWatch {
    config: WatchConfig,
    records: Arc<dyn Records>,
    intake: Intake,
    world: World,
    looks: Looks,
}

#[derive(Serialize, Deserialize)]
struct Handled {
    path: String,
    bytes: u64,
    modified_ns: i64,
}

impl FolderWatch {
    /// A watch over an existing folder.
    ///
    /// # Errors
    /// [`WatchError`]: the folder is not there, or the output lies in it.
    pub fn new(
        mut config: WatchConfig,
        records: Arc<dyn Records>,
        intake: Intake,
        world: World,
    ) -> Result<Self, WatchError> {
        let folder = config.folder.canonicalize();
        config.folder = folder.map_err(|source| WatchError::Folder { folder: config.folder.clone(), source })?;
        if let Some(output) = config.target.output.as_deref().filter(|output| !output.contains("://")) {
            let output = real_path(Path::new(output));
            if output.starts_with(&config.folder) {
                return Err(WatchError::OutputInside { folder: config.folder, output });
            }
        }
        Ok(FolderWatch { config, records, intake, world, looks: Looks::default() })
    }

    /// Watches until `stop`.
    pub async fn run(&mut self, stop: &CancellationToken) {
        let wake = Arc::new(Notify::new());
        // Dropped at the end, which ends the notifications.
        let _watcher = self.notifications(&wake);
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "watch folder scan failed; retrying");
            }
            // A writer makes a stream of notifications: between two looks is always some time.
            let gap = self.config.every.min(Duration::from_millis(250));
            let rest = self.config.every.saturating_sub(gap);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(gap) => {}
            }
            if self.looks.has_open() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = wake.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Looks once. Answers what became of the files that rest.
    ///
    /// # Errors
    /// When the folder cannot be read. A file that cannot be taken is reported and looked at again.
    pub async fn look(&mut self) -> Result<Vec<Outcome>, WatchError> {
        let (folder, subfolders, max) = (self.config.folder.clone(), self.config.subfolders, self.config.max_files);
        let listing = match tokio::task::spawn_blocking(move || scan(&folder, subfolders, max)).await {
            Ok(listing) => listing,
            Err(error) => Err(std::io::Error::other(error)),
        };
        let listing = listing.map_err(|source| WatchError::Folder { folder: self.config.folder.clone(), source })?;
        let listing = listing.into_iter().filter(|file| self.is_wanted(&file.path)).collect();
        let mut outcomes = Vec::new();
        for file in self.looks.note(listing, self.world.clock.now_ms(), self.config.settle_ms) {
            match self.take(&file).await {
                Ok(None) => {}
                // There is no room for those behind it either; all are looked at again.
                Ok(Some(Outcome::Waiting)) => break,
                Ok(Some(outcome)) => {
                    self.looks.handled(&file);
                    outcomes.push(outcome);
                }
                Err(error) => {
                    tracing::warn!(%error, path = %file.path.display(), "file not accepted; will retry");
                }
            }
        }
        Ok(outcomes)
    }

    fn is_wanted(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let suffixes = &self.config.suffixes;
        suffixes.is_empty() || suffixes.iter().any(|suffix| name.ends_with(&suffix.to_ascii_lowercase()))
    }

    /// `None`: not yet.
    async fn take(&self, file: &SeenFile) -> Result<Option<Outcome>, IntakeError> {
        let locator = file_locator(&file.path);
        let locator = locator.as_str();
        let path = file.path.clone();
        if tokio::task::spawn_blocking(move || is_open_for_writing(&path)).await.unwrap_or(false) {
            return Ok(None);
        }
        let key = RecordKey {
            kind: WATCHED_KIND.to_owned(),
            tenant: self.config.target.tenant.clone(),
            id: fingerprint(&[locator]),
        };
        let handled = Handled { path: locator.to_owned(), bytes: file.bytes, modified_ns: file.modified_ns };
        // A record of its own beside the job's key: jobs are deleted some day, files stay.
        let record = self.records.get(&key).await?;
        let before = record.and_then(|record| serde_json::from_value::<Handled>(record.doc).ok());
        if before.is_some_and(|b| (b.bytes, b.modified_ns) == (file.bytes, file.modified_ns)) {
            return Ok(Some(Outcome::NoRule));
        }
        let source = self.intake.pin(locator).await?;
        if source.bytes != file.bytes {
            return Ok(None);
        }
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let started = self.intake.start_job(source, &["file", locator], &name, &self.config.target).await;
        let outcome = counted(TriggerSource::WatchFolder, started)?;
        if outcome == Outcome::Waiting {
            return Ok(Some(outcome));
        }
        let now = self.world.clock.now_ms();
        let _ = put_document(self.records.as_ref(), &key, Expect::Any, &handled, None, now).await?;
        tracing::info!(path = %file.path.display(), ?outcome, "file checked");
        Ok(Some(outcome))
    }

    fn notifications(&self, wake: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let wake = wake.clone();
        let ring = move |_: notify::Result<notify::Event>| wake.notify_one();
        let mode =
            if self.config.subfolders { notify::RecursiveMode::Recursive } else { notify::RecursiveMode::NonRecursive };
        let watcher = notify::recommended_watcher(ring).and_then(|mut watcher| {
            watcher.watch(&self.config.folder, mode)?;
            Ok(watcher)
        });
        watcher
            .inspect_err(|error| tracing::info!(%error, "file notifications unavailable; polling the watch folder"))
            .ok()
    }
}

/// The path with its existing beginning resolved: an output need not exist yet.
fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        if let Ok(real) = existing.canonicalize() {
            return rest.iter().rev().fold(real, |path, part: &&std::ffi::OsStr| path.join(part));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                existing = parent;
            }
            _ => return absolute,
        }
    }
}
