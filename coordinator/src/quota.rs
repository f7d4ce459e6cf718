//! The quota of open jobs, which bounds a tenant's queue however its jobs are asked for.

use crate::api::tenant_settings;
use splitreel_backend::store::JobFilter;
use splitreel_backend::{JobStore, Records, StoreError};
use splitreel_core::job::JobState;

const OPEN: [JobState; 3] = [JobState::Probing, JobState::Planning, JobState::Running];

/// A tenant's open jobs are as many as `most`, and none of them has this key. Two questions at once may both be told
/// that there is room: the quota bounds queues, it does not count money.
///
/// # Errors
/// When the job store does not answer.
pub(crate) async fn is_used_up(
    store: &dyn JobStore,
    tenant: &str,
    most: Option<u32>,
    key: Option<&str>,
) -> Result<bool, StoreError> {
    let Some(most) = most else { return Ok(false) };
    let filter = JobFilter {
        states: OPEN.to_vec(),
        tenant: Some(tenant.to_owned()),
        limit: most as usize,
        ..JobFilter::default()
    };
    let open = store.jobs(filter).await?;
    let is_repetition = key.is_some_and(|key| open.iter().any(|j| j.request.idempotency_key == key));
    Ok(open.len() >= most as usize && !is_repetition)
}

/// The same by the tenant's settings as they are now.
///
/// # Errors
/// When a store does not answer.
pub(crate) async fn is_used_up_now(
    store: &dyn JobStore,
    records: &dyn Records,
    tenant: &str,
    key: &str,
) -> Result<bool, StoreError> {
    let most = tenant_settings(records, tenant).await?.max_open_jobs;
    is_used_up(store, tenant, most, Some(key)).await
}
