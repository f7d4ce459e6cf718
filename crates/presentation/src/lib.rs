//! Presentations as values: manifests, files and previews of a job, made from rows of the job store.
//!
//! [`Rows`] hold the plan and the results of finished tasks. Everything else is a pure function of these: the model that
//! manifests are written from, each manifest in each [`Form`] ([`manifest`]), the preview of a running job
//! ([`Preview`]) and the list of files of a published one ([`Catalogue`]). Nothing here reads a store, a blob or a
//! clock, so that the same rows give the same bytes on a laptop, a server and a cluster, before and after a restart.

#![forbid(unsafe_code)]

mod catalogue;
mod chunks;
mod error;
mod model;
mod preview;
mod rows;
mod view;

pub use catalogue::{Catalogue, CatalogueError};
pub use chunks::{ChunkFile, ChunkSet, sha256_bytes};
pub use error::ManifestError;
pub use model::model;
pub use preview::Preview;
pub use rows::{Rows, StoredTrack};
pub use splitreel_packaging::presentation::Form;
pub use view::{Manifest, ManifestName, manifest, manifests};

#[cfg(test)]
mod tests;
