//! The route that estimates what a job will cost.

use super::Api;
use super::body::Body;
use super::caller::Authenticated;
use super::problem::{ApiError, invalid};
use crate::quote;
use axum::Json;
use axum::extract::State;
use splitreel_client::problem::Mistake;
use splitreel_client::routes as paths;
use splitreel_client::types::{Quote, QuoteRequest};

const MAX_SECONDS: f64 = 1_000_000.0;

/// Mistakes in the numbers of a request.
fn mistakes(wanted: &QuoteRequest, height: u32, frame_rate: f64) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if !(16..=8192).contains(&height) {
        mistakes.push(Mistake::new("/height", "out of range", "use 16 to 8192"));
    }
    if !(frame_rate.is_finite() && (1.0..=1000.0).contains(&frame_rate)) {
        mistakes.push(Mistake::new("/frame_rate", "out of range", "use 1 to 1000"));
    }
    if wanted.duration_seconds.is_some_and(|d| !(d.is_finite() && d > 0.0 && d <= MAX_SECONDS)) {
        mistakes.push(Mistake::new("/duration_seconds", "out of range", "use more than 0, up to 1000000"));
    }
    if wanted.source.is_none() && wanted.duration_seconds.is_none() {
        mistakes.push(Mistake::new("/source", "no source and no duration", "give source or duration_seconds"));
    }
    mistakes
}

/// Says what a job will cost, within a factor, before it is made. Nothing is read of the source but its size.
#[utoipa::path(post, path = paths::QUOTE, tag = "jobs", request_body = QuoteRequest,
    responses((status = 200, body = Quote)))]
pub(crate) async fn quote(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Body(wanted): Body<QuoteRequest>,
) -> Result<Json<Quote>, ApiError> {
    let (height, frame_rate) = (wanted.height.unwrap_or(1080), wanted.frame_rate.unwrap_or(30.0));
    let mut mistakes = mistakes(&wanted, height, frame_rate);
    let directory = api.directory();
    let profile = directory.profiles.choose(&caller.tenant, wanted.profile.as_ref()).await?;
    let profile = profile.map_err(|errors| mistakes.extend(errors)).ok();
    if let Some(locator) = &wanted.source {
        mistakes.extend(directory.tenants.check_source(&caller.tenant, locator).await?.err());
    }
    let (Some(profile), true) = (profile, mistakes.is_empty()) else { return Err(invalid(mistakes)) };
    let bytes = match &wanted.source {
        Some(locator) => Some(api.inner.accept.pin_named(locator).await.map_err(ApiError::of_source)?.bytes),
        None => None,
    };
    Ok(Json(quote::quote(&profile, bytes, wanted.duration_seconds, height, frame_rate)))
}
