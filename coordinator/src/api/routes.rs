//! The table of routes: who may use what. The router admits by it, the OpenAPI document is completed by it, and a
//! test walks it; a route that is not in it admits nobody.

use axum::http::Method;
use splitreel_client::types::Scope;

/// Whose things a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What the caller's tenant has, or gets: nothing of another tenant can be named.
    Own,
    /// One thing of a tenant: those of other tenants look as if they did not exist.
    Thing,
    /// The installation, over all tenants.
    Installation,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; a signature in the path may say more.
    Public,
    /// Whoever has a valid token.
    AnyToken,
    /// Whoever has a token with the scope (or an administrator).
    Scoped(Scope, Reach),
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Method; HEAD goes with GET.
    pub method: Verb,
    /// Path as the router matches it.
    pub path: &'static str,
    /// Who may.
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

/// Whether requests to a path may take as long as they move bytes: those of uploads, which watch themselves.
pub(crate) fn may_take_long(path: &str) -> bool {
    path == "/v1/uploads" || path.starts_with("/v1/uploads/")
}

const fn route(method: Verb, path: &'static str, access: Access) -> Route {
    Route { method, path, access }
}

const READ_OWN: Access = Access::Scoped(Scope::JobsRead, Reach::Own);
const READ_THING: Access = Access::Scoped(Scope::JobsRead, Reach::Thing);
const WRITE_THING: Access = Access::Scoped(Scope::JobsWrite, Reach::Thing);
const WORK: Access = Access::Scoped(Scope::Work, Reach::Installation);
const ADMIN: Access = Access::Scoped(Scope::Admin, Reach::Installation);

/// Every route of the API itself.
pub const ROUTES: &[Route] = &[
    route(Verb::Get, "/", Access::Public),
    route(Verb::Get, "/openapi.json", Access::Public),
    route(Verb::Get, "/docs", Access::Public),
    route(Verb::Get, "/docs/page.js", Access::Public),
    route(Verb::Get, "/play/{grant}/{*path}", Access::Public),
    route(Verb::Get, "/v1/me", Access::AnyToken),
    route(Verb::Get, "/v1/jobs", READ_OWN),
    route(Verb::Post, "/v1/jobs", Access::Scoped(Scope::JobsWrite, Reach::Own)),
    route(Verb::Get, "/v1/jobs/{id}", READ_THING),
    route(Verb::Post, "/v1/jobs/{id}/cancel", WRITE_THING),
    route(Verb::Post, "/v1/jobs/{id}/pause", WRITE_THING),
    route(Verb::Post, "/v1/jobs/{id}/resume", WRITE_THING),
    route(Verb::Post, "/v1/jobs/{id}/retry", WRITE_THING),
    route(Verb::Get, "/v1/jobs/{id}/tasks", READ_THING),
    route(Verb::Get, "/v1/jobs/{id}/events", READ_THING),
    route(Verb::Get, "/v1/jobs/{id}/events/stream", READ_THING),
    route(Verb::Get, "/v1/jobs/{id}/events/ws", READ_THING),
    route(Verb::Get, "/v1/jobs/{id}/plan", READ_THING),
    route(Verb::Get, "/v1/jobs/{id}/report", READ_THING),
    route(Verb::Get, "/v1/jobs/{id}/files", READ_THING),
    route(Verb::Get, "/v1/jobs/{id}/files/{*path}", READ_THING),
    route(Verb::Post, "/v1/jobs/{id}/playback", READ_THING),
    route(Verb::Get, "/v1/events", READ_OWN),
    route(Verb::Get, "/v1/events/stream", READ_OWN),
    route(Verb::Get, "/v1/events/ws", READ_OWN),
    route(Verb::Post, "/v1/quote", READ_OWN),
    route(Verb::Get, "/v1/profiles", READ_OWN),
    route(Verb::Get, "/v1/profiles/{name}", READ_THING),
    route(Verb::Put, "/v1/profiles/{name}", Access::Scoped(Scope::ProfilesWrite, Reach::Own)),
    route(Verb::Delete, "/v1/profiles/{name}", Access::Scoped(Scope::ProfilesWrite, Reach::Thing)),
    route(Verb::Get, "/v1/tokens", Access::Scoped(Scope::TokensWrite, Reach::Own)),
    route(Verb::Post, "/v1/tokens", Access::Scoped(Scope::TokensWrite, Reach::Own)),
    route(Verb::Get, "/v1/tokens/{id}", Access::Scoped(Scope::TokensWrite, Reach::Thing)),
    route(Verb::Delete, "/v1/tokens/{id}", Access::Scoped(Scope::TokensWrite, Reach::Thing)),
    route(Verb::Get, "/v1/tenants", ADMIN),
    route(Verb::Get, "/v1/tenants/{tenant}", ADMIN),
    route(Verb::Put, "/v1/tenants/{tenant}", ADMIN),
    route(Verb::Delete, "/v1/tenants/{tenant}", ADMIN),
    route(Verb::Get, "/v1/workers", WORK),
    route(Verb::Post, "/v1/workers/{worker}/drain", ADMIN),
    route(Verb::Get, "/v1/autoscale", WORK),
    route(Verb::Post, "/v1/work/presence", WORK),
    route(Verb::Post, "/v1/work/claim", WORK),
    route(Verb::Post, "/v1/work/{job}/{task}/{lease}/renew", WORK),
    route(Verb::Post, "/v1/work/{job}/{task}/{lease}/complete", WORK),
    route(Verb::Post, "/v1/work/{job}/{task}/{lease}/fail", WORK),
    route(Verb::Post, "/v1/work/{job}/{task}/{lease}/objects", WORK),
    route(Verb::Post, "/v1/work/{job}/{task}/{lease}/reads", WORK),
];
