//! A collector of traces: takes OTLP over HTTP and keeps the spans.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use std::sync::{Arc, Mutex};

/// A span as it was exported.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    /// Empty: it begins the trace.
    pub parent: Vec<u8>,
}

type Kept = Arc<Mutex<Vec<Span>>>;

/// A running collector; it ends with its runtime.
pub struct Collector {
    pub address: String,
    kept: Kept,
    _runtime: tokio::runtime::Runtime,
}

async fn take(State(kept): State<Kept>, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap();
        let name = resource.attributes.into_iter().find(|a| a.key == "service.name").unwrap();
        let Some(Value::StringValue(service)) = name.value.unwrap().value else { panic!("no name of a service") };
        let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        kept.lock().unwrap().extend(spans.map(|span| Span {
            service: service.clone(),
            name: span.name,
            trace: span.trace_id,
            id: span.span_id,
            parent: span.parent_span_id,
        }));
    }
    StatusCode::OK
}

impl Collector {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kept = Kept::default();
        let routes = Router::new().route("/v1/traces", post(take)).layer(DefaultBodyLimit::disable());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = routes.with_state(kept.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Collector { address, kept, _runtime: runtime }
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().unwrap().clone()
    }
}
