//! What commands print. A reader that has seen enough, as `head` has, is no failure; a full disk is one.

use crate::exit::{Exit, Problem};
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Like `println!`, but ends the process quietly when nobody reads on.
macro_rules! say {
    ($($words:tt)*) => { $crate::stdout::line(format_args!($($words)*)) };
}

/// Writes a line to standard output, or ends the process.
pub fn line(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(Exit::Done.code().into());
    }
    Problem::because("standard output cannot be written", &error).print();
    std::process::exit(Exit::Failed.code().into());
}
