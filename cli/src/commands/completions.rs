//! `splitreel completions`.

use crate::args::{Cli, CompletionsArgs};
use clap::CommandFactory;

/// Prints the script.
pub fn completions(args: &CompletionsArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "splitreel", &mut script);
    say!("{}", String::from_utf8_lossy(&script).trim_end());
}
