//! Faults of the doorbell: it may refuse, lose or repeat a wakeup.

use super::{FaultPlan, WakeupVerdict, around};
use crate::doorbell::{Doorbell, DoorbellError, Queue, Wakeup};
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

    async fn hand_over(&self, wakeup: Wakeup) -> Result<(), DoorbellError> {
        match self.plan.on_wakeup(&wakeup).await {
            WakeupVerdict::Deliver => self.inner.notify(wakeup).await,
            WakeupVerdict::Fail => Err(failed("doorbell.notify")),
            WakeupVerdict::Drop => Ok(()),
            WakeupVerdict::Duplicate => {
                self.inner.notify(wakeup.clone()).await?;
                self.inner.notify(wakeup).await
            }
        }
    }
}

fn failed(op: &'static str) -> DoorbellError {
    DoorbellError { what: super::Injected { op }.to_string() }
}

#[async_trait]
impl Doorbell for FaultyDoorbell {
    async fn notify(&self, wakeup: Wakeup) -> Result<(), DoorbellError> {
        around!(self.plan, "doorbell.notify", failed, self.hand_over(wakeup))
    }

    /// Cancel-safe as far as the plan answers `after` at once: a wakeup that was taken is lost when the caller
    /// goes away while the plan makes it wait, as with a broker whose consumer dies.
    async fn next(&self, queue: Queue) -> Result<Wakeup, DoorbellError> {
        around!(self.plan, "doorbell.next", failed, self.inner.next(queue))
    }

    async fn answered(&self, wakeup: &Wakeup) {
        self.inner.answered(wakeup).await;
    }

    async fn unanswered(&self, wakeup: &Wakeup) {
        self.inner.unanswered(wakeup).await;
    }
}
