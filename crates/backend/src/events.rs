//! The event seam: where the job log is delivered to.

use crate::store::StoreError;
use async_trait::async_trait;
use splitreel_core::event::Event;

/// Receives the job log, batch by batch. A sink may receive the same events again: after a crash, or from two coordinators
/// at once.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Stores or forwards a batch, oldest event first. `Ok` means that the events are safe with the sink.
    async fn take(&self, events: &[Event]) -> Result<(), StoreError>;
}
