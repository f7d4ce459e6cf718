//! `splitreel watch`, and the wait of `submit`: prints the events of a job as they come.

use super::{RemoteJobArgs, client, refused};
use crate::commands::watch::without_name;
use crate::config::Config;
use crate::exit::{Exit, Problem, printable};
use splitreel_client::types::{JobProgress, JobView};
use splitreel_client::{Client, ClientError, EventMessage};
use splitreel_core::JobId;
use splitreel_core::event::EventKind;
use splitreel_core::job::JobState;

/// `watch`.
pub async fn watch(config: &Config, args: RemoteJobArgs) -> Result<Exit, Problem> {
    follow(&client(config, args.upstream)?, args.job, None, args.json).await
}

/// Prints the events of a job until it has ended. `name`: name of its source, where its locator has none.
pub(in crate::commands) async fn follow(
    client: &Client,
    id: JobId,
    name: Option<&str>,
    json: bool,
) -> Result<Exit, Problem> {
    let lost = |e: ClientError| refused("the event stream of the server ended", &e);
    let mut events = client.events(Some(id), 0);
    let mut shown = 0;
    loop {
        match events.next().await.map_err(lost)? {
            EventMessage::Progress(progress) if !json => shown = show_progress(&progress, shown),
            EventMessage::Progress(_) => {}
            EventMessage::Event(event) => {
                if json {
                    say!("{}", serde_json::json!(event));
                }
                let ended = match event.what {
                    EventKind::Published => true,
                    EventKind::Failed { .. } | EventKind::Cancelled => {
                        // An old one, when the job was retried since.
                        client.job(id).await.map_err(lost)?.state.is_ended()
                    }
                    _ => false,
                };
                if ended {
                    return Ok(end_of(&client.job(id).await.map_err(lost)?, name, json));
                }
            }
        }
    }
}

/// Prints one line for each tenth of the job. `shown`: tenths printed so far.
fn show_progress(progress: &JobProgress, shown: u32) -> u32 {
    let tenth = (progress.percent / 10.0) as u32;
    if tenth > shown {
        let eta = progress.eta_seconds.map(|s| format!(", {s:.0} s to go")).unwrap_or_default();
        eprintln!("{:.0} %{eta}", progress.percent);
    }
    tenth.max(shown)
}

fn end_of(job: &JobView, name: Option<&str>, json: bool) -> Exit {
    match job.state {
        JobState::Published => {
            if !json {
                say!("{} published", job.id);
            }
            Exit::Done
        }
        JobState::Cancelled => {
            eprintln!("{} cancelled", job.id);
            Exit::Failed
        }
        _ => {
            if let Some(f) = &job.failure {
                let locator = &job.source.locator;
                eprintln!("{}: {}", printable(name.unwrap_or(locator)), printable(without_name(&f.message, locator)));
                if !f.hint.is_empty() {
                    eprintln!("{}", f.hint);
                }
            }
            match job.failure.as_ref().map(|f| f.class) {
                Some(splitreel_core::FailureClass::Source) => Exit::Source,
                _ => Exit::Failed,
            }
        }
    }
}
