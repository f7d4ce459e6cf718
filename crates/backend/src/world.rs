//! Clock and randomness as injected values: services never ask the machine for them.

use std::sync::Arc;
use uuid::Uuid;

/// Wall clock, for deadlines that are shared between processes.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// Source of fresh identifiers.
pub trait Ids: Send + Sync {
    /// A never repeated identifier. Job ids should sort by time (UUID v7).
    fn fresh(&self) -> Uuid;
}

/// What a service needs of the world beside its seams.
#[derive(Clone)]
pub struct World {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Fresh identifiers.
    pub ids: Arc<dyn Ids>,
}

/// The machine's own clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Clock for Machine {
    fn now_ms(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Ids for Machine {
    fn fresh(&self) -> Uuid {
        Uuid::now_v7()
    }
}

impl World {
    /// The real world.
    pub fn machine() -> Self {
        World { clock: Arc::new(Machine), ids: Arc::new(Machine) }
    }
}
