//! Faults of the doorbell: it may refuse, lose or repeat a ring.

use super::{FaultPlan, RingVerdict, around};
use crate::doorbell::{Doorbell, DoorbellError, Queue, Ring};
use async_trait::async_trait;
use std::sync::Arc;

/// A [`Doorbell`] that fails as planned.
#[derive(Clone)]
pub struct FaultyDoorbell {
    inner: Arc<dyn Doorbell>,
    plan: Arc<dyn FaultPlan>,
}

impl FaultyDoorbell {
    /// Wraps a doorbell.
    pub fn new(inner: Arc<dyn Doorbell>, plan: Arc<dyn FaultPlan>) -> Self {
        FaultyDoorbell { inner, plan }
    }

    async fn hand_over(&self, ring: Ring) -> Result<(), DoorbellError> {
        match self.plan.on_ring(&ring).await {
            RingVerdict::Deliver => self.inner.ring(ring).await,
            RingVerdict::Fail => Err(failed("doorbell.ring")),
            RingVerdict::Drop => Ok(()),
            RingVerdict::Duplicate => {
                self.inner.ring(ring.clone()).await?;
                self.inner.ring(ring).await
            }
        }
    }
}

fn failed(op: &'static str) -> DoorbellError {
    DoorbellError { what: super::Injected { op }.to_string() }
}

#[async_trait]
impl Doorbell for FaultyDoorbell {
    async fn ring(&self, ring: Ring) -> Result<(), DoorbellError> {
        around!(self.plan, "doorbell.ring", failed, self.hand_over(ring))
    }

    /// Cancel-safe as far as the plan answers `after` at once: a ring that was taken is lost when the caller
    /// goes away while the plan makes it wait, as with a broker whose consumer dies.
    async fn next(&self, queue: Queue) -> Result<Ring, DoorbellError> {
        around!(self.plan, "doorbell.next", failed, self.inner.next(queue))
    }

    async fn answered(&self, ring: &Ring) {
        self.inner.answered(ring).await;
    }

    async fn unanswered(&self, ring: &Ring) {
        self.inner.unanswered(ring).await;
    }
}
