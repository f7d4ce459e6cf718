//! `splitreel serve`: all roles in one process, on SQLite, an in-process doorbell and a local directory, with the API of
//! a cluster. Its state lies beside that of `run` and shares nothing with it.

use super::grants::LocalGrants;
use super::http_service::{HttpService, Seams, Settings};
use super::keys::{Keys, token_file};
use super::lifecycle::{API_PORT, Process, bind, local};
use super::outputs::LocalOutputs;
use super::settings::Listen;
use crate::config::Config;
use crate::engine::{self, Terms};
use crate::exit::{Exit, Problem};
use crate::state::{State, process_name};
use clap::Args;
use splitreel_backend::Records;
use splitreel_coordinator::accept::Target;
use splitreel_coordinator::triggers::{FolderWatch, WatchConfig, WatchError};
use splitreel_coordinator::uploads::LocalUploads;
use splitreel_core::fair::Priority;
use splitreel_core::task::RetryPolicy;
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;

/// The tenant of the administrator's token, whose are the jobs of the watch folder.
const TENANT: &str = "default";

/// Arguments of `serve`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    listen: Listen,
    /// Attempts at the same time [default: one per core].
    #[arg(long, env = "SPLITREEL_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// Folder to watch: a file becomes a job once its size and time stop changing.
    #[arg(long, env = "SPLITREEL_WATCH", value_name = "DIR")]
    watch: Option<PathBuf>,
    /// Profile of the watch folder's jobs [default: universal].
    #[arg(long, env = "SPLITREEL_WATCH_PROFILE", value_name = "NAME", requires = "watch")]
    watch_profile: Option<String>,
    /// Suffixes of the files to take, for example .mp4,.mov [default: all files].
    #[arg(long, env = "SPLITREEL_WATCH_SUFFIXES", value_name = "SUFFIX,…", value_delimiter = ',', requires = "watch")]
    watch_suffixes: Vec<String>,
    /// Export the watch folder's presentations to this directory, as FILE.streams [default: serve them only].
    #[arg(long, env = "SPLITREEL_WATCH_OUTPUT", value_name = "DIR", requires = "watch")]
    watch_output: Option<PathBuf>,
    /// Folders whose files jobs may name as their source by path [default: sources are uploaded].
    #[arg(long, env = "SPLITREEL_SOURCE_FOLDERS", value_name = "DIR,…", value_delimiter = ',')]
    source_folders: Vec<PathBuf>,
    /// Networks that webhooks may reach in addition to public addresses, for example 10.1.0.0/16.
    #[arg(long, env = "SPLITREEL_WEBHOOK_NETWORKS", value_name = "CIDR,…", value_delimiter = ',')]
    webhook_networks: Vec<String>,
    /// Origins whose pages may use the API; * = all.
    #[arg(long, env = "SPLITREEL_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
    cors_origins: Vec<String>,
}

/// The state of the server below that of the command line.
fn root(config: &Config) -> PathBuf {
    config.state.join("serve")
}

/// Address and token file of the server that runs on this state, if one does.
pub fn local_server(config: &Config) -> Option<(String, PathBuf)> {
    let root = root(config);
    let address = std::fs::read_to_string(root.join("address")).ok()?;
    Some((address.trim().to_owned(), token_file(&root)))
}

/// A file by which commands on this machine find the server; removed on drop.
struct AddressFile(PathBuf);

impl AddressFile {
    fn write(root: &Path, url: &str) -> Result<Self, Problem> {
        let path = root.join("address");
        let written = std::fs::write(&path, format!("{url}\n"));
        written.map_err(|e| Problem::because(format!("{} cannot be written", path.display()), &e))?;
        Ok(AddressFile(path))
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Locks the state against a second server, which would notify only its own workers.
fn alone(root: &Path) -> Result<File, Problem> {
    let path = root.join("lock");
    let unusable = |e: std::io::Error| Problem::usage(format!("{}: cannot be locked: {e}", path.display()));
    let lock = OpenOptions::new().create(true).write(true).truncate(false).open(&path).map_err(unusable)?;
    lock.try_lock().map_err(|_| {
        Problem::usage(format!("another splitreel serve runs on {}", root.display()))
            .line("stop it, or give this one a state of its own with --state DIR")
    })?;
    Ok(lock)
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: &Config, args: ServeArgs, log_json: bool) -> Result<Exit, Problem> {
    let listen = args.listen.clone().or(&config.file.listen);
    let address = listen.listen.unwrap_or(local(API_PORT));
    let slots = config.workers(args.workers)?;
    let root = root(config);
    std::fs::create_dir_all(&root)
        .map_err(|e| Problem::usage(format!("the state directory {} cannot be used: {e}", root.display())))?;
    let keys = Keys::read_or_make(address, &root)?;
    let _lock = alone(&root)?;
    let process = Process::begin("serve", &[Role::Coordinator, Role::Worker, Role::Assembler], &listen, log_json)?;
    let ffmpeg = engine::detect().await?;
    let listener = bind(address, "--listen").await?;
    let address = listener.local_addr().unwrap_or(address);
    let state = State::open(&root, &process_name())?;
    let backends = engine::open(&state).await?;

    let terms = Terms {
        scope: None,
        slots,
        retry: RetryPolicy::default(),
        drain: process.drain.clone(),
        stop: process.stop.clone(),
    };
    let mut engine = backends.start(&state, &ffmpeg, terms);
    // Progress is read through the API, not from inside.
    engine.seen.close();
    let records: Arc<dyn Records> = Arc::new(backends.records.clone());
    let upload_folder = root.join("uploads");
    let uploads = LocalUploads::new(&upload_folder)
        .map_err(|e| Problem::because(format!("{} cannot be used", upload_folder.display()), &e))?;
    let named = args.source_folders.iter().chain(&args.watch);
    let folders: Vec<&Path> = named.map(PathBuf::as_path).chain([upload_folder.as_path()]).collect();
    let grants = LocalGrants::new(&folders).map_err(|e| Problem::usage(format!("a folder cannot be read: {e}")))?;
    let reserved = upload_folder.canonicalize().unwrap_or(upload_folder);
    let seams = Seams {
        core: engine.coordinator.clone(),
        store: Arc::clone(&backends.store),
        records: Arc::clone(&records),
        blobs: Arc::clone(&backends.blobs),
        grants: Arc::new(grants),
        uploads: Arc::new(uploads),
        outputs: Arc::new(LocalOutputs { blobs: Arc::clone(&backends.blobs) }),
        world: backends.world.clone(),
    };
    let settings = Settings {
        keys,
        public_url: listen.public_url.clone(),
        cors_origins: args.cors_origins.clone(),
        webhook_networks: args.webhook_networks.clone(),
        local_slots: u32::try_from(slots).unwrap_or(u32::MAX),
        oldest_protocol: None,
        follows_slots: false,
        own: Vec::new(),
        reserved_sources: vec![format!("{}/", reserved.display())],
    };
    let http = HttpService::new(seams, settings)?;
    let mut services = JoinSet::new();
    if let Some(mut watch) = watch(&args, &http, &records, &backends).await? {
        let s = process.drain.clone();
        services.spawn(async move { watch.run(&s).await });
    }
    let database = backends.records.clone();
    let checks = Checks::default().with("database", move || {
        let records = database.clone();
        async move { Records::due(&records, "", 0, 1).await.map(|_| ()) }
    });
    process.serve_ops(checks).await?;
    http.start(&mut services, &process.stop);

    let url = format!("http://{address}");
    let address_file = AddressFile::write(&root, &url)?;
    process.ready(format_args!("serving at {url}"));
    greet(&url, &token_file(&root), args.watch.as_deref());
    http.serve(listener, &process).await;
    drop(address_file);
    process.drain.cancel();
    engine.drained().await;
    engine.stop().await;
    process.stop.cancel();
    while services.join_next().await.is_some() {}
    backends.records.close().await;
    Ok(Exit::Done)
}

/// Prints where the server is. A closed standard output is no error of a server.
fn greet(url: &str, token: &Path, watched: Option<&Path>) {
    let mut text = format!("splitreel serves at {url}\n");
    text.push_str(&format!("  token   {} (or what SPLITREEL_ADMIN_TOKEN says)\n", token.display()));
    text.push_str("  try     splitreel submit FILE --wait\n");
    if let Some(folder) = watched {
        text.push_str(&format!("  watches {}\n", folder.display()));
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The watch folder, if there is one, after its settings were judged.
async fn watch(
    args: &ServeArgs,
    http: &HttpService,
    records: &Arc<dyn Records>,
    backends: &engine::Backends,
) -> Result<Option<FolderWatch>, Problem> {
    let Some(folder) = args.watch.clone() else { return Ok(None) };
    let profile = args.watch_profile.clone().unwrap_or_else(|| "universal".to_owned());
    http.intake
        .profiles()
        .resolve(TENANT, &profile)
        .await
        .map_err(|e| Problem { exit: Exit::Usage, ..Problem::because("--watch-profile", &e) })?;
    let output = match &args.watch_output {
        Some(dir) => {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            let unusable = || Problem::usage(format!("--watch-output {}: the name is not UTF-8", dir.display()));
            Some(dir.to_str().ok_or_else(unusable)?.to_owned())
        }
        None => None,
    };
    let target = Target { tenant: TENANT.to_owned(), profile, output, priority: Priority::default() };
    let config = WatchConfig { suffixes: args.watch_suffixes.clone(), ..WatchConfig::new(folder, target) };
    let watch = FolderWatch::new(config, Arc::clone(records), http.intake.clone(), backends.world.clone());
    let usage = |e: WatchError| Problem { exit: Exit::Usage, ..Problem::because("--watch", &e) };
    watch.map(Some).map_err(usage)
}
