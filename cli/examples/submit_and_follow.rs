//! Sends a file to a server, follows the job and prints where the presentation plays.
//!
//! ```text
//! splitreel serve &
//! SPLITREEL_TOKEN=$(cat ~/.local/state/splitreel/serve/token) \
//!     cargo run -p splitreel --example submit_and_follow -- http://127.0.0.1:8400 film.mp4
//! ```

use anyhow::{Context, bail};
use bytes::Bytes;
use splitreel_client::types::JobCreate;
use splitreel_client::{Client, ClientConfig, EventMessage, Token};
use splitreel_core::event::EventKind;
use std::io::SeekFrom;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(server), Some(file)) = (args.next(), args.next()) else {
        bail!("usage: submit_and_follow SERVER FILE, with a token in SPLITREEL_TOKEN");
    };
    // The HTTP client uses the TLS provider of the process: install one before the first client is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = std::env::var("SPLITREEL_TOKEN").ok().map(|token| Token(token.trim().to_owned()));
    let client = Client::new(ClientConfig::new(server.parse().context("SERVER is not a URL")?, token))?;

    // An upload can be resumed: `send_upload` asks the server for the offset and continues from there.
    let mut source = tokio::fs::File::open(&file).await.context(file.clone())?;
    let bytes = source.metadata().await?.len();
    let name = Path::new(&file).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let upload = client.create_upload(bytes, &name).await?;
    let read = async |offset: u64, len: u64| {
        source.seek(SeekFrom::Start(offset)).await?;
        let mut piece = Vec::new();
        (&mut source).take(len).read_to_end(&mut piece).await?;
        Ok::<_, std::io::Error>(Bytes::from(piece))
    };
    client.send_upload(upload, bytes, read, |sent| eprintln!("sent {sent} of {bytes} bytes")).await?;

    // The idempotency key makes a repeated request answer with the same job.
    let request = JobCreate { upload: Some(upload.to_string()), ..JobCreate::default() };
    let job = client.create_job(&request, Some(&format!("upload-{upload}"))).await?.value;
    println!("job {}", job.id);

    // Events come in order, none is left out, and the stream reconnects by itself. Progress is only the newest value.
    let mut events = client.events(Some(job.id), 0);
    loop {
        match events.next().await? {
            EventMessage::Progress(progress) => eprintln!("{:.0} %", progress.percent),
            EventMessage::Event(event) => match event.what {
                EventKind::Published => break,
                EventKind::Failed { .. } | EventKind::Cancelled => bail!("the job ended: {:?}", event.what),
                _ => {}
            },
        }
    }
    let playback = client.playback(job.id, None).await?;
    println!("{}", serde_json::to_string_pretty(&playback)?);
    Ok(())
}
