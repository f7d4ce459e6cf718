//! Pure packaging: ISO BMFF reading and writing, HLS, DASH, chunk manifests, CODECS strings.
//!
//! Bytes and plain structures in, bytes and strings out. Nothing here opens files, reads a clock or draws random
//! numbers; where a source is too large for memory the caller supplies [`bmff::ReadAt`].

#![forbid(unsafe_code)]

pub mod bmff;
pub mod chunks;
pub mod codecs;
pub mod dash;
pub mod fragment;
pub mod hls;
pub mod init;
pub mod movie;
pub mod presentation;
pub mod progressive;
pub mod stated;
pub mod timing;
