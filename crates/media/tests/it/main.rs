//! Everything that needs real programs: pieces, probing, sound, confinement. Clips are made here, small and few.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod alpha;
mod args;
mod clips;
mod color;
mod containers;
mod content;
mod damaged;
mod interlace;
mod keyframes;
mod pieces;
mod planning;
mod probing;
mod running;
mod sound;
mod untimed;
