//! Receives webhooks: checks the signature over the raw body first, then reads the event, and takes each one once.
//!
//! ```text
//! WEBHOOK_SECRET=whsec_… cargo run -p splitreel --example webhook_receiver -- 127.0.0.1:8080
//! ```

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use standardwebhooks::Webhook;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

struct Receiver {
    /// The signing key from the answer that created the endpoint.
    key: Webhook,
    /// Ids of events seen so far. A service with more than one process keeps them in its database.
    seen: Mutex<BTreeSet<String>>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let secret = std::env::var("WEBHOOK_SECRET").context("WEBHOOK_SECRET is not set")?;
    let key = Webhook::new(&secret).context("WEBHOOK_SECRET is not a key of the form whsec_…")?;
    let receiver = Arc::new(Receiver { key, seen: Mutex::default() });
    let router = Router::new().route("/hook", post(receive)).with_state(receiver);
    let listener = tokio::net::TcpListener::bind(&address).await.with_context(|| address.clone())?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

/// Answers quickly: any answer but 2xx, and none within 15 seconds, makes the sender try again.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // The signature covers id, time stamp and the bytes as sent. `verify` also refuses time stamps off by 5 minutes.
    if receiver.key.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let is_new = receiver.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    if !is_new {
        return StatusCode::OK;
    }
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(event) => {
            let text = |pointer| event.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
            println!("{id} {} {}", text("/type"), text("/data/job"));
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}
