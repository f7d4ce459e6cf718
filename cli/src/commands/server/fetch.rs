//! `splitreel fetch`.

use super::{client, refused};
use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::roles::settings::Upstream;
use clap::Args;
use futures::StreamExt;
use sha2::{Digest, Sha256};
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
    let output = &args.output;
    if output.exists() {
        return Err(Problem::usage(format!("{}: already exists: choose another path with -o", output.display())));
    }
    let files = client.files(args.job).await.map_err(|e| refused(&format!("job {}", args.job), &e))?.files;
    let draft = output.with_file_name(format!(
        "{}.fetching",
        output.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    ));
    let failed = |path: &Path, e: std::io::Error| Problem::failed(format!("{}: {e}", path.display()));
    match std::fs::remove_dir_all(&draft) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&draft, e)),
        _ => {}
    }
    std::fs::create_dir_all(&draft).map_err(|e| failed(&draft, e))?;
    let fetches = files.iter().map(|file| {
        let (client, draft) = (&client, &draft);
        async move {
            let to = place(draft, &file.path)?;
            if let Some(dir) = to.parent() {
                tokio::fs::create_dir_all(dir).await.map_err(|e| failed(dir, e))?;
            }
            let response = client.file(args.job, &file.path, None).await.map_err(|e| refused(&file.path, &e))?;
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
        }
    });
    let mut fetching = futures::stream::iter(fetches).buffer_unordered(PARALLEL);
    while let Some(fetched) = fetching.next().await {
        fetched?;
    }
    std::fs::rename(&draft, output).map_err(|e| failed(output, e))?;
    say!("{}: {} files", output.display(), files.len());
    Ok(Exit::Done)
}

/// The server's word for where a file goes is not taken for more than a name below the directory.
fn place(dir: &Path, path: &str) -> Result<PathBuf, Problem> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']);
    if path.split('/').all(is_plain) {
        Ok(dir.join(path))
    } else {
        Err(Problem::failed(format!("{path:?}: the server names a file that would lie elsewhere")))
    }
}
