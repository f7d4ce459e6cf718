//! Everything that needs real programs: pieces, probing, sound, confinement. Clips are made here, small and few.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod args;
mod clips;
mod pieces;
mod planning;
mod probing;
mod running;
mod sound;
mod untimed;
