//! Profiles: built-in ones, and those of a tenant, in versions that are never changed once saved.

use super::Api;
use super::body::{Body, Named, Params, invalid, mistake};
use super::caller::Authenticated;
use super::etag::{etag, expected_version};
use super::problem::ApiError;
use super::submit::profile_mistakes;
use crate::documents::{all_records, put_document};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use splitreel_backend::StoreError;
use splitreel_backend::records::{Expect, Record, RecordKey};
use splitreel_client::problem::Code;
use splitreel_client::schema;
use splitreel_client::types::{ProfileList, ProfileView};
use splitreel_core::profile::Profile;
use utoipa::IntoParams;

const PROFILE_KIND: &str = "profile";
/// Versions of a profile that are kept; jobs hold a copy of what they were made with.
const KEPT_VERSIONS: usize = 50;

/// One record holds all versions, so that saving one is one conditional write.
#[derive(Debug, Serialize, Deserialize)]
struct ProfileDocument {
    versions: Vec<SavedVersion>,
    /// Deleted: its numbers go on should it come back.
    #[serde(default)]
    is_deleted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedVersion {
    version: u32,
    saved_ms: i64,
    profile: Profile,
}

impl ProfileDocument {
    fn read(record: &Record) -> Result<Self, StoreError> {
        serde_json::from_value(record.doc.clone())
            .map_err(|e| StoreError::Corrupt { what: format!("profile {}: {e}", record.key.id) })
    }

    fn find(&self, version: Option<u32>) -> Option<&SavedVersion> {
        if self.is_deleted {
            return None;
        }
        match version {
            None => self.versions.last(),
            Some(version) => self.versions.iter().find(|v| v.version == version),
        }
    }
}

fn view(saved: &SavedVersion) -> ProfileView {
    ProfileView {
        name: saved.profile.name.clone(),
        version: saved.version,
        is_built_in: false,
        saved_ms: Some(saved.saved_ms),
        profile: saved.profile.clone(),
    }
}

fn built_in(name: &str) -> Option<ProfileView> {
    let profile = Profile::built_in(name)?;
    Some(ProfileView { name: profile.name.clone(), version: 0, is_built_in: true, saved_ms: None, profile })
}

fn key(tenant: &str, name: &str) -> RecordKey {
    RecordKey { kind: PROFILE_KIND.into(), tenant: tenant.to_owned(), id: name.to_owned() }
}

impl Api {
    /// A profile that a tenant may use.
    pub(crate) async fn profile_by_name(
        &self,
        tenant: &str,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<ProfileView>, StoreError> {
        Ok(self.profile_with_tag(tenant, name, version).await?.map(|(profile, _)| profile))
    }

    async fn profile_with_tag(
        &self,
        tenant: &str,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<(ProfileView, i64)>, StoreError> {
        if let Some(profile) = built_in(name) {
            return Ok(version.is_none_or(|v| v == 0).then_some((profile, 0)));
        }
        if name.is_empty() || name.len() > 100 {
            return Ok(None);
        }
        let Some(record) = self.inner.records.get(&key(tenant, name)).await? else { return Ok(None) };
        Ok(ProfileDocument::read(&record)?.find(version).map(|saved| (view(saved), record.version)))
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// A version; the newest when absent.
    version: Option<u32>,
}

/// The built-in profiles and the tenant's own, the newest version of each.
#[utoipa::path(get, path = "/v1/profiles", tag = "profiles", responses((status = 200, body = ProfileList)))]
pub(crate) async fn list_profiles(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
) -> Result<Json<ProfileList>, ApiError> {
    let mut profiles: Vec<ProfileView> = Profile::BUILT_IN.iter().filter_map(|name| built_in(name)).collect();
    for record in all_records(api.inner.records.as_ref(), PROFILE_KIND, Some(&caller.tenant)).await? {
        profiles.extend(ProfileDocument::read(&record)?.find(None).map(view));
    }
    Ok(Json(ProfileList { profiles }))
}

/// A profile.
#[utoipa::path(get, path = "/v1/profiles/{name}", tag = "profiles",
    params(("name" = String, Path, description = "Its name."), Which), responses((status = 200, body = ProfileView)))]
pub(crate) async fn get_profile(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Named(name): Named<String>,
    Params(which): Params<Which>,
) -> Result<impl IntoResponse, ApiError> {
    let found = api.profile_with_tag(&caller.tenant, &name, which.version).await?;
    let (profile, version) = found.ok_or_else(|| ApiError::not_found("profile"))?;
    Ok(([(header::ETAG, etag(version))], Json(profile)))
}

/// Saves a profile: a new one with If-None-Match: *, a new version with If-Match and the ETag of the one before. Every
/// mistake is told at once.
#[utoipa::path(put, path = "/v1/profiles/{name}", tag = "profiles", request_body = schema::Profile,
    params(("name" = String, Path, description = "Its name: letters, digits, - and _."),
           ("If-Match" = Option<String>, Header, description = "The ETag of the version that is replaced."),
           ("If-None-Match" = Option<String>, Header, description = "*: there is none yet.")),
    responses((status = 200, description = "A new version.", body = ProfileView),
              (status = 201, description = "A new profile.", body = ProfileView)))]
pub(crate) async fn put_profile(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Named(name): Named<String>,
    headers: HeaderMap,
    Body(profile): Body<Profile>,
) -> Result<Response, ApiError> {
    if Profile::BUILT_IN.contains(&name.as_str()) {
        return Err(ApiError::new(Code::ReadOnly, "It came with the program: save a copy under another name."));
    }
    let mut mistakes = profile_mistakes("", profile.validate());
    if profile.name != name {
        mistakes.push(mistake("/name", "it is not the name in the path", "use the same name in both"));
    }
    if name.len() > 100 {
        mistakes.push(mistake("/name", "it is too long", "use at most 100 characters"));
    }
    if !mistakes.is_empty() {
        return Err(invalid(mistakes));
    }
    let condition = expected_version(&headers)?;
    let key = key(&caller.tenant, &name);
    let record = api.inner.records.get(&key).await?;
    let mut document = match &record {
        Some(record) => ProfileDocument::read(record)?,
        None => ProfileDocument { versions: Vec::new(), is_deleted: false },
    };
    let live = record.as_ref().filter(|_| !document.is_deleted).map(|r| r.version);
    match (condition, live) {
        (Some(Expect::Version(meant)), Some(found)) if meant == found => {}
        (Some(Expect::Version(_)), _) => return Err(ApiError::new(Code::Changed, "")),
        (Some(_), Some(_)) => return Err(ApiError::new(Code::Exists, "")),
        (None, Some(_)) => return Err(ApiError::new(Code::PreconditionRequired, "")),
        (Some(_) | None, None) => {}
    }
    let saved = SavedVersion {
        version: document.versions.last().map_or(0, |v| v.version).saturating_add(1),
        saved_ms: api.now(),
        profile,
    };
    document.is_deleted = false;
    document.versions.push(saved.clone());
    let surplus = document.versions.len().saturating_sub(KEPT_VERSIONS);
    document.versions.drain(..surplus);
    let expect = record.map_or(Expect::Absent, |r| Expect::Version(r.version));
    let written = put_document(api.inner.records.as_ref(), &key, expect, &document, None, api.now()).await?;
    let version = written.map_err(|_| ApiError::new(Code::Changed, ""))?;
    let status = if live.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, [(header::ETAG, etag(version))], Json(view(&saved))).into_response())
}

/// Deletes a profile. Jobs that were made with it keep their copy.
#[utoipa::path(delete, path = "/v1/profiles/{name}", tag = "profiles",
    params(("name" = String, Path, description = "Its name."),
           ("If-Match" = Option<String>, Header, description = "The ETag of the version that is meant.")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete_profile(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    if Profile::BUILT_IN.contains(&name.as_str()) {
        return Err(ApiError::new(Code::ReadOnly, "It came with the program."));
    }
    let missing = || ApiError::not_found("profile");
    if name.len() > 100 {
        return Err(missing());
    }
    let condition = expected_version(&headers)?;
    let key = key(&caller.tenant, &name);
    let record = api.inner.records.get(&key).await?.ok_or_else(missing)?;
    let mut document = ProfileDocument::read(&record)?;
    if document.is_deleted {
        return Err(missing());
    }
    match condition {
        None => return Err(ApiError::new(Code::PreconditionRequired, "")),
        Some(Expect::Version(meant)) if meant == record.version => {}
        Some(_) => return Err(ApiError::new(Code::Changed, "")),
    }
    document.is_deleted = true;
    let written =
        put_document(api.inner.records.as_ref(), &key, Expect::Version(record.version), &document, None, api.now())
            .await?;
    written.map_err(|_| ApiError::new(Code::Changed, ""))?;
    Ok(StatusCode::NO_CONTENT)
}
