//! Output directories on a local file system: who writes one, what it holds, and how it is replaced. Helpers have names
//! of their own and a marker inside; nothing without the marker is deleted, and nothing of the user's.

mod contents;
mod lock;
mod names;
mod place;
mod staging;
#[cfg(test)]
mod tests;

pub use contents::{Contents, Permit, Whose};
pub use lock::{Holder, LockError, OutputLock};
pub use names::{NAME_MAX, cut};
pub use place::{PlaceError, place};
pub use staging::{Staging, clear_leftovers};
pub(crate) use staging::{is_marked, mark, preview_names, remove_ours};
