//! The simulation holds on hundreds of seeds, replays exactly, and finds every planted bug.

mod bugs;
mod seeds;
