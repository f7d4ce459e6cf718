//! Prints what probing finds in files, one JSON line each: `cargo run -p splitreel-media --example probe -- FILE…`.

use splitreel_media::{Ffmpeg, ProbeOptions, ProbeRequest, ToolPaths};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let ffmpeg = match Ffmpeg::detect(&ToolPaths::from_env()).await {
        Ok(ffmpeg) => ffmpeg,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    eprintln!("{} ({:?})", ffmpeg.banner, ffmpeg.sandbox);

    for path in std::env::args_os().skip(1) {
        let request = ProbeRequest {
            name: path.to_string_lossy().into_owned(),
            source: path.into(),
            scratch: std::env::temp_dir(),
            options: ProbeOptions::default(),
        };
        let name = request.name.clone();
        let line = match ffmpeg.probe(request, Arc::new(|_| {}), CancellationToken::new()).await {
            Ok(found) => serde_json::json!({
                "file": name, "cpu_ms": found.effort.cpu_ms, "wall_ms": found.effort.wall_ms, "info": found.info,
            }),
            Err(failure) => serde_json::json!({ "file": name, "failure": failure }),
        };
        println!("{line}");
    }
}
