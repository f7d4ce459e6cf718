//! Assembler role: checks the parts against the plan, reads back what is stored, packages and reports the result for
//! publication; also exports presentations and previews to directories. No media byte moves for HLS and DASH: manifests
//! name the parts' own objects.

mod attempt_files;
pub mod export;
mod gate;
pub mod output;
mod package;
pub mod preview;
mod report;
mod single_files;

use async_trait::async_trait;
use splitreel_backend::doorbell::Queue;
use splitreel_backend::lease::{Work, WorkOrder};
use splitreel_backend::{BlobError, BlobStore, Doorbell, Ids, Leases};
use splitreel_core::part::TaskResult;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, FailureCode, WorkerId};
use splitreel_runner::{Runner, TaskHandler};
use splitreel_telemetry::trace::{Step, step};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Settings of an assembler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this process incarnation.
    pub id: WorkerId,
    /// Jobs assembled at the same time.
    pub slots: usize,
}

/// An assembler over its seams.
#[derive(Clone)]
pub struct Assembler {
    config: Config,
    leases: Arc<dyn Leases>,
    doorbell: Arc<dyn Doorbell>,
    ids: Arc<dyn Ids>,
    deps: Arc<AssemblerDeps>,
}

struct AssemblerDeps {
    blobs: Arc<dyn BlobStore>,
}

impl Assembler {
    /// An assembler that talks to the given seams.
    pub fn new(
        config: Config,
        leases: Arc<dyn Leases>,
        doorbell: Arc<dyn Doorbell>,
        blobs: Arc<dyn BlobStore>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        Assembler { config, leases, doorbell, ids, deps: Arc::new(AssemblerDeps { blobs }) }
    }

    /// Works until `drain`, or until `stop`; see [`Runner::run`].
    pub async fn run(&self, drain: CancellationToken, stop: CancellationToken) {
        let runner = Runner {
            id: self.config.id.clone(),
            slots: self.config.slots,
            queue: Queue::Assemble,
            leases: Arc::clone(&self.leases),
            doorbell: Arc::clone(&self.doorbell),
            handler: Arc::clone(&self.deps) as Arc<_>,
            ids: Arc::clone(&self.ids),
        };
        runner.run(drain, stop).await;
    }
}

#[async_trait]
impl TaskHandler for AssemblerDeps {
    async fn handle(
        &self,
        order: &WorkOrder,
        progress: watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<TaskResult, Failure> {
        let Work::Assemble(assembly) = &order.work else {
            return Err(Failure::of(FailureCode::WrongRole, "a task for workers reached an assembler"));
        };
        let package = package::Package { blobs: self.blobs.as_ref(), prefix: &order.key_prefix, assembly };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::of(FailureCode::Cancelled, "the assembly was stopped")),
            made = package.make(&progress).instrument(step(Step::Package)) => made.map(TaskResult::Assemble),
        }
    }
}

/// What a blob failure means for an assembly. An object that does not show yet is worth another try.
pub(crate) fn blob_failure(e: &BlobError) -> Failure {
    match e {
        BlobError::NoSpace { .. } => Failure::of(FailureCode::NoSpace, format!("{e}: free some space")),
        BlobError::BadKey { .. } => Failure::of(FailureCode::BadKey, e.to_string()),
        BlobError::NotFound { .. } => Failure::of(FailureCode::PartNotVisible, e.to_string()),
        BlobError::Unavailable { source, .. } => Failure::of(FailureCode::Storage, format!("{e}: {source}")),
    }
}
