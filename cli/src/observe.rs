//! Watches the engine from inside: what is claimed, how far it is, what is done. For display and preview only;
//! the truth is in the job store.

use async_trait::async_trait;
use splitreel_backend::doorbell::Wakeup;
use splitreel_backend::lease::{LeaseError, Leases, Work, WorkOrder};
use splitreel_core::part::TaskResult;
use splitreel_core::plan::Plan;
use splitreel_core::profile::SourceProfile;
use splitreel_core::source::SourceInfo;
use splitreel_core::task::Progress;
use splitreel_core::{Failure, LeaseId, TaskId, WorkerId};
use splitreel_media::{Encoded, Request, Toolkit};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Something seen.
pub enum Seen {
    /// An attempt started.
    Claimed {
        /// Its order.
        order: Box<WorkOrder>,
    },
    /// An attempt reported progress.
    Progress {
        /// The lease.
        lease: LeaseId,
        /// Latest value.
        progress: watch::Receiver<Progress>,
    },
    /// A task became done.
    Done {
        /// The task.
        task: TaskId,
        /// The lease that did it.
        lease: LeaseId,
        /// What it made.
        result: Box<TaskResult>,
    },
    /// An attempt failed.
    Failed {
        /// The task.
        task: TaskId,
        /// The lease.
        lease: LeaseId,
        /// Why.
        failure: Failure,
    },
}

/// Wraps the coordinator.
pub struct ObservedLeases {
    /// The real one.
    pub inner: Arc<dyn Leases>,
    /// Where sightings go.
    pub seen: mpsc::UnboundedSender<Seen>,
}

#[async_trait]
impl Leases for ObservedLeases {
    async fn claim(&self, wakeup: &Wakeup, worker: &WorkerId, lease: LeaseId) -> Result<WorkOrder, LeaseError> {
        let order = self.inner.claim(wakeup, worker, lease).await?;
        let _ = self.seen.send(Seen::Claimed { order: Box::new(order.clone()) });
        Ok(order)
    }

    async fn renew(&self, task: TaskId, lease: LeaseId, progress: Progress) -> Result<i64, LeaseError> {
        self.inner.renew(task, lease, progress).await
    }

    async fn complete(&self, task: TaskId, lease: LeaseId, result: TaskResult) -> Result<(), LeaseError> {
        self.inner.complete(task, lease, result.clone()).await?;
        let _ = self.seen.send(Seen::Done { task, lease, result: Box::new(result) });
        Ok(())
    }

    async fn fail(&self, task: TaskId, lease: LeaseId, failure: Failure) -> Result<(), LeaseError> {
        self.inner.fail(task, lease, failure.clone()).await?;
        let _ = self.seen.send(Seen::Failed { task, lease, failure });
        Ok(())
    }
}

/// Wraps the toolkit.
pub struct ObservedToolkit {
    /// The real one.
    pub inner: Arc<dyn Toolkit>,
    /// Where sightings go.
    pub seen: mpsc::UnboundedSender<Seen>,
}

impl ObservedToolkit {
    fn tell(&self, request: &Request) {
        let _ = self.seen.send(Seen::Progress { lease: request.lease, progress: request.progress.subscribe() });
    }
}

#[async_trait]
impl Toolkit for ObservedToolkit {
    async fn probe(&self, request: Request, deep: bool, source: SourceProfile) -> Result<SourceInfo, Failure> {
        self.tell(&request);
        self.inner.probe(request, deep, source).await
    }

    async fn encode_video(
        &self,
        request: Request,
        plan: Arc<Plan>,
        segment: u32,
        look_back: u32,
    ) -> Result<Encoded, Failure> {
        self.tell(&request);
        self.inner.encode_video(request, plan, segment, look_back).await
    }

    async fn encode_audio(&self, request: Request, plan: Arc<Plan>, index: u32) -> Result<Encoded, Failure> {
        self.tell(&request);
        self.inner.encode_audio(request, plan, index).await
    }

    fn build_id(&self) -> String {
        self.inner.build_id()
    }
}

/// What an attempt works on, for people.
pub fn label(work: &Work) -> String {
    match work {
        Work::Probe { .. } => "probe".into(),
        Work::Video { plan, segment } => match plan.num_segments() {
            n if n > 1 => format!("segment {}/{n}", segment + 1),
            _ => "video".into(),
        },
        Work::Audio { plan, index } => {
            let name = plan.whole_track(*index).map_or("", |a| a.id.as_str());
            format!("audio {name}")
        }
        Work::Assemble { .. } => "assemble".into(),
    }
}
