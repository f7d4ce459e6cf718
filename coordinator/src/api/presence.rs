//! The route of control streams.

use super::Api;
use super::body::Body;
use super::caller::Authenticated;
use super::problem::{ApiError, invalid};
use crate::fleet::{self, ControlStream};
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use splitreel_client::routes as paths;
use splitreel_client::types::{Control, Presence};
use std::convert::Infallible;

/// Announces a worker. The answer is its control stream, open while the worker runs: it carries commands that cannot
/// wait, for example a request to drain when the worker's protocol is outdated. When the stream breaks, the worker's leases are shortened to 2 seconds.
#[utoipa::path(post, path = paths::WORK_PRESENCE, tag = "work", request_body = Presence,
    responses((status = 200, description = "A stream of control messages without end.",
               content_type = "text/event-stream", body = Control)))]
pub(crate) async fn hold_presence(
    State(api): State<Api>,
    _caller: Authenticated,
    Body(hello): Body<Presence>,
) -> Result<Response, ApiError> {
    let mistakes = fleet::check(&hello);
    if !mistakes.is_empty() {
        return Err(invalid(mistakes));
    }
    let stream = ControlStream::open(&api.inner.fleet, &api.inner.feed, hello).await?;
    let events = futures::stream::unfold(stream, |mut stream| async move {
        let control = stream.next().await?;
        let event = SseEvent::default().event("control").json_data(&control).unwrap_or_default();
        Some((Ok::<_, Infallible>(event), stream))
    });
    Ok(([("x-accel-buffering", "no")], Sse::new(events)).into_response())
}
