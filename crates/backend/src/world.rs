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

/// Source of random bytes for tokens and keys.
pub trait Secrets: Send + Sync {
    /// Fills the bytes with random ones that nobody can guess.
    ///
    /// # Errors
    /// [`NoRandomness`] when the system gives none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The random number generator is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("random number generator unavailable")]
pub struct NoRandomness;

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

impl Secrets for Machine {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        getrandom::fill(bytes).map_err(|_| NoRandomness)
    }
}

impl World {
    /// The real world.
    pub fn machine() -> Self {
        World { clock: Arc::new(Machine), ids: Arc::new(Machine) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
        assert!(Machine.fill(&mut a).is_ok() && Machine.fill(&mut b).is_ok());
        assert_ne!(a, b);
    }
}
