//! What all role processes do alike: telemetry, health endpoint, and the two-stage end. The first SIGTERM or SIGINT
//! asks to drain: no new work is taken, running work may end. After the grace, or with a second signal, it is stopped.

use super::settings::Listen;
use crate::exit::Problem;
use splitreel_telemetry::checks::Checks;
use splitreel_telemetry::labels::Role;
use splitreel_telemetry::ops::{DEFAULT_PORT, Lifecycle, Ops, Version, serve_ops_on};
use splitreel_telemetry::{Exposition, Format, Guard, Logs, Traces};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The port of the API when none is given.
pub const API_PORT: u16 = 8400;
const GRACE: Duration = Duration::from_secs(20);

/// The address when none is given: loopback only.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A running process of a role.
pub struct Process {
    /// Take no new work.
    pub drain: CancellationToken,
    /// Stop now.
    pub stop: CancellationToken,
    lifecycle: Lifecycle,
    exposition: Exposition,
    name: &'static str,
    ops_address: SocketAddr,
    _telemetry: Guard,
}

impl Process {
    /// Turns telemetry on for the roles of this process and listens for signals.
    pub fn begin(name: &'static str, roles: &[Role], listen: &Listen, log_json: bool) -> Result<Self, Problem> {
        let logs = Logs { format: if log_json { Format::Json } else { Format::Pretty }, filter: None };
        let traces = Traces { endpoint: None, service_name: format!("splitreel-{name}") };
        let telemetry = splitreel_telemetry::init(&logs, &traces)
            .map_err(|e| Problem::because("logs and traces cannot be turned on", &e))?;
        let exposition = Exposition::install(roles, env!("CARGO_PKG_VERSION"))
            .map_err(|e| Problem::because("metrics cannot be turned on", &e))?;
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let grace = listen.grace_seconds.map_or(GRACE, Duration::from_secs);
        watch_signals(drain.clone(), stop.clone(), grace)?;
        Ok(Process {
            drain,
            stop,
            lifecycle: Lifecycle::default(),
            exposition,
            name,
            ops_address: listen.ops_listen.unwrap_or(local(DEFAULT_PORT)),
            _telemetry: telemetry,
        })
    }

    /// Serves health and metrics from now on.
    pub async fn serve_ops(&self, checks: Checks) -> Result<(), Problem> {
        let ops = Ops {
            version: Version { role: self.name, version: env!("CARGO_PKG_VERSION") },
            lifecycle: self.lifecycle.clone(),
            checks: Arc::new(checks),
            exposition: self.exposition.clone(),
        };
        let listener = bind(self.ops_address, "--ops-listen").await?;
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_ops_on(listener, ops, stop).await {
                tracing::error!(%error, "ops server stopped");
            }
        });
        let (lifecycle, drain, exposition, stop) =
            (self.lifecycle.clone(), self.drain.clone(), self.exposition.clone(), self.stop.clone());
        tokio::spawn(async move {
            drain.cancelled().await;
            lifecycle.draining();
        });
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(5));
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                exposition.upkeep();
            }
        });
        Ok(())
    }

    /// Reports the role as started, in the log and at `/startupz`.
    pub fn ready(&self, what: std::fmt::Arguments<'_>) {
        self.lifecycle.started();
        tracing::info!(role = self.name, version = env!("CARGO_PKG_VERSION"), "{what}");
    }
}

/// The loops of a process, which end with one signal.
pub struct Services {
    running: JoinSet<()>,
    stop: CancellationToken,
}

impl Services {
    /// None yet; `stop` ends them.
    pub fn new(stop: CancellationToken) -> Self {
        Services { running: JoinSet::new(), stop }
    }

    /// Starts a loop, which gets the stop signal and ends with it.
    pub fn spawn<F>(&mut self, name: &'static str, service: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_until(name, self.stop.clone(), service);
    }

    /// Starts a loop that ends with a signal of its own.
    pub fn spawn_until<F>(
        &mut self,
        name: &'static str,
        stop: CancellationToken,
        service: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let service = service(stop.clone());
        self.running.spawn(async move {
            service.await;
            if !stop.is_cancelled() {
                tracing::error!(service = name, "service ended before the process");
            }
        });
    }

    /// Gives the signal and waits for all of them.
    pub async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "service panicked");
            }
        }
    }
}

/// Listens on an address.
pub async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Problem> {
    TcpListener::bind(address).await.map_err(|e| {
        Problem::usage(format!("{address} cannot be listened on: {e}"))
            .line(format!("give another address with {flag}"))
    })
}

fn watch_signals(drain: CancellationToken, stop: CancellationToken, grace: Duration) -> Result<(), Problem> {
    let listen = |kind| signal(kind).map_err(|e| Problem::because("signals cannot be caught", &e));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = drain.cancelled() => {}
        }
        tracing::info!(grace_seconds = grace.as_secs(), "draining");
        drain.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(grace) => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
    });
    Ok(())
}
