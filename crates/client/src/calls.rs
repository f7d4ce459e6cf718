//! One method per route.

use crate::answers::{Made, Versioned};
use crate::client::{Call, Client, ClientError};
use crate::routes;
use crate::types::{
    Autoscale, Claim, Claimed, Complete, EventList, Fail, FileList, JobCreate, JobList, JobView, ObjectGrants,
    ObjectsToRead, ObjectsToStore, PlaybackCreate, PlaybackGrant, ProfileList, ProfileView, Quote, QuoteRequest, Renew,
    Renewed, TaskList, Tenant, TenantList, TenantSettings, TokenCreate, TokenCreated, TokenList, TokenView, WhoAmI,
    WorkerList,
};
use reqwest::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use splitreel_core::job::JobState;
use splitreel_core::plan::Plan;
use splitreel_core::profile::Profile;
use splitreel_core::{JobId, LeaseId, TaskId};
use std::time::Duration;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobQuery {
    /// Only these states; empty = all.
    pub states: Vec<JobState>,
    /// Of another tenant than one's own (administrators; `*` = of all).
    pub tenant: Option<String>,
    /// Jobs per page.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

impl Client {
    fn get(&self, route: &str, values: &[&str]) -> Result<Call, ClientError> {
        self.call(Method::GET, route, values)
    }

    fn post(&self, route: &str, values: &[&str]) -> Result<Call, ClientError> {
        self.call(Method::POST, route, values)
    }

    async fn versioned<T: DeserializeOwned>(&self, call: Call) -> Result<Versioned<T>, ClientError> {
        let response = self.send(call).await?;
        let etag = response.headers().get(ETAG).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        Ok(Versioned { value: read(response).await?, etag })
    }

    /// `POST /v1/jobs`. Without a key one is made, so that retries within this call make one job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_job(&self, job: &JobCreate, key: Option<&str>) -> Result<Made<JobView>, ClientError> {
        let made;
        let key = match key {
            Some(key) => key,
            None => {
                made = uuid::Uuid::new_v4().to_string();
                &made
            }
        };
        let call = self.post(routes::JOBS, &[])?.json(job)?.header(IDEMPOTENCY_KEY, key)?.repeatable();
        let response = self.send(call).await?;
        let is_new = response.status() == StatusCode::CREATED;
        Ok(Made { value: read(response).await?, is_new })
    }

    /// `GET /v1/jobs`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn jobs(&self, query: &JobQuery) -> Result<JobList, ClientError> {
        let states = query.states.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(",");
        let call = self
            .get(routes::JOBS, &[])?
            .maybe("state", Some(states).filter(|s| !s.is_empty()))
            .maybe("tenant", query.tenant.as_ref())
            .maybe("limit", query.limit)
            .maybe("cursor", query.cursor.as_ref());
        self.answer(call).await
    }

    /// `GET /v1/jobs/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.answer(self.get(routes::JOB, &[&id.to_string()])?).await
    }

    async fn act(&self, id: JobId, route: &str) -> Result<JobView, ClientError> {
        self.answer(self.post(route, &[&id.to_string()])?.repeatable()).await
    }

    /// `POST /v1/jobs/{id}/cancel`. Cancelling a cancelled job is fine.
    ///
    /// # Errors
    /// [`ClientError`]; `job_ended` when it ended otherwise.
    pub async fn cancel_job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.act(id, routes::JOB_CANCEL).await
    }

    /// `POST /v1/jobs/{id}/pause`.
    ///
    /// # Errors
    /// [`ClientError`]; `job_ended`.
    pub async fn pause_job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.act(id, routes::JOB_PAUSE).await
    }

    /// `POST /v1/jobs/{id}/resume`.
    ///
    /// # Errors
    /// [`ClientError`]; `job_ended`.
    pub async fn resume_job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.act(id, routes::JOB_RESUME).await
    }

    /// `POST /v1/jobs/{id}/retry`. Not repeated by itself: a second retry may meet a job that failed again.
    ///
    /// # Errors
    /// [`ClientError`]; `nothing_to_retry`.
    pub async fn retry_job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.answer(self.post(routes::JOB_RETRY, &[&id.to_string()])?).await
    }

    /// `GET /v1/jobs/{id}/tasks`: those with a number above `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tasks(&self, id: JobId, after: Option<u32>, limit: Option<usize>) -> Result<TaskList, ClientError> {
        let call = self.get(routes::JOB_TASKS, &[&id.to_string()])?.maybe("after", after).maybe("limit", limit);
        self.answer(call).await
    }

    /// `GET /v1/jobs/{id}/events`, or `GET /v1/events` for all of the tenant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn event_page(&self, job: Option<JobId>, after: i64, limit: usize) -> Result<EventList, ClientError> {
        let id = job.map(|id| id.to_string());
        let call = match &id {
            Some(id) => self.get(routes::JOB_EVENTS, &[id])?,
            None => self.get(routes::EVENTS, &[])?,
        };
        self.answer(call.query("after", after).query("limit", limit)).await
    }

    /// `GET /v1/jobs/{id}/plan`.
    ///
    /// # Errors
    /// [`ClientError`]; `not_planned`.
    pub async fn plan(&self, id: JobId) -> Result<Plan, ClientError> {
        self.answer(self.get(routes::JOB_PLAN, &[&id.to_string()])?).await
    }

    /// `GET /v1/jobs/{id}/report`: the report of the published presentation.
    ///
    /// # Errors
    /// [`ClientError`]; `not_published`.
    pub async fn report(&self, id: JobId) -> Result<serde_json::Value, ClientError> {
        self.answer(self.get(routes::JOB_REPORT, &[&id.to_string()])?).await
    }

    /// `GET /v1/jobs/{id}/files`.
    ///
    /// # Errors
    /// [`ClientError`]; `not_published`.
    pub async fn files(&self, id: JobId) -> Result<FileList, ClientError> {
        self.answer(self.get(routes::JOB_FILES, &[&id.to_string()])?).await
    }

    /// `GET /v1/jobs/{id}/files/{path}`: a whole file, or a range of it. Where storage serves it itself, its signed
    /// link is followed without the token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn file(&self, id: JobId, path: &str, range: Option<&str>) -> Result<Response, ClientError> {
        let id = id.to_string();
        let mut call = self.get(routes::JOB_FILE, &[&id, path])?;
        if let Some(range) = range {
            call = call.header(RANGE, range)?;
        }
        let response = self.send(call).await?;
        let place = response.headers().get(reqwest::header::LOCATION).and_then(|v| v.to_str().ok());
        match place {
            Some(place) if response.status().is_redirection() => self.signed_get(place, range).await,
            _ => Ok(response),
        }
    }

    async fn signed_get(&self, url: &str, range: Option<&str>) -> Result<Response, ClientError> {
        let what = "a signed link".to_owned();
        let bare = bare_http(self.config().connect_timeout)?;
        let mut request = bare.get(url);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let response = request
            .send()
            .await
            .map_err(|source| ClientError::NoAnswer { what: what.clone(), source: Box::new(source.without_url()) })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(ClientError::Unreadable { what, why: format!("status {status}") }),
        }
    }

    /// `POST /v1/jobs/{id}/playback`: a link that plays without a token.
    ///
    /// # Errors
    /// [`ClientError`]; `not_published`.
    pub async fn playback(&self, id: JobId, ttl: Option<Duration>) -> Result<PlaybackGrant, ClientError> {
        let ttl_seconds = ttl.map(|t| u32::try_from(t.as_secs()).unwrap_or(u32::MAX));
        let call = self.post(routes::JOB_PLAYBACK, &[&id.to_string()])?.repeatable();
        self.answer(call.json(&PlaybackCreate { ttl_seconds })?).await
    }

    /// `POST /v1/quote`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn quote(&self, request: &QuoteRequest) -> Result<Quote, ClientError> {
        self.answer(self.post(routes::QUOTE, &[])?.json(request)?.repeatable()).await
    }

    /// `GET /v1/profiles`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn profiles(&self) -> Result<ProfileList, ClientError> {
        self.answer(self.get(routes::PROFILES, &[])?).await
    }

    /// `GET /v1/profiles/{name}`; the newest version when none is named.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn profile(&self, name: &str, version: Option<u32>) -> Result<Versioned<ProfileView>, ClientError> {
        self.versioned(self.get(routes::PROFILE, &[name])?.maybe("version", version)).await
    }

    /// `PUT /v1/profiles/{name}`: a new version. `etag`: of the version that it replaces; `None`: there is none yet.
    ///
    /// # Errors
    /// [`ClientError`]; `invalid` with every mistake, `changed`, `read_only`.
    pub async fn save_profile(
        &self,
        profile: &Profile,
        etag: Option<&str>,
    ) -> Result<Versioned<ProfileView>, ClientError> {
        let call = self.call(Method::PUT, routes::PROFILE, &[&profile.name])?.json(profile)?.once();
        let call = match etag {
            Some(etag) => call.header(IF_MATCH, etag)?,
            None => call.header(IF_NONE_MATCH, "*")?,
        };
        self.versioned(call).await
    }

    /// `DELETE /v1/profiles/{name}`.
    ///
    /// # Errors
    /// [`ClientError`]; `changed`, `read_only`.
    pub async fn delete_profile(&self, name: &str, etag: &str) -> Result<(), ClientError> {
        self.done(self.call(Method::DELETE, routes::PROFILE, &[name])?.header(IF_MATCH, etag)?.once()).await
    }

    /// `GET /v1/me`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn me(&self) -> Result<WhoAmI, ClientError> {
        self.answer(self.get(routes::ME, &[])?).await
    }

    /// `POST /v1/tokens`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, token: &TokenCreate) -> Result<TokenCreated, ClientError> {
        self.answer(self.post(routes::TOKENS, &[])?.json(token)?).await
    }

    /// `GET /v1/tokens`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tokens(&self, after: Option<&str>) -> Result<TokenList, ClientError> {
        self.answer(self.get(routes::TOKENS, &[])?.maybe("after", after)).await
    }

    /// `GET /v1/tokens/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn token(&self, id: &str) -> Result<TokenView, ClientError> {
        self.answer(self.get(routes::TOKEN, &[id])?).await
    }

    /// `DELETE /v1/tokens/{id}`: it ends now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        self.done(self.call(Method::DELETE, routes::TOKEN, &[id])?).await
    }

    /// `GET /v1/tenants`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tenants(&self) -> Result<TenantList, ClientError> {
        self.answer(self.get(routes::TENANTS, &[])?).await
    }

    /// `GET /v1/tenants/{tenant}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tenant(&self, tenant: &str) -> Result<Versioned<Tenant>, ClientError> {
        self.versioned(self.get(routes::TENANT, &[tenant])?).await
    }

    /// `PUT /v1/tenants/{tenant}`; with an ETag only if nobody changed it meanwhile.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn save_tenant(
        &self,
        tenant: &str,
        settings: &TenantSettings,
        etag: Option<&str>,
    ) -> Result<Versioned<Tenant>, ClientError> {
        let mut call = self.call(Method::PUT, routes::TENANT, &[tenant])?.json(settings)?;
        if let Some(etag) = etag {
            call = call.header(IF_MATCH, etag)?.once();
        }
        self.versioned(call).await
    }

    /// `DELETE /v1/tenants/{tenant}`: back to the defaults.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reset_tenant(&self, tenant: &str) -> Result<(), ClientError> {
        self.done(self.call(Method::DELETE, routes::TENANT, &[tenant])?).await
    }

    /// `GET /v1/workers`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn workers(&self) -> Result<WorkerList, ClientError> {
        self.answer(self.get(routes::WORKERS, &[])?).await
    }

    /// `POST /v1/workers/{worker}/drain`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn drain_worker(&self, worker: &str) -> Result<(), ClientError> {
        self.done(self.post(routes::WORKER_DRAIN, &[worker])?.repeatable()).await
    }

    /// `GET /v1/autoscale`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn autoscale(&self, slots_per_worker: Option<u32>) -> Result<Autoscale, ClientError> {
        self.answer(self.get(routes::AUTOSCALE, &[])?.maybe("slots_per_worker", slots_per_worker)).await
    }
}

/// Calls of workers: one try each, under the given time-out; who calls repeats them as long as its lease lasts.
impl Client {
    /// `POST /v1/work/claim`.
    ///
    /// # Errors
    /// [`ClientError`]; `not_claimable`, `cancelled`.
    pub async fn claim(&self, claim: &Claim, timeout: Duration) -> Result<Claimed, ClientError> {
        self.answer(self.post(routes::WORK_CLAIM, &[])?.json(claim)?.timeout(timeout)).await
    }

    fn lease(&self, task: TaskId, lease: LeaseId, route: &str) -> Result<Call, ClientError> {
        let (job, number, lease) = (task.job.to_string(), task.number.to_string(), lease.to_string());
        self.post(route, &[&job, &number, &lease])
    }

    /// `POST /v1/work/{job}/{task}/{lease}/renew`.
    ///
    /// # Errors
    /// [`ClientError`]; `lease_lost`, `cancelled`.
    pub async fn renew(
        &self,
        task: TaskId,
        lease: LeaseId,
        renew: &Renew,
        timeout: Duration,
    ) -> Result<Renewed, ClientError> {
        self.answer(self.lease(task, lease, routes::WORK_RENEW)?.json(renew)?.timeout(timeout)).await
    }

    /// `POST /v1/work/{job}/{task}/{lease}/complete`.
    ///
    /// # Errors
    /// [`ClientError`]; `lease_lost`, `cancelled`.
    pub async fn complete(
        &self,
        task: TaskId,
        lease: LeaseId,
        complete: &Complete,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        self.done(self.lease(task, lease, routes::WORK_COMPLETE)?.json(complete)?.timeout(timeout)).await
    }

    /// `POST /v1/work/{job}/{task}/{lease}/fail`.
    ///
    /// # Errors
    /// [`ClientError`]; `lease_lost`, `cancelled`.
    pub async fn fail(&self, task: TaskId, lease: LeaseId, fail: &Fail, timeout: Duration) -> Result<(), ClientError> {
        self.done(self.lease(task, lease, routes::WORK_FAIL)?.json(fail)?.timeout(timeout)).await
    }

    /// `POST /v1/work/{job}/{task}/{lease}/objects`: rights to store.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn objects(
        &self,
        task: TaskId,
        lease: LeaseId,
        objects: &ObjectsToStore,
    ) -> Result<ObjectGrants, ClientError> {
        self.answer(self.lease(task, lease, routes::WORK_OBJECTS)?.json(objects)?.repeatable()).await
    }

    /// `POST /v1/work/{job}/{task}/{lease}/reads`: rights to read objects of the job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reads(
        &self,
        task: TaskId,
        lease: LeaseId,
        objects: &ObjectsToRead,
    ) -> Result<ObjectGrants, ClientError> {
        self.answer(self.lease(task, lease, routes::WORK_READS)?.json(objects)?.repeatable()).await
    }
}

/// A client for signed links: it carries no token and follows no redirect.
pub(crate) fn bare_http(connect_timeout: Duration) -> Result<reqwest::Client, ClientError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| ClientError::Config { why: e.to_string() })
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let what = response.url().path().to_owned();
    let bytes =
        response.bytes().await.map_err(|e| ClientError::NoAnswer { what: what.clone(), source: Box::new(e) })?;
    serde_json::from_slice(&bytes).map_err(|e| ClientError::Unreadable { what, why: e.to_string() })
}
