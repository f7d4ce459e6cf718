//! Test kit: a media toolkit that makes samples without ffmpeg, and the simulation of the real services on
//! in-memory seams under virtual time. Used by tests and by `simulate`; nothing that is shipped depends on it.

#![forbid(unsafe_code)]

pub mod dice;
pub mod manifests;
pub mod proxy;
pub mod s3;
pub mod services;
pub mod simulation;
pub mod spoil;
pub mod stored;
pub mod toolkit;
