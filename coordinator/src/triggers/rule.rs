//! Rules: which uploads start jobs, for whom and how. Pure: form, choice and the guard against triggering oneself.

use serde::{Deserialize, Serialize};
use splitreel_core::fair::Priority;
use utoipa::ToSchema;

/// Most suffixes of a rule.
const MAX_SUFFIXES: usize = 64;
const MAX_TEXT_BYTES: usize = 1024;
/// Longest time that an upload is watched before it is taken, seconds.
pub const MAX_SETTLE_SECONDS: u32 = 24 * 3600;

/// Turns uploads below a prefix of a bucket into jobs of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The bucket.
    pub bucket: String,
    /// Beginning of the keys; empty = the whole bucket.
    #[serde(default)]
    pub prefix: String,
    /// Ends of the keys, upper and lower case alike, for example `.mp4`; empty = any.
    #[serde(default)]
    pub suffixes: Vec<String>,
    /// Name of the profile, as when a job is created.
    pub profile: String,
    /// Where presentations are copied to, `s3://bucket/prefix/`; absent = they stay in the work bucket.
    #[serde(default)]
    pub output: Option<String>,
    /// Priority class of the jobs.
    #[serde(default)]
    #[schema(value_type = String, example = "normal")]
    pub priority: Priority,
    /// Rules that are not enabled take nothing.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// An upload is taken when its size and version have been the same for so long; 0 = at once.
    #[serde(default)]
    pub settle_seconds: u32,
    /// Lists the prefix this often, for stores that send no events; absent = never.
    #[serde(default)]
    pub poll_seconds: Option<u32>,
}

fn yes() -> bool {
    true
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RuleError {
    /// The member.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Objects of a bucket whose keys begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// Ends at a `/`, or is empty.
    pub prefix: String,
}

impl Place {
    /// Reads `s3://bucket/` or `s3://bucket/prefix/`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(location: &str) -> Result<Self, String> {
        let rest = location.strip_prefix("s3://").ok_or("must begin with s3://")?;
        let (bucket, prefix) = rest.split_once('/').ok_or("must end with /")?;
        check_bucket(bucket)?;
        if !(prefix.is_empty() || prefix.ends_with('/')) {
            return Err("must end with /".to_owned());
        }
        check_text(prefix)?;
        Ok(Place { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The object lies in this place.
    pub fn holds(&self, bucket: &str, key: &str) -> bool {
        self.bucket == bucket && key.starts_with(&self.prefix)
    }
}

impl Rule {
    /// Every mistake, in the order of the members. `own`: places that this installation writes to itself.
    pub fn validate(&self, own: &[Place]) -> Vec<RuleError> {
        let mut errors = Vec::new();
        let mut err = |field, message: String| errors.push(RuleError { field, message });
        if let Err(why) = check_bucket(&self.bucket) {
            err("bucket", why);
        }
        if let Err(why) = check_text(&self.prefix) {
            err("prefix", why);
        }
        if self.suffixes.len() > MAX_SUFFIXES {
            err("suffixes", format!("at most {MAX_SUFFIXES} are allowed"));
        }
        if self.suffixes.iter().any(|suffix| suffix.is_empty() || suffix.len() > 64) {
            err("suffixes", "each has 1 to 64 bytes; leave the list empty to take every key".to_owned());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '@' | '.');
        if self.profile.is_empty() || self.profile.len() > 128 || !self.profile.chars().all(is_name) {
            err("profile", "must be the name of a profile".to_owned());
        }
        match self.output.as_deref().map(Place::parse) {
            None => {}
            Some(Err(why)) => err("output", why),
            Some(Ok(output)) => {
                if own.iter().any(|place| place.holds(&output.bucket, &output.prefix)) {
                    err("output", "lies inside the place where this installation keeps its own objects".to_owned());
                }
                if output.bucket == self.bucket && output.prefix.starts_with(&self.prefix) {
                    let message = "lies inside the rule's own prefix: outputs would start jobs; \
                                   use another bucket or a prefix beside it";
                    err("output", message.to_owned());
                } else if output.holds(&self.bucket, &self.prefix) {
                    let message = "holds the rule's own prefix: what lies there is taken for output and never for an \
                                   upload; use another bucket or a prefix beside it";
                    err("output", message.to_owned());
                }
            }
        }
        if own.iter().any(|place| place.holds(&self.bucket, &self.prefix)) {
            err("prefix", "lies inside the place where this installation keeps its own objects".to_owned());
        }
        if self.settle_seconds > MAX_SETTLE_SECONDS {
            err("settle_seconds", format!("at most {MAX_SETTLE_SECONDS}"));
        }
        if self.poll_seconds.is_some_and(|s| !(1..=86_400).contains(&s)) {
            err("poll_seconds", "1 to 86400".to_owned());
        }
        errors
    }

    /// How long the matching prefix and suffix are, if the rule takes the object.
    fn fit(&self, bucket: &str, key: &str) -> Option<(usize, usize)> {
        if !self.enabled || self.bucket != bucket || !key.starts_with(&self.prefix) {
            return None;
        }
        if self.suffixes.is_empty() {
            return Some((self.prefix.len(), 0));
        }
        let rest = key.as_bytes().get(self.prefix.len()..)?;
        let ends_with = |suffix: &&String| {
            rest.len()
                .checked_sub(suffix.len())
                .and_then(|at| rest.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
        };
        let longest = self.suffixes.iter().filter(ends_with).map(String::len).max()?;
        Some((self.prefix.len(), longest))
    }
}

/// A rule with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRule {
    /// Whose jobs it starts.
    pub tenant: String,
    /// Unique within the tenant.
    pub id: String,
    /// The rule.
    pub rule: Rule,
}

/// All rules of an installation, and the places that never trigger.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<NamedRule>,
    own: Vec<Place>,
}

/// What the rules say of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// This rule takes it.
    Take(&'a NamedRule),
    /// It lies where this installation writes.
    OwnOutput,
    /// No rule takes it.
    NoRule,
}

impl RuleSet {
    /// The set of the given rules. Outputs of all of them, enabled or not, never trigger, nor do the places `own`.
    pub fn new(rules: Vec<NamedRule>, own: &[Place]) -> Self {
        let outputs = rules.iter().filter_map(|named| named.rule.output.as_deref());
        let mut own: Vec<Place> = outputs.filter_map(|text| Place::parse(text).ok()).chain(own.to_vec()).collect();
        own.sort();
        own.dedup();
        RuleSet { rules, own }
    }

    /// Decides about an object: the rule with the longest prefix, then the longest suffix, then the first by tenant
    /// and id. `tenant`: only this tenant's rules.
    pub fn decide(&self, bucket: &str, key: &str, tenant: Option<&str>) -> Verdict<'_> {
        if self.own.iter().any(|place| place.holds(bucket, key)) {
            return Verdict::OwnOutput;
        }
        let fitting = self.rules.iter().filter(|named| tenant.is_none_or(|t| t == named.tenant)).filter_map(|named| {
            let fit = named.rule.fit(bucket, key)?;
            Some((std::cmp::Reverse(fit), &named.tenant, &named.id, named))
        });
        fitting
            .min_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)))
            .map_or(Verdict::NoRule, |(.., named)| Verdict::Take(named))
    }

    /// The rules, in the order of tenant and id as they were given.
    pub fn rules(&self) -> &[NamedRule] {
        &self.rules
    }
}

fn check_bucket(bucket: &str) -> Result<(), String> {
    let is_good = bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bucket.len() <= 255
        && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    is_good.then_some(()).ok_or_else(|| "must be a bucket name: letters, digits, `.`, `_`, `-`".to_owned())
}

fn check_text(prefix: &str) -> Result<(), String> {
    let is_good = prefix.len() <= MAX_TEXT_BYTES && !prefix.contains('\0');
    is_good.then_some(()).ok_or_else(|| format!("at most {MAX_TEXT_BYTES} bytes, no NUL"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(prefix: &str, suffixes: &[&str], output: Option<&str>) -> Rule {
        Rule {
            bucket: "in".into(),
            prefix: prefix.into(),
            suffixes: suffixes.iter().map(|s| (*s).to_owned()).collect(),
            profile: "universal".into(),
            output: output.map(str::to_owned),
            priority: Priority::Normal,
            enabled: true,
            settle_seconds: 0,
            poll_seconds: None,
        }
    }

    fn set(rules: &[(&str, Rule)]) -> RuleSet {
        let named = |(id, rule): &(&str, Rule)| NamedRule { tenant: "t".into(), id: (*id).into(), rule: rule.clone() };
        RuleSet::new(rules.iter().map(named).collect(), &[Place { bucket: "work".into(), prefix: "jobs/".into() }])
    }

    fn taken(set: &RuleSet, bucket: &str, key: &str) -> String {
        match set.decide(bucket, key, None) {
            Verdict::Take(named) => named.id.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_most_specific_rule_takes_it() {
        let off = Rule { enabled: false, ..rule("uploads/off/", &[], None) };
        let rules = set(&[
            ("all", rule("", &[".mp4", ".mkv"], None)),
            ("uploads", rule("uploads/", &[], None)),
            ("uploads-mp4", rule("uploads/", &[".mp4"], Some("s3://out/hls/"))),
            ("uploads-tar", rule("uploads/", &[".gz", ".tar.gz"], None)),
            ("off", off),
        ]);
        assert_eq!(taken(&rules, "in", "film.MP4"), "all");
        assert_eq!(taken(&rules, "in", "film.avi"), "NoRule");
        assert_eq!(taken(&rules, "in", "uploads/film.mp4"), "uploads-mp4");
        assert_eq!(taken(&rules, "in", "uploads/film.avi"), "uploads");
        assert_eq!(taken(&rules, "in", "uploads/off/film.avi"), "uploads");
        assert_eq!(taken(&rules, "elsewhere", "uploads/film.mp4"), "NoRule");
        assert_eq!(taken(&rules, "out", "hls/film.mp4"), "OwnOutput");
        assert_eq!(taken(&rules, "work", "jobs/1/part.mp4"), "OwnOutput");
        assert_eq!(rules.decide("in", "film.mp4", Some("other")), Verdict::NoRule);
    }

    #[test]
    fn a_rule_that_could_feed_itself_is_refused() {
        let own = [Place { bucket: "in".into(), prefix: "jobs/".into() }];
        let fields = |rule: Rule| rule.validate(&own).into_iter().map(|e| e.field).collect::<Vec<_>>();
        assert!(fields(rule("uploads/", &[".mp4"], Some("s3://in/published/"))).is_empty());
        assert!(fields(rule("", &[], Some("s3://out/"))).is_empty());
        assert_eq!(fields(rule("", &[".mp4"], Some("s3://in/published/"))), ["output"]);
        assert_eq!(fields(rule("up", &[], Some("s3://in/uploads/hls/"))), ["output"]);
        assert_eq!(fields(rule("a/b/", &[], Some("s3://in/a/"))), ["output"]);
        assert_eq!(fields(rule("a/", &[], Some("s3://in/"))), ["output"]);
        assert_eq!(fields(rule("jobs/x/", &[], None)), ["prefix"]);
        assert_eq!(fields(rule("a/", &[], Some("s3://in/jobs/out/"))), ["output"]);
        for output in ["/local", "s3://in", "s3://out/hls", "s3://../x/", "s3:///x/", "https://out/x/"] {
            assert_eq!(fields(rule("a/", &[], Some(output))), ["output"], "{output}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let bad = Rule {
            bucket: "../x".into(),
            suffixes: vec![String::new()],
            profile: "a b".into(),
            settle_seconds: u32::MAX,
            poll_seconds: Some(0),
            ..rule("", &[], None)
        };
        let fields: Vec<_> = bad.validate(&[]).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["bucket", "suffixes", "profile", "settle_seconds", "poll_seconds"]);
    }

    proptest! {
        #[test]
        fn what_a_valid_rule_writes_never_comes_back(
            prefix in "[ab/]{0,4}", output in "[ab]{0,2}(/[ab]{1,2}){0,2}", name in "[ab/.]{1,6}", bucket in "in|out",
        ) {
            let output = if output.is_empty() { String::new() } else { format!("{output}/") };
            let location = format!("s3://{bucket}/{output}");
            let candidate = rule(&prefix, &[], Some(&location));
            prop_assume!(candidate.validate(&[]).is_empty());
            let rules = set(&[("r", candidate)]);
            prop_assert_eq!(rules.decide(&bucket, &format!("{output}{name}"), None), Verdict::OwnOutput);
            // and the rule is not dead: some key of its prefix is taken
            let key = format!("{prefix}zz");
            prop_assert!(matches!(rules.decide("in", &key, None), Verdict::Take(_)));
        }
    }
}
