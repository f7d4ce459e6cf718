//! Live events: nothing left out, nothing twice, over restarts and with several listeners.

use crate::stage::{ROOT, Served, Stage, request, within};
use futures::StreamExt;
use splitreel_client::types::Scope;
use splitreel_client::{EventMessage, EventStream, SseParser};
use splitreel_core::JobId;
use splitreel_core::event::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn next_event(stream: &mut EventStream) -> Event {
    within("an event", async {
        loop {
            if let EventMessage::Event(event) = stream.next().await.unwrap() {
                return event;
            }
        }
    })
    .await
}

async fn words(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        let event = serde_json::to_value(next_event(stream).await).unwrap();
        words.push(event["event"].as_str().unwrap().to_owned());
    }
    words
}

async fn toggle(stage: &Stage, job: JobId, times: usize) {
    for n in 0..times {
        assert!(stage.coordinator.pause(job, n % 2 == 0).await.unwrap());
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_stopped_on_another_coordinator() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let address = served.address;
    let job = stage.job(ROOT).await;
    toggle(&stage, job, 4).await;
    let mut stream = served.client(ROOT).events(Some(job), 0);
    assert_eq!(words(&mut stream, 5).await, ["submitted", "paused", "resumed", "paused", "resumed"]);
    served.stop().await;
    toggle(&stage, job, 2).await;
    let again = Served::at(&stage.second(), address).await;
    assert_eq!(words(&mut stream, 2).await, ["paused", "resumed"]);
    toggle(&stage, job, 600).await;
    let mut last = stream.position();
    for _ in 0..600 {
        let event = next_event(&mut stream).await;
        assert_eq!(event.seq, last + 1);
        last = event.seq;
    }
    again.stop().await;
}

#[tokio::test]
async fn a_tenant_hears_of_its_own_jobs_only() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let a = stage.token("a", &[Scope::JobsRead, Scope::JobsWrite]).await;
    let b = stage.token("b", &[Scope::JobsRead, Scope::JobsWrite]).await;
    let (of_a, of_b) = (stage.job(&a).await, stage.job(&b).await);
    let (mut for_a, mut for_root) = (served.client(&a).events(None, 0), served.client(ROOT).events(None, 0));
    assert_eq!(next_event(&mut for_a).await.job, of_a);
    assert_eq!([next_event(&mut for_root).await.job, next_event(&mut for_root).await.job], [of_a, of_b]);
    stage.coordinator.cancel(of_b).await.unwrap();
    stage.coordinator.cancel(of_a).await.unwrap();
    assert_eq!(next_event(&mut for_a).await.job, of_a);
    assert_eq!([next_event(&mut for_root).await.job, next_event(&mut for_root).await.job], [of_b, of_a]);
    let foreign = served.client(&a).events(Some(of_b), 0).next().await;
    assert_eq!(foreign.unwrap_err().problem().unwrap().code, "not_found");
    served.stop().await;
}

#[tokio::test]
async fn a_new_stream_over_all_jobs_starts_with_what_happens_next() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let old = stage.job(ROOT).await;
    toggle(&stage, old, 10).await;
    let response = stage.send(request("GET", "/v1/events/stream", ROOT, &[], None)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let new = stage.job(ROOT).await;
    let mut body = response.into_body().into_data_stream();
    let mut parser = SseParser::new();
    let first = within("the first event", async {
        loop {
            let events = parser.push(&body.next().await.unwrap().unwrap()).unwrap();
            if let Some(event) = events.into_iter().next() {
                return event;
            }
        }
    })
    .await;
    let event: Event = serde_json::from_str(&first.data).unwrap();
    assert_eq!((event.job, first.id), (new, Some(event.seq.to_string())));
    served.stop().await;
}

#[tokio::test]
async fn the_stream_of_a_job_tells_its_progress() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let job = stage.job(ROOT).await;
    let mut stream = served.client(ROOT).events(Some(job), 0).into_stream();
    let progress = within("progress", async {
        loop {
            if let EventMessage::Progress(progress) = stream.next().await.unwrap().unwrap() {
                return progress;
            }
        }
    })
    .await;
    assert_eq!((progress.percent, progress.remaining), (0.0, 1));
    served.stop().await;
}

/// The frames of a WebSocket as a server sends them: short ones, without a mask.
async fn frame(socket: &mut tokio::net::TcpStream) -> (u8, Vec<u8>) {
    let opcode = socket.read_u8().await.unwrap() & 0x0f;
    let len = match socket.read_u8().await.unwrap() {
        126 => usize::from(socket.read_u16().await.unwrap()),
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    socket.read_exact(&mut payload).await.unwrap();
    (opcode, payload)
}

#[tokio::test]
async fn a_websocket_tells_the_same_and_takes_its_token_as_browsers_give_it() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let job = stage.job(ROOT).await;
    let mut socket = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let handshake = format!(
        "GET /v1/jobs/{job}/events/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: splitreel, bearer.{ROOT}\r\n\r\n"
    );
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    within("the handshake", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
    })
    .await;
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-protocol: splitreel"), "{head}");
    stage.coordinator.cancel(job).await.unwrap();
    let mut seen = Vec::new();
    within("two events", async {
        while seen.len() < 2 {
            let (opcode, payload) = frame(&mut socket).await;
            if opcode == 1 {
                let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                if message["type"] == "event" {
                    seen.push(message["data"]["event"].as_str().unwrap().to_owned());
                }
            }
        }
    })
    .await;
    assert_eq!(seen, ["submitted", "cancelled"]);
    served.stop().await;
}

#[tokio::test]
async fn streams_end_with_the_service() {
    let stage = Stage::new();
    let served = Served::new(&stage.api).await;
    let job = stage.job(ROOT).await;
    let path = format!("/v1/jobs/{job}/events/stream");
    let mut body = stage.send(request("GET", &path, ROOT, &[], None)).await.into_body().into_data_stream();
    assert!(within("the first piece", body.next()).await.is_some());
    served.stop().await;
    within("the stream ends", body.count()).await;
}
