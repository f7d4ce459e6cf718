//! Rules: which uploads start jobs.

use serde::{Deserialize, Serialize};
use splitreel_core::fair::Priority;
use utoipa::ToSchema;

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
    pub priority: Priority,
    /// Rules that are not enabled take nothing.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Minimum age in seconds: an upload is taken once its size and version were stable for this long; 0 = at once.
    #[serde(default)]
    pub settle_seconds: u32,
    /// Lists the prefix this often, for stores that send no events; absent = never.
    #[serde(default)]
    pub poll_seconds: Option<u32>,
}

fn yes() -> bool {
    true
}

/// A stored rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredRule {
    /// Its name.
    pub id: String,
    /// Whose jobs it starts.
    pub tenant: String,
    /// Raised by each change: the ETag.
    pub version: i64,
    /// The rule.
    pub rule: Rule,
}

/// A page of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleList {
    /// By tenant and id.
    pub rules: Vec<StoredRule>,
    /// Pass it as `after` to get the next page; absent at the end.
    pub next: Option<String>,
}

/// An object to ask the rules about; it need not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTest {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// What a rule says of an object by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleFit {
    /// It would take it.
    Fits,
    /// It is not enabled.
    Disabled,
    /// It is about another bucket.
    Bucket,
    /// The key begins otherwise.
    Prefix,
    /// The key ends otherwise.
    Suffix,
}

/// What the rules say of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleVerdict {
    /// The rule that takes it: of all rules that fit, the one with the longest prefix, then the longest suffix.
    pub taken_by: Option<RuleSaying>,
    /// It lies where this installation writes: no rule is asked.
    pub is_own_output: bool,
    /// What each rule says by itself.
    pub rules: Vec<RuleSaying>,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleSaying {
    /// Its name.
    pub id: String,
    /// Whose jobs it starts.
    pub tenant: String,
    /// What it says.
    pub fit: RuleFit,
}
