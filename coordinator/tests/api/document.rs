//! The OpenAPI document, held against the committed one, and the page that shows it.

use crate::stage::Stage;
use serde_json::Value;
use splitreel_client::schema;
use splitreel_coordinator::api::{openapi, worker_protocol};
use std::collections::BTreeSet;
use std::path::Path;
use utoipa::PartialSchema;

/// Writes the committed document anew when set.
const REGENERATE: &str = "SPLITREEL_WRITE_OPENAPI";

#[test]
fn the_committed_documents_are_those_of_the_routes() {
    let api = Stage::new().api;
    for (name, document) in [("openapi.json", openapi(&api)), ("worker-protocol.json", worker_protocol(&api))] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        if std::env::var_os(REGENERATE).is_some() {
            std::fs::write(&path, &document).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == document, "docs/{name} is not up to date: run this test with {REGENERATE}=1");
    }
}

#[test]
fn the_public_document_says_nothing_of_the_worker_protocol() {
    let document = openapi(&Stage::new().api);
    for word in ["/v1/work/", "WorkOrder", "\"Claim\""] {
        assert!(!document.contains(word), "{word}");
    }
}

#[test]
fn the_documents_are_whole() {
    let api = Stage::new().api;
    check_whole(&openapi(&api), 30);
    check_whole(&worker_protocol(&api), 15);
}

/// Every reference names a schema, every operation is described, and at least `schemas` schemas are used.
fn check_whole(document: &str, schemas: usize) {
    let document: Value = serde_json::from_str(document).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut named = BTreeSet::new();
    references(&document, &mut named);
    for name in &named {
        let schema = name.strip_prefix("#/components/schemas/").unwrap();
        assert!(document["components"]["schemas"].get(schema).is_some(), "{name} names nothing");
    }
    assert!(named.len() > schemas, "{named:?}");
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let in_path: BTreeSet<&str> =
            path.split('/').filter_map(|s| s.strip_prefix('{')).filter_map(|s| s.strip_suffix('}')).collect();
        for (verb, operation) in item.as_object().unwrap() {
            let at = format!("{verb} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}: id used twice");
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{at}: no summary");
            assert!(operation["security"].is_array(), "{at}: says nothing of tokens");
            assert!(operation["responses"]["default"]["content"]["application/problem+json"].is_object(), "{at}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].as_str().is_some_and(|d| !d.is_empty()), "{at}: {status}");
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let told: BTreeSet<&str> =
                parameters.iter().filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap()).collect();
            assert_eq!(told, in_path, "{at}");
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(name)) = fields.get("$ref") {
                found.insert(name.clone());
            }
            fields.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let stage = Stage::new();
    let served = stage.ask("GET", "/openapi.json", "", None).await;
    assert_eq!(String::from_utf8_lossy(&served.body), openapi(&stage.api));
    for path in ["/docs", "/docs/page.js"] {
        let page = stage.ask("GET", path, "", None).await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert_eq!(page.status, 200);
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"), "{path}");
        assert!(!text.contains("innerHTML"), "{path}");
    }
    let page = stage.ask("GET", "/docs", "", None).await;
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
}

#[test]
fn every_code_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    for code in splitreel_client::Code::ALL {
        let row = format!("| {} | `{}` | {} |", code.status(), code.as_str(), code.title());
        assert!(text.contains(&row), "docs/api.md lacks: {row}");
    }
}

fn shape<T: PartialSchema>() -> Value {
    serde_json::to_value(T::schema()).unwrap()
}

fn fields(shape: &Value) -> BTreeSet<String> {
    keys(&shape["properties"])
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn object(key: &str) -> splitreel_core::part::StoredObject {
    splitreel_core::part::StoredObject { key: key.into(), bytes: 1, sha256: String::new() }
}

/// Every kind of work with the names of its fields, as a schema with a tag describes them.
fn kinds(shape: &Value) -> std::collections::BTreeMap<String, BTreeSet<String>> {
    let kind = |one: &Value| {
        let word = one["properties"]["work"]["enum"][0].as_str().unwrap().to_owned();
        (word, fields(one))
    };
    shape["oneOf"].as_array().unwrap().iter().map(kind).collect()
}

#[test]
fn the_work_order_has_the_fields_of_the_domain() {
    use splitreel_backend::lease::{Assembly, History, SourceGrant, Work, WorkOrder};
    use splitreel_core::{JobId, LeaseId, TaskId, part, source};
    use std::sync::Arc;
    let uuid = uuid::Uuid::from_u128(7);
    let plan = Arc::new(splitreel_backend::conformance::fixture::plan(1, 0));
    let probe = part::ProbeResult { info: object("i"), ffmpeg_build: "9".into(), cost: part::Cost::default() };
    let order = WorkOrder {
        task: TaskId { job: JobId(uuid), number: 1 },
        attempt: 1,
        lease: LeaseId(uuid),
        ttl_ms: 1,
        media_failures: 0,
        source: source::SourceRef { locator: "x".into(), bytes: 1, version: "v".into() },
        grant: Some(SourceGrant {
            url: "u".into(),
            headers: Vec::new(),
            bytes: 1,
            etag: None,
            sha256: None,
            expires_ms: 1,
        }),
        key_prefix: "jobs/".into(),
        work: Work::Probe { deep: false },
    };
    let json = serde_json::to_value(&order).unwrap();
    assert_eq!(fields(&shape::<schema::WorkOrder>()), keys(&json));
    assert_eq!(fields(&shape::<TaskId>()), keys(&json["task"]));
    assert_eq!(fields(&shape::<source::SourceRef>()), keys(&json["source"]));
    assert_eq!(fields(&shape::<schema::SourceGrant>()), keys(&json["grant"]));
    let history = History::default();
    assert_eq!(fields(&shape::<schema::History>()), keys(&serde_json::to_value(&history).unwrap()));
    let (video, audio) = (Vec::new(), Vec::new());
    let assembly = Assembly { plan: Arc::clone(&plan), base: "b".into(), probe, video, audio, history };
    let all = [
        Work::Probe { deep: true },
        Work::Video { plan: Arc::clone(&plan), segment: 0 },
        Work::Audio { plan, index: 0 },
        Work::Assemble(Arc::new(assembly)),
    ];
    let found = all
        .iter()
        .map(|work| serde_json::to_value(work).unwrap())
        .map(|json| (json["work"].as_str().unwrap().to_owned(), keys(&json)));
    assert_eq!(kinds(&shape::<schema::Work>()), found.collect());
}
