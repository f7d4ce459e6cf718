//! An error with all its causes in one line, for log lines and messages of people.

use std::error::Error;
use std::fmt;

/// Shows `error: cause: cause of the cause`. A cause that the line already ends with is left out: some libraries repeat
/// their source's message in their own.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = cause.source();
        }
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Fault {
        #[error("storage does not answer")]
        Outer(#[source] Box<Fault>),
        #[error("cannot connect: refused")]
        Repeating(#[source] Box<Fault>),
        #[error("refused")]
        Root,
    }

    #[test]
    fn causes_follow_and_are_not_repeated() {
        let error = Fault::Outer(Box::new(Fault::Repeating(Box::new(Fault::Root))));
        assert_eq!(Chain(&error).to_string(), "storage does not answer: cannot connect: refused");
        assert_eq!(Chain(&Fault::Root).to_string(), "refused");
    }
}
