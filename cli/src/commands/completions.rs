//! `splitreel completions`.

use crate::args::{Cli, CompletionsArgs};
use clap::CommandFactory;

/// Prints the script.
pub fn completions(args: &CompletionsArgs) {
    clap_complete::generate(args.shell, &mut Cli::command(), "splitreel", &mut std::io::stdout());
}
