//! The built `splitreel` binary held against its promises: exactness, resume, determinism, plain words for bad input.
//! Knows the program by its command line and by the files it writes; `gate` alone wires the services itself.

#![allow(unsafe_code, reason = "signals processes by a system call")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod bad_input;
mod boxes;
mod clips;
#[cfg(feature = "cluster")]
mod cluster;
mod compose;
mod copies;
mod corpus;
mod decoded;
mod determinism;
mod documents;
mod exactness;
mod examples;
mod full_disk;
mod gate;
mod in_step;
mod inherited;
mod ladders;
#[cfg(not(feature = "cluster"))]
mod laptop;
mod odd_sources;
mod output;
mod output_directory;
mod output_names;
mod preview;
mod reel;
mod resume;
mod serve;
mod structure;
mod untimed;
