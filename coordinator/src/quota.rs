//! The quota of open jobs, which bounds a tenant's queue whatever way its jobs come in.

use crate::directory::Tenants;
use splitreel_backend::store::JobFilter;
use splitreel_backend::{JobStore, StoreError};
use splitreel_core::job::JobState;

const OPEN: [JobState; 3] = [JobState::Probing, JobState::Planning, JobState::Running];

/// The tenant's quota, if its open jobs have reached it and none of them has this key. Two concurrent checks may both
/// pass: the quota bounds queues, it does not count money.
///
/// # Errors
/// When a store fails.
pub(crate) async fn exceeded(
    store: &dyn JobStore,
    tenants: &Tenants,
    tenant: &str,
    key: Option<&str>,
) -> Result<Option<u32>, StoreError> {
    let Some(max) = tenants.current(tenant).await?.max_open_jobs else { return Ok(None) };
    let filter = JobFilter {
        states: OPEN.to_vec(),
        tenant: Some(tenant.to_owned()),
        limit: max as usize,
        ..JobFilter::default()
    };
    let open = store.jobs(filter).await?;
    let is_repetition = key.is_some_and(|key| open.iter().any(|j| j.request.idempotency_key == key));
    Ok((open.len() >= max as usize && !is_repetition).then_some(max))
}
