//! `splitreel workers`.

use super::{client, print_json, refused};
use crate::config::Config;
use crate::exit::{Exit, Problem, printable};
use crate::roles::settings::Upstream;
use clap::Args;

/// Arguments of `workers`.
#[derive(Clone, Debug, Args)]
pub struct WorkersArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    upstream: Upstream,
}

/// `workers`.
pub async fn workers(config: &Config, args: WorkersArgs) -> Result<Exit, Problem> {
    let client = client(config, args.upstream)?;
    let workers = client.workers().await.map_err(|e| refused("the workers cannot be listed", &e))?.workers;
    if args.json {
        print_json(&workers);
        return Ok(Exit::Done);
    }
    if workers.is_empty() {
        say!("no workers or assemblers are connected (those of splitreel serve work in its own process)");
        return Ok(Exit::Done);
    }
    let width = workers.iter().map(|w| w.worker.chars().count()).max().unwrap_or(0);
    say!("{:<width$}  {:>5}  {:<9}  {:<8}  labels", "worker", "slots", "state", "version");
    for w in workers {
        let state = match (w.is_live, w.is_draining) {
            (false, _) => "gone",
            (true, true) => "draining",
            (true, false) => "live",
        };
        let labels: Vec<String> = w.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (name, labels) = (printable(&w.worker), labels.join(" "));
        say!("{name:<width$}  {:>5}  {state:<9}  {:<8}  {}", w.slots, printable(&w.version), printable(&labels));
    }
    Ok(Exit::Done)
}
