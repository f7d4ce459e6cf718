//! The OpenAPI document, held against the committed one, and the page that shows it.

use crate::stage::Stage;
use serde_json::Value;
use splitreel_coordinator::api::{openapi, worker_protocol};
use std::collections::BTreeSet;
use std::path::Path;

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
