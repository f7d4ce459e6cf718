//! Behaviours of a job store.

mod attempts;
mod failures;
mod jobs;
mod model;
mod outbox;

pub use attempts::*;
pub use failures::*;
pub use jobs::*;
pub use model::*;
pub use outbox::*;
