//! The ops port: liveness, readiness, start-up, version and metrics of one process. It has no authentication and
//! changes nothing: it belongs on an address that only the operator reaches.

use crate::checks::Checks;
use crate::exposition::Exposition;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Port when none is configured.
pub const DEFAULT_PORT: u16 = 9600;
/// How often observations are moved into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long answers may go on after the shutdown.
const LINGER: Duration = Duration::from_secs(1);
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Which program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Name of the role, for example `worker`.
    pub role: &'static str,
    /// Version of the program.
    pub version: &'static str,
}

/// How far the life of a process has come. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    is_started: Arc<AtomicBool>,
    is_draining: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Start-up is over: migrations are through, connections were made once.
    pub fn started(&self) {
        self.is_started.store(true, Ordering::Release);
    }

    /// The process takes no new work. It stays alive but is not ready any more.
    pub fn draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    fn is_started(&self) -> bool {
        self.is_started.load(Ordering::Acquire)
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }
}

/// What the ops port shows.
#[derive(Clone, Debug)]
pub struct Ops {
    /// Which program.
    pub version: Version,
    /// How far it is.
    pub lifecycle: Lifecycle,
    /// What it needs to be ready.
    pub checks: Arc<Checks>,
    /// What it has recorded.
    pub exposition: Exposition,
}

/// Why the ops port is not served.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The address cannot be listened on.
    #[error("cannot listen for health checks and metrics on {addr}")]
    Bind {
        /// Which address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Serving ended by itself.
    #[error("health checks and metrics are not served any more")]
    Serve(#[source] std::io::Error),
}

/// The routes `/livez`, `/healthz` (an alias of it), `/readyz`, `/startupz`, `/version` and `/metrics`.
///
/// 200 or 503; health answers are JSON: `{"status":"ok"|"failed", …}`, for `/readyz` with one line per check.
pub fn router(ops: Ops) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/startupz", get(startup))
        .route("/version", get(version))
        .route("/metrics", get(metrics_text))
        .with_state(ops)
}

/// Listens on an address and serves [`router`] until `shutdown`.
pub async fn serve_ops(addr: SocketAddr, ops: Ops, shutdown: CancellationToken) -> Result<(), OpsError> {
    let listener = TcpListener::bind(addr).await.map_err(|source| OpsError::Bind { addr, source })?;
    serve_ops_on(listener, ops, shutdown).await
}

/// [`serve_ops`] on a socket that listens already.
pub async fn serve_ops_on(listener: TcpListener, ops: Ops, shutdown: CancellationToken) -> Result<(), OpsError> {
    let exposition = ops.exposition.clone();
    let upkeep = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            exposition.upkeep();
        }
    };
    let serving = axum::serve(listener, router(ops)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    // A connection that somebody keeps open must not keep the process.
    let lingered = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        served = serving.into_future() => served.map_err(OpsError::Serve),
        () = lingered => Ok(()),
        () = upkeep => Ok(()),
    }
}

fn health(is_ok: bool, mut body: serde_json::Value) -> Response {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("status".into(), if is_ok { "ok" } else { "failed" }.into());
    }
    let status = if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // A cached answer is a lie about now.
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn live() -> Response {
    health(true, serde_json::json!({}))
}

async fn startup(State(ops): State<Ops>) -> Response {
    health(ops.lifecycle.is_started(), serde_json::json!({}))
}

async fn ready(State(ops): State<Ops>) -> Response {
    let (is_started, is_draining) = (ops.lifecycle.is_started(), ops.lifecycle.is_draining());
    let report = ops.checks.report().await;
    let is_ok = report.is_ok && is_started && !is_draining;
    let body = serde_json::json!({
        "is_started": is_started,
        "is_draining": is_draining,
        "checks": report.checks,
    });
    health(is_ok, body)
}

async fn version(State(ops): State<Ops>) -> Json<Version> {
    Json(ops.version)
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], ops.exposition.render()).into_response()
}
