//! Where a worker gets the bytes of a source, and the check that they are the pinned ones. Knows nothing of media: what
//! a task needs is decided by `splitreel_core::ranges`.

mod cache;
mod http;
mod local;
mod options;
mod range;
mod scratch;
mod tables;

pub use http::{HttpSources, HttpSourcesError};
pub use local::LocalSources;
pub use options::HttpOptions;

use async_trait::async_trait;
use splitreel_backend::lease::{SourceGrant, Work, WorkOrder};
use splitreel_core::ranges::{Need, audio_need, video_need};
use splitreel_core::source::SourceRef;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId};
use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::sync::watch;

/// What one attempt wants of a source.
pub struct SourceAccess<'a> {
    /// The pinned source.
    pub source: &'a SourceRef,
    /// The right to read it over HTTP, if it is read that way.
    pub grant: Option<&'a SourceGrant>,
    /// The lease: names scratch files.
    pub lease: LeaseId,
    /// How much of it.
    pub need: &'a Need,
    /// Receives the share of fetched bytes, so that a long transfer does not look like a standstill.
    pub progress: &'a watch::Sender<Progress>,
}

/// A source as a local file. Scratch files behind it go when it is dropped.
pub struct LocalSource {
    path: PathBuf,
    is_complete: bool,
    bytes_read: u64,
    requests: u32,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

impl LocalSource {
    /// An existing file with the whole source; `bytes` is the number of bytes that will be read.
    pub fn file(path: PathBuf, bytes_read: u64) -> Self {
        LocalSource { path, is_complete: true, bytes_read, requests: 0, _keep: None }
    }

    /// A scratch file, which goes with `keep`.
    fn scratch(path: PathBuf, is_complete: bool, traffic: &Traffic, keep: Box<dyn Any + Send + Sync>) -> Self {
        let (bytes_read, requests) = traffic.so_far();
        LocalSource { path, is_complete, bytes_read, requests, _keep: Some(keep) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether every byte of the source is there: what fails on such a file fails on the source.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Bytes of the source that were read for it, as `Cost::bytes_read` counts them.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Requests that were sent for it.
    pub fn requests(&self) -> u32 {
        self.requests
    }
}

/// Makes a pinned source readable as a local file.
#[async_trait]
pub trait Sources: Send + Sync {
    /// A local file with at least the bytes that are needed, each at a place where a demuxer finds it.
    ///
    /// # Errors
    /// Class `Source` with the codes `source_changed` and `not_found` when the pinned version is not available; class
    /// `Infra` for everything that may pass (`grant_expired`, `no_space`, `source_unavailable` …).
    async fn local(&self, access: &SourceAccess<'_>) -> Result<LocalSource, Failure>;
}

/// What the work of an order needs of the source.
pub fn need(order: &WorkOrder) -> Need {
    match &order.work {
        Work::Probe { deep: false, .. } => Need::Tables,
        Work::Probe { deep: true, .. } | Work::Assemble(_) => Need::Whole,
        Work::Video { plan, segment } => video_need(plan, *segment, order.media_failures),
        Work::Audio { plan, index } => audio_need(plan, *index),
    }
}

/// What was received and asked for on behalf of one attempt.
#[derive(Debug, Default)]
struct Traffic {
    bytes: AtomicU64,
    requests: AtomicU32,
}

impl Traffic {
    fn so_far(&self) -> (u64, u32) {
        (self.bytes.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }
}
