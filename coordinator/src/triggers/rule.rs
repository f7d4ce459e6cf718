//! Rules: which uploads start jobs, for whom and how. Pure: mistakes, choice and the guard against triggering oneself.

use serde::Serialize;
use splitreel_client::types::{Rule, RuleFit};

/// Most suffixes of a rule.
const MAX_SUFFIXES: usize = 64;
const MAX_TEXT_BYTES: usize = 1024;
/// Longest time that an upload is watched before it is taken, seconds.
pub const MAX_SETTLE_SECONDS: u32 = 24 * 3600;

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

/// Every mistake of a rule, in the order of its members. `own`: places that this deployment writes to itrule.
pub fn validate(rule: &Rule, own: &[Place]) -> Vec<RuleError> {
    let mut errors = Vec::new();
    let mut err = |field, message: String| errors.push(RuleError { field, message });
    if let Err(why) = check_bucket(&rule.bucket) {
        err("bucket", why);
    }
    if let Err(why) = check_text(&rule.prefix) {
        err("prefix", why);
    }
    if rule.suffixes.len() > MAX_SUFFIXES {
        err("suffixes", format!("at most {MAX_SUFFIXES} are allowed"));
    }
    if rule.suffixes.iter().any(|suffix| suffix.is_empty() || suffix.len() > 64) {
        err("suffixes", "each has 1 to 64 bytes; leave the list empty to take every key".to_owned());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '@' | '.');
    if rule.profile.is_empty() || rule.profile.len() > 128 || !rule.profile.chars().all(is_name) {
        err("profile", "must be the name of a profile".to_owned());
    }
    match rule.output.as_deref().map(Place::parse) {
        None => {}
        Some(Err(why)) => err("output", why),
        Some(Ok(output)) => {
            if own.iter().any(|place| place.holds(&output.bucket, &output.prefix)) {
                err("output", "lies inside the place where this deployment keeps its own objects".to_owned());
            }
            if output.bucket == rule.bucket && output.prefix.starts_with(&rule.prefix) {
                let message = "lies inside the rule's own prefix: outputs would start jobs; \
                                   use another bucket or a prefix beside it";
                err("output", message.to_owned());
            } else if output.holds(&rule.bucket, &rule.prefix) {
                let message = "holds the rule's own prefix: what lies there counts as output and never as an \
                                   upload; use another bucket or a prefix beside it";
                err("output", message.to_owned());
            }
        }
    }
    if own.iter().any(|place| place.holds(&rule.bucket, &rule.prefix)) {
        err("prefix", "lies inside the place where this deployment keeps its own objects".to_owned());
    }
    if rule.settle_seconds > MAX_SETTLE_SECONDS {
        err("settle_seconds", format!("at most {MAX_SETTLE_SECONDS}"));
    }
    if rule.poll_seconds.is_some_and(|s| !(1..=86_400).contains(&s)) {
        err("poll_seconds", "1 to 86400".to_owned());
    }
    errors
}

/// How long the matching prefix and suffix are, or why the rule does not take the object.
fn fit(rule: &Rule, bucket: &str, key: &str) -> Result<(usize, usize), RuleFit> {
    if !rule.enabled {
        return Err(RuleFit::Disabled);
    }
    if rule.bucket != bucket {
        return Err(RuleFit::Bucket);
    }
    let rest = key.strip_prefix(&rule.prefix).ok_or(RuleFit::Prefix)?.as_bytes();
    if rule.suffixes.is_empty() {
        return Ok((rule.prefix.len(), 0));
    }
    let ends_with = |suffix: &&String| {
        rest.len()
            .checked_sub(suffix.len())
            .and_then(|at| rest.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
    };
    let longest = rule.suffixes.iter().filter(ends_with).map(String::len).max().ok_or(RuleFit::Suffix)?;
    Ok((rule.prefix.len(), longest))
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

/// All rules of a deployment, and the places that never trigger.
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
    /// It lies where this deployment writes.
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
            let fit = fit(&named.rule, bucket, key).ok()?;
            Some((std::cmp::Reverse(fit), &named.tenant, &named.id, named))
        });
        fitting
            .min_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)))
            .map_or(Verdict::NoRule, |(.., named)| Verdict::Take(named))
    }

    /// What each rule says of an object by itself, in the order of [`RuleSet::rules`].
    pub fn explain<'a>(&'a self, bucket: &'a str, key: &'a str) -> impl Iterator<Item = (&'a NamedRule, RuleFit)> {
        let of = move |named: &NamedRule| fit(&named.rule, bucket, key).err().unwrap_or(RuleFit::Fits);
        self.rules.iter().map(move |named| (named, of(named)))
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
    use splitreel_core::fair::Priority;

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
    fn each_rule_tells_why_it_does_not_take_an_object() {
        let off = Rule { enabled: false, ..rule("", &[], None) };
        let elsewhere = Rule { bucket: "other".into(), ..rule("", &[], None) };
        let rules = set(&[
            ("a", rule("up/", &[".mp4"], None)),
            ("b", rule("up/", &[".mkv"], None)),
            ("c", rule("down/", &[], None)),
            ("d", off),
            ("e", elsewhere),
        ]);
        let fits: Vec<_> = rules.explain("in", "up/film.MP4").map(|(named, fit)| (named.id.as_str(), fit)).collect();
        let expected = [RuleFit::Fits, RuleFit::Suffix, RuleFit::Prefix, RuleFit::Disabled, RuleFit::Bucket];
        assert_eq!(fits, ["a", "b", "c", "d", "e"].into_iter().zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn a_rule_that_could_feed_itself_is_refused() {
        let own = [Place { bucket: "in".into(), prefix: "jobs/".into() }];
        let fields = |rule: Rule| validate(&rule, &own).into_iter().map(|e| e.field).collect::<Vec<_>>();
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
        let fields: Vec<_> = validate(&bad, &[]).into_iter().map(|e| e.field).collect();
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
            prop_assume!(validate(&candidate, &[]).is_empty());
            let rules = set(&[("r", candidate)]);
            prop_assert_eq!(rules.decide(&bucket, &format!("{output}{name}"), None), Verdict::OwnOutput);
            // and the rule is not dead: some key of its prefix is taken
            let key = format!("{prefix}zz");
            prop_assert!(matches!(rules.decide("in", &key, None), Verdict::Take(_)));
        }
    }
}
