//! The trace that a request belongs to, as one line. Travels with what it set off; decides nothing.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// Longest line that is kept, in bytes. A `traceparent` has 55 (W3C Trace Context §3.2).
const MAX_BYTES: usize = 128;

/// A `traceparent` (W3C Trace Context §3.2), or none. It says on whose behalf something is done, not what: things that
/// differ in it alone are equal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trace(Option<String>);

impl Trace {
    /// Keeps a line; what is too long to be one is none.
    pub fn new(traceparent: Option<String>) -> Self {
        Trace(traceparent.filter(|line| line.len() <= MAX_BYTES))
    }

    /// The line.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// There is no trace.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl PartialEq for Trace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Trace {}

impl PartialOrd for Trace {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Trace {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Trace {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_kept_but_tells_nothing_apart() {
        let line = format!("00-{}-{}-01", "a".repeat(32), "b".repeat(16));
        let trace = Trace::new(Some(line.clone()));
        assert_eq!(trace.as_str(), Some(line.as_str()));
        assert_eq!(trace, Trace::default());
        assert!(Trace::new(Some("x".repeat(MAX_BYTES + 1))).is_none());
        assert_eq!(serde_json::to_string(&trace).unwrap(), format!("\"{line}\""));
    }
}
