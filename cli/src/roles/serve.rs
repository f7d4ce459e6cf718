//! `splitreel serve`: all roles in one process, on SQLite, an in-process doorbell and a local directory, with the API of
//! a cluster. Its state lies beside that of `run` and shares nothing with it.

use super::http_service::{HttpService, Seams, Settings};
use super::keys::{Keys, token_file};
use super::lifecycle::{API_PORT, Process, Services, bind, local};
use super::outputs::LocalOutputs;
use super::settings::{Api, Folders, Listen};
use crate::config::Config;
use crate::engine::{self, Terms};
use crate::exit::{Exit, Problem};
use crate::state::{State, process_name};
use clap::Args;
use splitreel_backend::Records;
use splitreel_backend::grants::file_locator;
use splitreel_backend_embedded::{LocalGrants, LocalUploads};
use splitreel_coordinator::Coordinator;
use splitreel_coordinator::accept::Target;
use splitreel_coordinator::triggers::{FolderWatch, WatchConfig, WatchError};
use splitreel_core::fair::Priority;
use splitreel_core::task::RetryPolicy;
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    api: Api,
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
    let file = &config.file;
    let listen = args.listen.or(&file.listen);
    let folders = args.folders.or(&file.folders).validate()?;
    let api = args.api.or(&file.api);
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
    let (seams, uploads) = seams(&engine.coordinator, &backends, &root, &folders)?;
    let settings = Settings {
        keys,
        public_url: listen.public_url,
        cors_origins: api.cors_origins.unwrap_or_default(),
        webhook_networks: api.webhook_networks.unwrap_or_default(),
        local_slots: u32::try_from(slots).unwrap_or(u32::MAX),
        oldest_protocol: None,
        follows_slots: false,
        own: Vec::new(),
        reserved_sources: vec![format!("{}/", file_locator(&uploads))],
    };
    let http = HttpService::new(seams, settings)?;
    let mut services = Services::new(process.stop.clone());
    if let Some(mut watch) = watch(&folders, &http, &backends).await? {
        services.spawn_until("watch", process.drain.clone(), |stop| async move { watch.run(&stop).await });
    }
    let database = backends.records.clone();
    let checks = Checks::default().with("database", move || {
        let records = database.clone();
        async move { Records::due(&records, "", 0, 1).await.map(|_| ()) }
    });
    process.serve_ops(checks).await?;
    http.start(&mut services);

    let url = format!("http://{address}");
    let address_file = AddressFile::write(&root, &url)?;
    process.ready(format_args!("serving at {url}"));
    greet(&url, &token_file(&root), folders.watch.as_deref());
    http.serve(listener, &process).await;
    drop(address_file);
    process.drain.cancel();
    engine.drained().await;
    engine.stop().await;
    services.end().await;
    backends.records.close().await;
    Ok(Exit::Done)
}

/// The seams on one machine, and the folder of uploads.
fn seams(
    core: &Coordinator,
    backends: &engine::Backends,
    root: &Path,
    folders: &Folders,
) -> Result<(Seams, PathBuf), Problem> {
    let upload_folder = root.join("uploads");
    let uploads = LocalUploads::new(&upload_folder)
        .map_err(|e| Problem::because(format!("{} cannot be used", upload_folder.display()), &e))?;
    let named = folders.source_folders.iter().flatten().chain(&folders.watch).map(PathBuf::as_path);
    let readable: Vec<&Path> = named.chain([upload_folder.as_path()]).collect();
    let grants = LocalGrants::new(&readable).map_err(|e| Problem::usage(format!("a folder cannot be read: {e}")))?;
    let seams = Seams {
        core: core.clone(),
        store: Arc::clone(&backends.store),
        records: Arc::new(backends.records.clone()),
        blobs: Arc::clone(&backends.blobs) as _,
        grants: Arc::new(grants),
        uploads: Arc::new(uploads),
        outputs: Arc::new(LocalOutputs { blobs: Arc::clone(&backends.blobs) as _ }),
        world: backends.world.clone(),
    };
    Ok((seams, upload_folder.canonicalize().unwrap_or(upload_folder)))
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
    folders: &Folders,
    http: &HttpService,
    backends: &engine::Backends,
) -> Result<Option<FolderWatch>, Problem> {
    let Some(folder) = folders.watch.clone() else { return Ok(None) };
    let profile = folders.watch_profile.clone().unwrap_or_else(|| "universal".to_owned());
    http.intake
        .profiles()
        .resolve(TENANT, &profile)
        .await
        .map_err(|e| Problem { exit: Exit::Usage, ..Problem::because("--watch-profile", &e) })?;
    let output = match &folders.watch_output {
        Some(dir) => {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            Some(file_locator(&dir))
        }
        None => None,
    };
    let target = Target { tenant: TENANT.to_owned(), profile, output, priority: Priority::default() };
    let config = WatchConfig {
        suffixes: folders.watch_suffixes.clone().unwrap_or_default(),
        ..WatchConfig::new(folder, target)
    };
    let records: Arc<dyn Records> = Arc::new(backends.records.clone());
    let watch = FolderWatch::new(config, records, http.intake.clone(), backends.world.clone());
    let usage = |e: WatchError| Problem { exit: Exit::Usage, ..Problem::because("--watch", &e) };
    watch.map(Some).map_err(usage)
}
