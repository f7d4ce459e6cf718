//! The table of routes: who may use what. The router admits by it, the OpenAPI document is completed by it, and a
//! test walks it; a route without a row admits no request.

use axum::http::Method;
use splitreel_client::routes as paths;
use splitreel_client::types::Scope;

/// The reach of a route: whose things it reads and changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What the caller's tenant has, or gets: nothing of another tenant can be named.
    Own,
    /// One thing of a tenant: those of other tenants look as if they did not exist.
    Thing,
    /// The deployment, over all tenants.
    Deployment,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every request; the handler may check a signature in the path.
    Public,
    /// Every valid token.
    AnyToken,
    /// Every token with the scope, and administrators.
    Scoped(Scope, Reach),
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Method; HEAD goes with GET.
    pub method: Verb,
    /// Path as the router matches it.
    pub path: &'static str,
    /// Access rule.
    pub access: Access,
}

/// Methods that routes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// GET (and HEAD).
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Verb {
    /// The word in a request; HEAD is looked up as GET. `None`: no route has it.
    pub fn of(method: &Method) -> Option<Verb> {
        match method.as_str() {
            "GET" | "HEAD" => Some(Verb::Get),
            "POST" => Some(Verb::Post),
            "PUT" => Some(Verb::Put),
            "PATCH" => Some(Verb::Patch),
            "DELETE" => Some(Verb::Delete),
            _ => None,
        }
    }

    /// The word in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }
}

/// Whether requests to a path have no timeout: uploads have an idle timeout of their own.
pub(crate) fn may_take_long(path: &str) -> bool {
    path.strip_prefix(paths::UPLOADS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

const fn route(method: Verb, path: &'static str, access: Access) -> Route {
    Route { method, path, access }
}

const READ_OWN: Access = Access::Scoped(Scope::JobsRead, Reach::Own);
const READ_THING: Access = Access::Scoped(Scope::JobsRead, Reach::Thing);
const WRITE_THING: Access = Access::Scoped(Scope::JobsWrite, Reach::Thing);
const WORK: Access = Access::Scoped(Scope::Work, Reach::Deployment);
const ADMIN: Access = Access::Scoped(Scope::Admin, Reach::Deployment);

/// Every route of the API itself.
pub const ROUTES: &[Route] = &[
    route(Verb::Get, paths::ROOT, Access::Public),
    route(Verb::Get, paths::OPENAPI, Access::Public),
    route(Verb::Get, paths::DOCS, Access::Public),
    route(Verb::Get, paths::DOCS_SCRIPT, Access::Public),
    route(Verb::Get, paths::PLAY, Access::Public),
    route(Verb::Get, paths::ME, Access::AnyToken),
    route(Verb::Get, paths::JOBS, READ_OWN),
    route(Verb::Post, paths::JOBS, Access::Scoped(Scope::JobsWrite, Reach::Own)),
    route(Verb::Get, paths::JOB, READ_THING),
    route(Verb::Post, paths::JOB_CANCEL, WRITE_THING),
    route(Verb::Post, paths::JOB_PAUSE, WRITE_THING),
    route(Verb::Post, paths::JOB_RESUME, WRITE_THING),
    route(Verb::Post, paths::JOB_RETRY, WRITE_THING),
    route(Verb::Get, paths::JOB_TASKS, READ_THING),
    route(Verb::Get, paths::JOB_EVENTS, READ_THING),
    route(Verb::Get, paths::JOB_EVENTS_STREAM, READ_THING),
    route(Verb::Get, paths::JOB_EVENTS_SOCKET, READ_THING),
    route(Verb::Get, paths::JOB_PLAN, READ_THING),
    route(Verb::Get, paths::JOB_REPORT, READ_THING),
    route(Verb::Get, paths::JOB_FILES, READ_THING),
    route(Verb::Get, paths::JOB_FILE, READ_THING),
    route(Verb::Post, paths::JOB_PLAYBACK, READ_THING),
    route(Verb::Get, paths::EVENTS, READ_OWN),
    route(Verb::Get, paths::EVENTS_STREAM, READ_OWN),
    route(Verb::Get, paths::EVENTS_SOCKET, READ_OWN),
    route(Verb::Post, paths::QUOTE, READ_OWN),
    route(Verb::Get, paths::PROFILES, READ_OWN),
    route(Verb::Get, paths::PROFILE, READ_THING),
    route(Verb::Put, paths::PROFILE, Access::Scoped(Scope::ProfilesWrite, Reach::Own)),
    route(Verb::Delete, paths::PROFILE, Access::Scoped(Scope::ProfilesWrite, Reach::Thing)),
    route(Verb::Get, paths::TOKENS, Access::Scoped(Scope::TokensWrite, Reach::Own)),
    route(Verb::Post, paths::TOKENS, Access::Scoped(Scope::TokensWrite, Reach::Own)),
    route(Verb::Get, paths::TOKEN, Access::Scoped(Scope::TokensWrite, Reach::Thing)),
    route(Verb::Delete, paths::TOKEN, Access::Scoped(Scope::TokensWrite, Reach::Thing)),
    route(Verb::Get, paths::TENANTS, ADMIN),
    route(Verb::Get, paths::TENANT, ADMIN),
    route(Verb::Put, paths::TENANT, ADMIN),
    route(Verb::Delete, paths::TENANT, ADMIN),
    route(Verb::Get, paths::WORKERS, WORK),
    route(Verb::Post, paths::WORKER_DRAIN, ADMIN),
    route(Verb::Get, paths::AUTOSCALE, WORK),
    route(Verb::Get, paths::WORK_OPENAPI, WORK),
    route(Verb::Post, paths::WORK_PRESENCE, WORK),
    route(Verb::Post, paths::WORK_CLAIM, WORK),
    route(Verb::Post, paths::WORK_RENEW, WORK),
    route(Verb::Post, paths::WORK_COMPLETE, WORK),
    route(Verb::Post, paths::WORK_FAIL, WORK),
    route(Verb::Post, paths::WORK_OBJECTS, WORK),
    route(Verb::Post, paths::WORK_READS, WORK),
];
