//! The grammar of metric names, pure. `docs/metrics.md` says the same for people.
//!
//! ```text
//! counter   = "splitreel_" words "_" past [ "_" unit ] "_total"
//! gauge     = "splitreel_" words [ "_" unit ]
//! histogram = "splitreel_" words "_" unit
//! info      = "splitreel_build_info"
//! unit      = "seconds" | "bytes" | "ratio"
//! ```

/// What every name begins with.
pub const PREFIX: &str = "splitreel_";
/// Base units; metrics use no other.
pub const UNITS: &[&str] = &["seconds", "bytes", "ratio"];
/// What may have happened to the things that a counter counts.
pub const PAST: &[&str] = &[
    "answered",
    "claimed",
    "collected",
    "completed",
    "ended",
    "exited",
    "expired",
    "failed",
    "fetched",
    "published",
    "received",
    "refused",
    "retried",
    "sent",
    "shortened",
    "submitted",
    "swept",
    "transferred",
];
/// Words that stand for something else: scaled units, and suffixes that Prometheus adds itself.
const FORBIDDEN: &[&str] = &[
    "ms",
    "millis",
    "milliseconds",
    "minutes",
    "hours",
    "kb",
    "mb",
    "kilobytes",
    "megabytes",
    "percent",
    "count",
    "sum",
    "bucket",
    "info",
    "number",
    "num",
];
/// Labels that would give each job, person or object a series of its own, and those Prometheus keeps for itself.
const FORBIDDEN_LABELS: &[&str] = &[
    "attempt", "bucket", "id", "instance", "job", "key", "le", "lease", "object", "path", "quantile", "task", "tenant",
    "url", "worker",
];
const MAX_LENGTH: usize = 64;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets, their sum and their number.
    Histogram,
}

impl Kind {
    /// The word of the exposition format and of the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// How a name breaks the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It begins with something else than [`PREFIX`].
    #[error("does not begin with {PREFIX}")]
    Prefix,
    /// Other characters than `a-z`, digits and single underscores between words, or too long.
    #[error("is not made of short lower-case words")]
    Shape,
    /// The word must not be used.
    #[error("has the word {0}, which is not allowed")]
    Word(String),
    /// A unit stands elsewhere than at its place.
    #[error("has a unit in the middle")]
    UnitInside,
    /// A counter does not end in `_total`, or something else does.
    #[error("only counters end in _total, and all of them do")]
    Total,
    /// A counter does not say what happened.
    #[error("does not say with a known word what happened to what is counted")]
    NoPast,
    /// A histogram has no unit.
    #[error("does not end in a base unit")]
    NoUnit,
    /// Nothing but affixes.
    #[error("names no thing")]
    NoNoun,
}

/// Checks the name of a metric.
pub fn check_name(name: &str, kind: Kind) -> Result<(), Violation> {
    let rest = name.strip_prefix(PREFIX).ok_or(Violation::Prefix)?;
    if rest == "build_info" && kind == Kind::Gauge {
        return Ok(());
    }
    if name.len() > MAX_LENGTH || !is_snake(rest) {
        return Err(Violation::Shape);
    }
    let mut words: Vec<&str> = rest.split('_').collect();
    if let Some(word) = words.iter().find(|word| FORBIDDEN.contains(word)) {
        return Err(Violation::Word((*word).to_owned()));
    }
    let is_total = words.last() == Some(&"total");
    if is_total != (kind == Kind::Counter) {
        return Err(Violation::Total);
    }
    if is_total {
        words.pop();
    }
    let has_unit = words.last().is_some_and(|word| UNITS.contains(word));
    if has_unit {
        words.pop();
    }
    if words.iter().any(|word| UNITS.contains(word) || *word == "total") {
        return Err(Violation::UnitInside);
    }
    match kind {
        Kind::Counter => {
            let past = words.pop().filter(|word| PAST.contains(word));
            past.ok_or(Violation::NoPast)?;
        }
        Kind::Histogram if !has_unit => return Err(Violation::NoUnit),
        Kind::Histogram | Kind::Gauge => {}
    }
    if words.is_empty() { Err(Violation::NoNoun) } else { Ok(()) }
}

/// Checks the name of a label.
pub fn check_label(name: &str) -> Result<(), Violation> {
    if !is_snake(name) {
        return Err(Violation::Shape);
    }
    if FORBIDDEN_LABELS.contains(&name) || name.ends_with("_id") {
        return Err(Violation::Word(name.to_owned()));
    }
    Ok(())
}

fn is_snake(text: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    text.split('_').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names_pass() {
        for (name, kind) in [
            ("splitreel_jobs", Kind::Gauge),
            ("splitreel_queue_oldest_age_seconds", Kind::Gauge),
            ("splitreel_build_info", Kind::Gauge),
            ("splitreel_leases_expired_total", Kind::Counter),
            ("splitreel_s3_transferred_bytes_total", Kind::Counter),
            ("splitreel_encode_speed_ratio", Kind::Histogram),
        ] {
            assert_eq!(check_name(name, kind), Ok(()), "{name}");
        }
    }

    #[test]
    fn each_rule_is_kept() {
        let word = |w: &str| Violation::Word(w.to_owned());
        for (name, kind, violation) in [
            ("jobs_total", Kind::Counter, Violation::Prefix),
            ("splitreel_Jobs", Kind::Gauge, Violation::Shape),
            ("splitreel_jobs__open", Kind::Gauge, Violation::Shape),
            ("splitreel_3_jobs", Kind::Gauge, Violation::Shape),
            ("splitreel_request_ms", Kind::Histogram, word("ms")),
            ("splitreel_jobs_count", Kind::Gauge, word("count")),
            ("splitreel_leases_expired", Kind::Counter, Violation::Total),
            ("splitreel_jobs_total", Kind::Gauge, Violation::Total),
            ("splitreel_jobs_total", Kind::Counter, Violation::NoPast),
            ("splitreel_seconds_wait", Kind::Gauge, Violation::UnitInside),
            ("splitreel_attempt_duration", Kind::Histogram, Violation::NoUnit),
            ("splitreel_sent_bytes_total", Kind::Counter, Violation::NoNoun),
            ("splitreel_seconds", Kind::Histogram, Violation::NoNoun),
        ] {
            assert_eq!(check_name(name, kind), Err(violation), "{name}");
        }
        assert_eq!(check_label("job"), Err(word("job")));
        assert_eq!(check_label("upload_id"), Err(word("upload_id")));
        assert_eq!(check_label("Kind"), Err(Violation::Shape));
        assert_eq!(check_label("kind"), Ok(()));
    }

    proptest! {
        #[test]
        fn what_passes_is_a_prometheus_name(name in "splitreel_[a-z_0-9]{0,40}") {
            for kind in [Kind::Counter, Kind::Gauge, Kind::Histogram] {
                if check_name(&name, kind).is_ok() {
                    prop_assert!(!name.contains("__") && !name.ends_with('_'));
                    prop_assert_eq!(name.ends_with("_total"), kind == Kind::Counter);
                }
            }
        }
    }
}
