//! The routes that keep rules.

use crate::fixture::{Deployment, call, call_json, caller, json_request};
use serde_json::{Value, json};
use splitreel_coordinator::api::rules_router;
use splitreel_coordinator::directory::Caller;
use splitreel_coordinator::triggers::{Outcome, UploadEvent};

fn body() -> Value {
    json!({ "bucket": "media-in", "prefix": "in/", "suffixes": [".mp4"], "profile": "universal",
        "output": "s3://media-out/hls/" })
}

#[tokio::test]
async fn rules_are_kept_changed_and_deleted() {
    let here = Deployment::new();
    let (router, openapi) =
        rules_router(here.records.clone(), here.intake.clone(), here.world.clone()).split_for_parts();
    assert_eq!(openapi.paths.paths.len(), 3);
    let admin = Caller { is_admin: true, ..caller("ops", &[]) };
    let (status, made) = call_json(&router, Some(&admin), "POST", "/v1/rules?tenant=studio", Some(body())).await;
    assert_eq!((status.as_u16(), &made["tenant"]), (201, &json!("studio")));
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/rules/{id}?tenant=studio");
    let (status, found) = call_json(&router, Some(&admin), "GET", &path, None).await;
    assert_eq!((status.as_u16(), &found), (200, &made));
    // Saved rules work at once.
    here.grants.set("s3://media-in/in/a.mp4", 9, "v");
    let event = UploadEvent::exact("media-in", "in/a.mp4");
    assert!(matches!(here.intake.offer(&event, None).await.unwrap(), Outcome::Started(_)));

    let mut changed = body();
    changed["enabled"] = json!(false);
    let mut request = json_request("PUT", &path, Some(changed.clone()));
    request.headers_mut().insert("if-match", "\"7\"".parse().unwrap());
    assert_eq!(call(&router, Some(&admin), request).await.status().as_u16(), 412);
    let mut request = json_request("PUT", &path, Some(changed));
    request.headers_mut().insert("if-match", "\"1\"".parse().unwrap());
    let response = call(&router, Some(&admin), request).await;
    assert_eq!((response.status().as_u16(), response.headers()["etag"].to_str().unwrap()), (200, "\"2\""));
    assert_eq!(here.intake.offer(&event, None).await.unwrap(), Outcome::NoRule);

    for i in 0..3 {
        let (status, _) =
            call_json(&router, Some(&admin), "POST", &format!("/v1/rules?tenant=t{i}"), Some(body())).await;
        assert_eq!(status.as_u16(), 201);
    }
    let (mut after, mut tenants) = (String::new(), Vec::new());
    for _ in 0..5 {
        let (_, page) = call_json(&router, Some(&admin), "GET", &format!("/v1/rules?limit=1{after}"), None).await;
        tenants.extend(page["rules"].as_array().unwrap().iter().map(|r| r["tenant"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(tenants, ["studio", "t0", "t1", "t2"]);
    let (status, _) = call_json(&router, Some(&admin), "DELETE", &path, None).await;
    assert_eq!(status.as_u16(), 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(call_json(&router, Some(&admin), method, &path, None).await.0.as_u16(), 404);
    }
}

#[tokio::test]
async fn only_administrators_write_rules_and_mistakes_are_all_told() {
    let here = Deployment::new();
    let (router, _) = rules_router(here.records.clone(), here.intake.clone(), here.world.clone()).split_for_parts();
    let writer = caller("studio", &["jobs.write", "profiles.write", "ingest"]);
    let routes = [
        ("GET", "/v1/rules"),
        ("POST", "/v1/rules"),
        ("GET", "/v1/rules/x"),
        ("PUT", "/v1/rules/x"),
        ("DELETE", "/v1/rules/x"),
    ];
    for (method, path) in routes {
        assert_eq!(call_json(&router, None, method, path, Some(body())).await.0.as_u16(), 401, "{method}");
        assert_eq!(call_json(&router, Some(&writer), method, path, Some(body())).await.0.as_u16(), 403, "{method}");
    }
    let admin = caller("studio", &["admin"]);
    let feeds_itself = json!({ "bucket": "media-in", "profile": "none", "output": "s3://media-in/out/" });
    let (status, problem) = call_json(&router, Some(&admin), "POST", "/v1/rules", Some(feeds_itself)).await;
    let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
    assert_eq!((status.as_u16(), pointers), (422, vec![json!("/output"), json!("/profile")]));
    let own = json!({ "bucket": "work", "prefix": "x/", "profile": "universal" });
    assert_eq!(call_json(&router, Some(&admin), "POST", "/v1/rules", Some(own)).await.0.as_u16(), 422);
    let odd = json!({ "bucket": "media-in", "profile": "universal", "colour": "red" });
    assert_eq!(call_json(&router, Some(&admin), "POST", "/v1/rules", Some(odd)).await.0.as_u16(), 422);
    assert_eq!(call_json(&router, Some(&admin), "GET", "/v1/rules?after=x", None).await.0.as_u16(), 422);
}
