//! Behaviours of a job store.

mod attempts;
mod beside;
mod failures;
mod generations;
mod jobs;
mod outbox;
mod pause;
mod sharing;

pub use crate::conformance::model::random_operations_match_the_reference;
pub use attempts::*;
pub use beside::*;
pub use failures::*;
pub use generations::*;
pub use jobs::*;
pub use outbox::*;
pub use pause::*;
pub use sharing::*;
