//! `s3-server`: the S3 server over a directory as a process of its own. Runs until SIGTERM or SIGINT.

use splitreel_testkit::s3::{Server, ServerConfig};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: s3-server --listen ADDRESS:PORT --root DIR --access-key KEY --secret-key KEY \
                     [--bucket NAME]...\n\nkeys may also come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

struct Options {
    config: ServerConfig,
    buckets: Vec<String>,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let (mut listen, mut root, mut buckets) = (None, None, Vec::new());
    let mut access_key = std::env::var("AWS_ACCESS_KEY_ID").ok();
    let mut secret_key = std::env::var("AWS_SECRET_ACCESS_KEY").ok();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--listen" => listen = Some(args.next()?.parse().ok()?),
            "--root" => root = Some(args.next()?.into()),
            "--access-key" => access_key = Some(args.next()?),
            "--secret-key" => secret_key = Some(args.next()?),
            "--bucket" => buckets.push(args.next()?),
            _ => return None,
        }
    }
    let config = ServerConfig { listen: listen?, root: root?, access_key: access_key?, secret_key: secret_key? };
    Some(Options { config, buckets })
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("s3-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Options) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = Server::start(options.config).await?;
    for bucket in &options.buckets {
        server.create_bucket(bucket)?;
    }
    println!("{}", server.endpoint());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.stop().await;
    Ok(())
}
