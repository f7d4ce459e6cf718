//! Everything that needs real programs: pieces, probing, sound, confinement. Clips are made here, small and few.

mod args;
mod clips;
mod corpus;
mod pieces;
mod planning;
mod probing;
mod running;
mod sound;
