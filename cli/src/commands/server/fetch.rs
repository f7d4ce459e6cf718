//! `splitreel fetch`.

use super::{client, refused};
use crate::commands::target::locked;
use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::roles::settings::Upstream;
use clap::Args;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use splitreel_assembler::output::{OutputLock, Permit, PlaceError, Staging, Whose, clear_leftovers, place};
use splitreel_client::Client;
use splitreel_client::types::FileView;
use splitreel_core::JobId;
use splitreel_core::plan::hex;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// Files fetched at the same time.
const PARALLEL: usize = 8;

/// Arguments of `fetch`.
#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    /// Job id.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Directory to make.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    upstream: Upstream,
}

/// `fetch`: the files of a published presentation, checked against their hashes, as one directory that appears whole.
pub async fn fetch(config: &Config, args: FetchArgs) -> Result<Exit, Problem> {
    let client = client(config, args.upstream)?;
    let output = std::path::absolute(&args.output).map_err(|e| failed(&args.output, e))?;
    let exists = || Problem::usage(format!("{}: already exists: choose another path with -o", args.output.display()));
    if output.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let files = client.files(args.job).await.map_err(|e| refused(&format!("job {}", args.job), &e))?.files;
    std::fs::create_dir_all(output.parent().unwrap_or(Path::new("/"))).map_err(|e| failed(&output, e))?;
    let lock = OutputLock::acquire(&output, &args.job.to_string()).map_err(|e| locked(&output, e))?;
    clear_leftovers(&lock).map_err(|e| failed(&output, e))?;
    let permit = Permit { job: args.job.to_string(), base: base_of(&files).to_owned(), whose: Whose::Job };
    let draft = Staging::make(&lock, &permit.job, &permit.base).map_err(|e| failed(&output, e))?;
    let fetched = fetch_all(&client, args.job, &files, &draft.folder()).await;
    let placed = fetched.and_then(|()| {
        place(&draft, &lock, &permit).map_err(|e| match e {
            PlaceError::Holds(_) => exists(),
            PlaceError::Io(e) => failed(&output, e),
        })
    });
    if placed.is_err() {
        // What stays is deleted by the next run.
        let _ = draft.remove();
    }
    placed?;
    say!("{}: {} files", args.output.display(), files.len());
    Ok(Exit::Done)
}

/// Base name of the single files.
fn base_of(files: &[FileView]) -> &str {
    let bases = files.iter().filter_map(|f| match f.path.strip_suffix(".mp4") {
        Some(base) if !base.contains('/') => Some(base),
        _ => f.path.split_once(".wp.chunks/").map(|(base, _)| base),
    });
    bases.into_iter().next().unwrap_or_default()
}

async fn fetch_all(client: &Client, job: JobId, files: &[FileView], draft: &Path) -> Result<(), Problem> {
    let fetches = files.iter().map(|file| async move {
        let to = place_of(draft, &file.path)?;
        if let Some(dir) = to.parent() {
            tokio::fs::create_dir_all(dir).await.map_err(|e| failed(dir, e))?;
        }
        let response = client.file(job, &file.path, None).await.map_err(|e| refused(&file.path, &e))?;
        let mut body = response.bytes_stream();
        let mut out = tokio::fs::File::create(&to).await.map_err(|e| failed(&to, e))?;
        let mut hash = Sha256::new();
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|e| Problem::because(&file.path, &e))?;
            hash.update(&bytes);
            out.write_all(&bytes).await.map_err(|e| failed(&to, e))?;
        }
        out.flush().await.map_err(|e| failed(&to, e))?;
        if hex(&hash.finalize()) != file.sha256 {
            return Err(Problem::failed(format!("{}: arrived damaged: fetch again", file.path)));
        }
        Ok(())
    });
    let mut fetching = futures::stream::iter(fetches).buffer_unordered(PARALLEL);
    while let Some(fetched) = fetching.next().await {
        fetched?;
    }
    Ok(())
}

fn failed(path: &Path, e: std::io::Error) -> Problem {
    Problem::failed(format!("{}: {e}", path.display()))
}

/// The server's word for where a file goes is not taken for more than a name below the directory.
fn place_of(dir: &Path, path: &str) -> Result<PathBuf, Problem> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']);
    if path.split('/').all(is_plain) {
        Ok(dir.join(path))
    } else {
        Err(Problem::failed(format!("{path:?}: the server names a file that would lie elsewhere")))
    }
}
