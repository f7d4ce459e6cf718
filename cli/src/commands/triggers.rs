//! `splitreel triggers`: the rules by which uploads to buckets become jobs.

use super::server::{client, print_json, refused};
use super::submit::Urgency;
use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::roles::settings::Upstream;
use clap::{Args, Subcommand};
use splitreel_client::types::{Rule, RuleFit, RuleTest, StoredRule};

/// What `triggers` does.
#[derive(Clone, Debug, Subcommand)]
pub enum TriggersCommand {
    /// List the rules.
    List {
        /// Only this tenant's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        upstream: Upstream,
    },
    /// Show a rule as JSON.
    Show(WhichRule),
    /// Add a rule: uploads below PLACE become jobs.
    Add(Box<NewRule>),
    /// Remove a rule; its jobs stay.
    Remove(WhichRule),
    /// Tell which rule would take an object, and why the others would not; the object need not exist.
    Test {
        /// s3://bucket/key.
        #[arg(value_name = "OBJECT")]
        object: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        upstream: Upstream,
    },
}

/// Names a rule.
#[derive(Clone, Debug, Args)]
pub struct WhichRule {
    /// Its id.
    #[arg(value_name = "RULE")]
    id: String,
    /// Whose rule it is [default: the caller's].
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    upstream: Upstream,
}

/// A rule to be added.
#[derive(Clone, Debug, Args)]
pub struct NewRule {
    /// s3://bucket/ or s3://bucket/prefix.
    #[arg(value_name = "PLACE")]
    place: String,
    /// Ends of the keys, for example .mp4,.mov [default: all].
    #[arg(long, value_name = "SUFFIX,…", value_delimiter = ',')]
    suffixes: Vec<String>,
    /// Profile of the jobs.
    #[arg(long, default_value = "universal", value_name = "NAME")]
    profile: String,
    /// Copy presentations below this place, s3://bucket/prefix/ [default: they stay in the work bucket].
    #[arg(long, value_name = "PLACE")]
    output: Option<String>,
    /// How urgent the jobs are among the tenant's.
    #[arg(long, value_enum, default_value_t)]
    priority: Urgency,
    /// Minimum age in seconds: submit once size and version were stable for this long.
    #[arg(long, default_value_t = 0, value_name = "S")]
    settle_seconds: u32,
    /// List the place this often, for stores that send no events [default: never].
    #[arg(long, value_name = "S")]
    poll_seconds: Option<u32>,
    /// Add it without letting it take anything yet.
    #[arg(long)]
    disabled: bool,
    /// Whose jobs it starts [default: the caller's].
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    upstream: Upstream,
}

/// Bucket and the rest of `s3://bucket/rest`.
fn split(place: &str) -> Result<(String, String), Problem> {
    let rest = place.strip_prefix("s3://").filter(|rest| !rest.is_empty());
    let rest = rest.ok_or_else(|| Problem::usage(format!("{place}: give s3://bucket/prefix or s3://bucket/key")))?;
    let (bucket, rest) = rest.split_once('/').unwrap_or((rest, ""));
    Ok((bucket.to_owned(), rest.to_owned()))
}

fn line(stored: &StoredRule) -> String {
    let StoredRule { id, tenant, rule, .. } = stored;
    let mut text = format!("{id}  {tenant:<10} s3://{}/{}", rule.bucket, rule.prefix);
    if !rule.suffixes.is_empty() {
        text.push_str(&format!(" ({})", rule.suffixes.join(", ")));
    }
    text.push_str(&format!(" → {}", rule.profile));
    if let Some(output) = &rule.output {
        text.push_str(&format!(" → {output}"));
    }
    if !rule.enabled {
        text.push_str(", disabled");
    }
    text
}

fn reason(fit: RuleFit) -> &'static str {
    match fit {
        RuleFit::Fits => "fits, but another rule is more specific",
        RuleFit::Disabled => "is disabled",
        RuleFit::Bucket => "is about another bucket",
        RuleFit::Prefix => "the key begins otherwise",
        RuleFit::Suffix => "the key ends otherwise",
    }
}

/// `triggers`.
pub async fn triggers(config: &Config, command: TriggersCommand) -> Result<Exit, Problem> {
    match command {
        TriggersCommand::List { tenant, json, upstream } => {
            let client = client(config, upstream)?;
            let (mut rules, mut after) = (Vec::new(), None);
            loop {
                let page = client.rules(tenant.as_deref(), after.as_deref()).await;
                let page = page.map_err(|e| refused("the rules cannot be listed", &e))?;
                rules.extend(page.rules);
                if page.next.is_none() || page.next == after {
                    break;
                }
                after = page.next;
            }
            if json {
                print_json(&rules);
            } else {
                rules.iter().for_each(|rule| say!("{}", line(rule)));
            }
        }
        TriggersCommand::Show(which) => {
            let client = client(config, which.upstream)?;
            let rule = client.rule(&which.id, which.tenant.as_deref()).await;
            print_json(&rule.map_err(|e| refused(&which.id, &e))?);
        }
        TriggersCommand::Add(new) => {
            let client = client(config, new.upstream)?;
            let (bucket, prefix) = split(&new.place)?;
            let rule = Rule {
                bucket,
                prefix,
                suffixes: new.suffixes,
                profile: new.profile,
                output: new.output,
                priority: new.priority.into(),
                enabled: !new.disabled,
                settle_seconds: new.settle_seconds,
                poll_seconds: new.poll_seconds,
            };
            let made = client.create_rule(&rule, new.tenant.as_deref()).await;
            say!("{}", made.map_err(|e| refused("the rule was not added", &e))?.id);
        }
        TriggersCommand::Remove(which) => {
            let client = client(config, which.upstream)?;
            client.delete_rule(&which.id, which.tenant.as_deref()).await.map_err(|e| refused(&which.id, &e))?;
        }
        TriggersCommand::Test { object, json, upstream } => {
            let client = client(config, upstream)?;
            let (bucket, key) = split(&object)?;
            let verdict = client.test_rules(&RuleTest { bucket, key }).await;
            let verdict = verdict.map_err(|e| refused(&object, &e))?;
            if json {
                print_json(&verdict);
                return Ok(Exit::Done);
            }
            match &verdict.taken_by {
                Some(rule) => say!("{object}: taken by rule {} of tenant {}", rule.id, rule.tenant),
                None if verdict.is_own_output => {
                    say!("{object}: never starts a job, since this installation writes there")
                }
                None => say!("{object}: no rule takes it"),
            }
            for rule in verdict.rules.iter().filter(|rule| verdict.taken_by.as_ref() != Some(*rule)) {
                say!("  {} of {}: {}", rule.id, rule.tenant, reason(rule.fit));
            }
        }
    }
    Ok(Exit::Done)
}
