//! The HTTP API: extracts a request, calls a service, answers. Decides who may and how answers look; what happens to
//! jobs is decided below.

mod attempts;
mod auth;
mod body;
mod caller;
mod config;
mod detail;
mod direct;
mod edges;
mod etag;
mod files;
mod inbound;
mod jobs;
mod openapi;
mod playback;
mod presence;
mod problem;
mod profiles;
mod progress;
mod quote;
mod range;
mod rates;
pub mod routes;
mod rules;
mod signing;
mod state;
mod stream;
mod submit;
mod tenants;
mod tokens;
mod upload_answers;
mod uploads;
mod webhooks;
mod work;
mod workers;

pub use config::{ApiConfig, ApiConfigError};
pub use direct::{CompleteRequest, CompletedPart, DirectAnswer, DirectRequest, PartRequest};
pub use inbound::{EventAnswer, EventsAnswer, SECRET_HEADER, SharedSecret, events_router};
pub use openapi::{openapi, router, router_with, worker_protocol};
pub use rules::{ROUTES as RULES_ROUTES, RULES_SCOPE, rules_router};
pub use state::{Api, ApiSeams};
pub use uploads::{ROUTES as UPLOADS_ROUTES, UPLOADS_SCOPE, uploads_router};
pub use webhooks::{
    DeliveryAnswer, DeliveryList, PingAnswer, ROUTES as WEBHOOKS_ROUTES, WEBHOOKS_SCOPE, WebhookAnswer, WebhookList,
    WebhookRequest, webhooks_router,
};
