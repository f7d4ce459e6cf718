//! `splitreel`: arguments, configuration, wiring and terminal output.
fn main() {}
