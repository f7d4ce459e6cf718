//! `splitreel completions`.

use clap::{Args, Command};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Prints the script for a command line.
pub fn completions(mut line: Command, args: &CompletionsArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut line, "splitreel", &mut script);
    say!("{}", String::from_utf8_lossy(&script).trim_end());
}
