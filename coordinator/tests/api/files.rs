//! Files of presentations: types, ranges, conditions, redirects, playback links.

use crate::stage::{ROOT, Stage};
use serde_json::json;
use splitreel_client::types::Scope;
use splitreel_core::JobId;

const MEDIA: &[u8] = b"0123456789abcdef";

async fn published(stage: &Stage) -> (JobId, String) {
    let token = stage.token("a", &[Scope::JobsRead, Scope::JobsWrite]).await;
    let job = stage.job(&token).await;
    let files: [(&str, &[u8]); 5] = [
        ("master.m3u8", b"#EXTM3U\n"),
        ("manifest.mpd", b"<MPD/>"),
        ("video/360p/1.m4s", MEDIA),
        ("report.json", b"{\"frames\":25}"),
        ("here.mp4", MEDIA),
    ];
    stage.publish(job, &files).await;
    (job, token)
}

#[tokio::test]
async fn files_are_passed_through_in_ranges_with_their_types() {
    let stage = Stage::new();
    let (job, token) = published(&stage).await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        stage.ask_with("GET", &format!("/v1/jobs/{job}/files/{path}"), &token, headers, None).await
    };
    let whole = get("video/360p/1.m4s", &[]).await;
    assert_eq!((whole.status, &whole.body[..]), (200, MEDIA));
    assert_eq!((whole.header("content-type"), whole.header("accept-ranges")), ("video/iso.segment", "bytes"));
    assert!(whole.header("cache-control").starts_with("private"));
    let part = get("video/360p/1.m4s", &[("range", "bytes=4-7")]).await;
    assert_eq!((part.status, &part.body[..], part.header("content-range")), (206, &MEDIA[4..8], "bytes 4-7/16"));
    let outside = get("video/360p/1.m4s", &[("range", "bytes=16-")]).await;
    assert_eq!((outside.code().as_str(), outside.header("content-range")), ("range", "bytes */16"));
    let etag = whole.header("etag");
    assert_eq!(get("video/360p/1.m4s", &[("if-none-match", etag)]).await.status, 304);
    assert_eq!(get("video/360p/1.m4s", &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await.status, 200);
    assert_eq!(get("master.m3u8", &[]).await.header("content-type"), "application/vnd.apple.mpegurl");
    assert_eq!(get("manifest.mpd", &[]).await.header("content-type"), "application/dash+xml");
    for bad in ["no.m4s", "..%2f..%2fetc%2fpasswd", "video", "../report.json"] {
        assert_eq!(get(bad, &[]).await.code(), "not_found", "{bad}");
    }
    let head = stage.ask("HEAD", &format!("/v1/jobs/{job}/files/here.mp4"), &token, None).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "16", 0));
    let listed = stage.ask("GET", &format!("/v1/jobs/{job}/files"), &token, None).await.json();
    assert_eq!(listed["files"].as_array().unwrap().len(), 5);
    let report = stage.ask("GET", &format!("/v1/jobs/{job}/report"), &token, None).await.json();
    assert_eq!(report, json!({"frames": 25}));
}

#[tokio::test]
async fn storage_serves_media_itself_but_never_what_names_other_files() {
    let stage = Stage::new();
    let (job, token) = published(&stage).await;
    *stage.links.base.lock().unwrap() = Some("https://storage.example".into());
    let get = async |path: &str| stage.ask("GET", &format!("/v1/jobs/{job}/files/{path}"), &token, None).await;
    let media = get("video/360p/1.m4s").await;
    assert_eq!((media.status, media.header("cache-control")), (302, "no-store"));
    assert!(media.header("location").starts_with(&format!("https://storage.example/jobs/{job}/")));
    for manifest in ["master.m3u8", "manifest.mpd", "report.json"] {
        assert_eq!(get(manifest).await.status, 200, "{manifest}");
    }
}

#[tokio::test]
async fn a_playback_link_plays_without_a_token_until_it_expires() {
    let stage = Stage::new();
    let (job, token) = published(&stage).await;
    let body = Some(json!({"ttl_seconds": 60}));
    let grant = stage.ask("POST", &format!("/v1/jobs/{job}/playback"), &token, body).await.json();
    let hls = grant["hls"].as_str().unwrap();
    assert!(grant["dash"].as_str().unwrap().ends_with("/manifest.mpd"));
    assert!(grant["mp4"].as_str().unwrap().ends_with("/here.mp4"));
    let base = grant["base"].as_str().unwrap();
    assert_eq!(stage.ask("GET", hls, "", None).await.status, 200);
    let media = stage.ask_with("GET", &format!("{base}video/360p/1.m4s"), "", &[("range", "bytes=-2")], None).await;
    assert_eq!((media.status, &media.body[..]), (206, &MEDIA[14..]));
    // Whatever is changed in it, it is no link any more.
    let name = base.trim_start_matches("/play/").trim_end_matches('/');
    let parts: Vec<&str> = name.split('.').collect();
    let longer = (parts[1].parse::<i64>().unwrap() + 1_000_000).to_string();
    let other = stage.job(&token).await.0.simple().to_string();
    let forged = [
        [parts[0], &longer, parts[2]].join("."),
        [&other, parts[1], parts[2]].join("."),
        [parts[0], parts[1], &"0".repeat(64)].join("."),
        [parts[0], parts[1], ""].join("."),
        "x".to_owned(),
    ];
    for forged in forged {
        assert_eq!(stage.ask("GET", &format!("/play/{forged}/master.m3u8"), "", None).await.code(), "not_found");
    }
    // Nor does storage's own link outlive it.
    *stage.links.base.lock().unwrap() = Some("https://storage.example".into());
    stage.advance(50_000);
    let media = stage.ask("GET", &format!("{base}video/360p/1.m4s"), "", None).await;
    assert_eq!((media.status, *stage.links.ttl_ms.lock().unwrap()), (302, 10_000));
    stage.advance(10_000);
    assert_eq!(stage.ask("GET", hls, "", None).await.code(), "grant_expired");
    let too_long = Some(json!({"ttl_seconds": 604_801}));
    assert_eq!(stage.ask("POST", &format!("/v1/jobs/{job}/playback"), ROOT, too_long).await.code(), "invalid");
}

#[tokio::test]
async fn links_begin_with_the_public_address() {
    let mut config = crate::stage::config();
    config.public_url = Some("https://video.example/api".into());
    let stage = Stage::with(config);
    let (job, token) = published(&stage).await;
    let grant = stage.ask("POST", &format!("/v1/jobs/{job}/playback"), &token, None).await.json();
    assert!(grant["hls"].as_str().unwrap().starts_with("https://video.example/api/play/"), "{grant}");
    let made = stage.ask("POST", "/v1/jobs", &token, Some(json!({"source": crate::stage::SOURCE}))).await;
    let place = format!("https://video.example/api/v1/jobs/{}", made.json()["id"].as_str().unwrap());
    assert_eq!((made.status, made.header("location")), (201, place.as_str()));
}
