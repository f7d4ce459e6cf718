//! The routes put together, the OpenAPI document completed by the table of routes, and the page that shows it.

use super::routes::{Access, Reach, Route, Verb};
use super::{
    Api, auth, detail, edges, files, jobs, playback, presence, profiles, quote, stream, submit, tenants, tokens, work,
    workers,
};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use splitreel_client::problem::{PROBLEM_JSON, Problem};
use splitreel_client::routes as paths;
use splitreel_client::types::Control;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const PAGE: &str = include_str!("docs.html");
const SCRIPT: &str = include_str!("docs.js");
const SCHEME: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "splitreel",
        description = "Distributed video transcoding: jobs, their tasks, events and files.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    components(schemas(Problem)),
    tags(
        (name = "jobs", description = "Make, see and steer jobs."),
        (name = "events", description = "What happened, and what happens."),
        (name = "files", description = "Published presentations."),
        (name = "profiles", description = "PathParams settings."),
        (name = "tokens", description = "Who may call."),
        (name = "tenants", description = "Weights and quotas."),
        (name = "workers", description = "Who is there to work.")
    )
)]
struct Document;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "splitreel worker protocol",
        description = "The protocol between a coordinator and its workers and assemblers. Internal: both sides are of \
                       one release line, and it changes with the protocol number.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    components(schemas(Problem, Control)),
    tags((name = "work", description = "Claims, leases and signed requests."))
)]
struct WorkDocument;

/// The routes with everything around them: limits, timeouts, problem documents for every failure.
pub fn router(api: &Api) -> Router {
    router_with(api, OpenApiRouter::new())
}

/// The same with more routes, whose access rules must be among `more_rules` of the API.
pub fn router_with(api: &Api, more: OpenApiRouter) -> Router {
    edges::wrap(api, assemble(api, more).0)
}

/// The OpenAPI document of [`router`], as text with a line feed at its end.
pub fn openapi(api: &Api) -> String {
    assemble(api, OpenApiRouter::new()).1
}

/// The OpenAPI document of the protocol between coordinator and workers, as text with a line feed at its end.
pub fn worker_protocol(api: &Api) -> String {
    let (_, mut document) = work_routes(api).split_for_parts();
    text(api, &mut document)
}

/// The routes with their access rules in force, and the document of the public ones.
fn assemble(api: &Api, more: OpenApiRouter) -> (Router<Api>, String) {
    let (public, mut document) = public_routes().merge(more.with_state(())).split_for_parts();
    let (work, mut protocol) = work_routes(api).split_for_parts();
    let (document, protocol) = (text(api, &mut document), text(api, &mut protocol));
    let (served, served_protocol) = (document.clone(), protocol);
    let router = public
        .merge(work)
        .route(paths::ROOT, axum::routing::get(root))
        .route(paths::OPENAPI, axum::routing::get(move || async move { json(served) }))
        .route(paths::WORK_OPENAPI, axum::routing::get(move || async move { json(served_protocol) }))
        .route(paths::DOCS, axum::routing::get(page))
        .route(paths::DOCS_SCRIPT, axum::routing::get(script))
        .route_layer(from_fn_with_state(api.clone(), auth::admit));
    (router, document)
}

/// The routes for callers.
fn public_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(submit::create_job, jobs::list_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::cancel_job))
        .routes(routes!(jobs::pause_job))
        .routes(routes!(jobs::resume_job))
        .routes(routes!(jobs::retry_job))
        .routes(routes!(detail::list_tasks))
        .routes(routes!(detail::get_plan))
        .routes(routes!(detail::get_report))
        .routes(routes!(quote::quote))
        .routes(routes!(detail::list_job_events))
        .routes(routes!(stream::stream_job_events))
        .routes(routes!(stream::socket_job_events))
        .routes(routes!(detail::list_events))
        .routes(routes!(stream::stream_events))
        .routes(routes!(stream::socket_events))
        .routes(routes!(files::list_files))
        .routes(routes!(files::get_file))
        .routes(routes!(playback::create_playback))
        .routes(routes!(playback::play))
        .routes(routes!(profiles::list_profiles))
        .routes(routes!(profiles::get_profile, profiles::put_profile, profiles::delete_profile))
        .routes(routes!(tokens::who_am_i))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::get_token, tokens::revoke_token))
        .routes(routes!(tenants::list_tenants))
        .routes(routes!(tenants::get_tenant, tenants::put_tenant, tenants::delete_tenant))
        .routes(routes!(workers::list_workers))
        .routes(routes!(workers::drain_worker))
        .routes(routes!(workers::autoscale))
}

/// The routes for workers and assemblers.
fn work_routes(api: &Api) -> OpenApiRouter<Api> {
    let reports = OpenApiRouter::new()
        .routes(routes!(work::complete))
        .routes(routes!(work::fail))
        .layer(DefaultBodyLimit::max(api.inner.config.max_report_bytes));
    OpenApiRouter::with_openapi(WorkDocument::openapi())
        .routes(routes!(presence::hold_presence))
        .routes(routes!(work::claim))
        .routes(routes!(work::renew))
        .routes(routes!(work::store_objects))
        .routes(routes!(work::read_objects))
        .merge(reports)
}

/// A document completed by the table of routes, as text.
fn text(api: &Api, document: &mut utoipa::openapi::OpenApi) -> String {
    complete(api, document);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn json(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// For people who open the address, and for event senders that check it first.
async fn root() -> &'static str {
    "splitreel: the API is described at /docs and /openapi.json\n"
}

async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE)
}

async fn script() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, SCRIPT)
}

/// Adds to each operation what the table of routes says: who may, and how it may be refused.
fn complete(api: &Api, document: &mut utoipa::openapi::OpenApi) {
    let components = document.components.get_or_insert_default();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(SCHEME, scheme);
    // A wildcard is the router's word; the document knows plain parameters only.
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        for operation in operations(&mut item) {
            describe(operation);
        }
        for rule in api.inner.rules.values().filter(|r| r.path == path) {
            for operation in operations_of(&mut item, rule) {
                refine(operation, rule);
            }
        }
        document.paths.paths.insert(path.replace("{*", "{"), item);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, .. } = item;
    [get, put, post, delete, options, head, patch].into_iter().flatten()
}

/// OpenAPI 3.1 wants a word on each answer.
fn describe(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = "OK".to_owned();
        }
    }
}

/// What a rule is about: that of GET is also about HEAD.
fn operations_of<'a>(item: &'a mut PathItem, rule: &Route) -> impl Iterator<Item = &'a mut Operation> {
    let PathItem { get, put, post, delete, head, patch, .. } = item;
    let (first, second) = match rule.method {
        Verb::Get => (get.as_mut(), head.as_mut()),
        Verb::Post => (post.as_mut(), None),
        Verb::Put => (put.as_mut(), None),
        Verb::Patch => (patch.as_mut(), None),
        Verb::Delete => (delete.as_mut(), None),
    };
    first.into_iter().chain(second)
}

fn refused(description: &str) -> RefOr<Response> {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    RefOr::T(ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build())
}

fn refine(operation: &mut Operation, rule: &Route) {
    let responses = &mut operation.responses.responses;
    let mut add = |status: &str, description: &str| {
        responses.entry(status.to_owned()).or_insert_with(|| refused(description));
    };
    add("default", "Refused: `code` says why.");
    if rule.access == Access::Public {
        operation.security = Some(Vec::new());
        return;
    }
    add("401", "No valid token.");
    add("429", "Too many requests, or a quota is reached: see Retry-After.");
    let scopes = match rule.access {
        Access::Scoped(scope, reach) => {
            add("403", "The token lacks the scope.");
            if reach == Reach::Thing {
                add("404", "There is no such thing, or it is another tenant's.");
            }
            let needs = format!("Needs the scope `{}`.", scope.as_str());
            let description = operation.description.get_or_insert_default();
            if !description.is_empty() {
                description.push_str("\n\n");
            }
            description.push_str(&needs);
            vec![scope.as_str()]
        }
        Access::Public | Access::AnyToken => Vec::new(),
    };
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, scopes)]);
}
