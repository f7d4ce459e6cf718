//! Sends a file, or what an address answers with, to a server, and remembers how far it is, so that the same command
//! goes on after it was interrupted.

use super::server::refused;
use crate::config::Config;
use crate::exit::{Problem, printable};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{ACCEPT_RANGES, ETAG, IF_RANGE, RANGE};
use sha2::{Digest, Sha256};
use splitreel_client::{Client, SendError};
use splitreel_core::plan::hex;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Idle timeout: an address that sends nothing for this long counts as gone.
const STALL: Duration = Duration::from_secs(60);

/// What is sent.
pub struct Source {
    name: String,
    bytes: u64,
    /// Distinguishes this version of the source from others.
    identity: String,
    origin: Origin,
}

enum Origin {
    File(Arc<File>),
    Address(Box<Address>),
}

impl Source {
    /// Opens a file or an address.
    pub async fn open(text: &str) -> Result<Self, Problem> {
        if text.starts_with("https://") || text.starts_with("http://") {
            let unusable = |e: io::Error| Problem::because(format!("{text}: cannot be read"), &e);
            return Address::open(text).await.map_err(unusable);
        }
        let path = Path::new(text);
        let pinned = super::target::pin_source(path)
            .map_err(|p| p.line("a path on the server is given with --on-server, an object as s3://bucket/key"))?;
        let file = File::open(path).map_err(|e| Problem::source(format!("{text}: the file cannot be read: {e}")))?;
        Ok(Source {
            name: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            bytes: pinned.bytes,
            identity: format!("{} {} {}", pinned.locator, pinned.bytes, pinned.version),
            origin: Origin::File(Arc::new(file)),
        })
    }

    async fn read(&mut self, offset: u64, len: u64) -> io::Result<Bytes> {
        match &mut self.origin {
            Origin::File(file) => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                    file.read_exact_at(&mut piece, offset)?;
                    Ok(piece.into())
                });
                read.await.map_err(io::Error::other)?
            }
            Origin::Address(address) => address.read(offset, len).await,
        }
    }
}

/// What an address answers with: read once from its beginning, and again from where it broke off.
struct Address {
    http: reqwest::Client,
    url: String,
    tag: Option<String>,
    at: u64,
    body: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    /// Came, but not yet asked for.
    ahead: Bytes,
}

impl Address {
    async fn open(url: &str) -> io::Result<Source> {
        let http = reqwest::Client::builder().connect_timeout(STALL).read_timeout(STALL).build();
        let http = http.map_err(io::Error::other)?;
        let response = http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let response = response.map_err(|e| io::Error::other(e.without_url()))?;
        let bytes = response.content_length().filter(|bytes| *bytes > 0);
        let bytes =
            bytes.ok_or_else(|| io::Error::other("the server does not say how long it is: download it first"))?;
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        // Without a strong entity tag, a second part might be of something else.
        let can_resume = header(ACCEPT_RANGES).is_some_and(|ranges| ranges == "bytes");
        let tag = header(ETAG).filter(|tag| can_resume && !tag.starts_with("W/"));
        let name = response.url().path().rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("video");
        let (name, identity) = (name.to_owned(), format!("{url} {bytes} {}", tag.as_deref().unwrap_or_default()));
        let body = Some(response.bytes_stream().boxed());
        let address = Address { http, url: url.to_owned(), tag, at: 0, body, ahead: Bytes::new() };
        Ok(Source { name, bytes, identity, origin: Origin::Address(Box::new(address)) })
    }

    async fn read(&mut self, offset: u64, len: u64) -> io::Result<Bytes> {
        if offset != self.at {
            self.body = None;
        }
        let mut piece = BytesMut::new();
        let mut tries = 0;
        while (piece.len() as u64) < len {
            let begin = offset + piece.len() as u64;
            if self.body.is_none() {
                self.seek(begin).await?;
            }
            if self.ahead.is_empty() {
                match self.body.as_mut() {
                    Some(body) => match body.next().await {
                        Some(Ok(bytes)) => self.ahead = bytes,
                        Some(Err(_)) | None if tries < 5 => {
                            tries += 1;
                            self.body = None;
                        }
                        Some(Err(error)) => return Err(io::Error::other(error.without_url())),
                        None => return Err(io::ErrorKind::UnexpectedEof.into()),
                    },
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            let missing = usize::try_from(len).unwrap_or(usize::MAX).saturating_sub(piece.len());
            let taken = self.ahead.split_to(self.ahead.len().min(missing));
            piece.extend_from_slice(&taken);
            self.at = offset + piece.len() as u64;
        }
        Ok(piece.freeze())
    }

    /// Asks for what comes from an offset on, of the same version.
    async fn seek(&mut self, offset: u64) -> io::Result<()> {
        let mut request = self.http.get(&self.url);
        if offset > 0 {
            let Some(tag) = &self.tag else {
                return Err(io::Error::other(
                    "it broke off, and the server cannot go on where it was: download it first",
                ));
            };
            request = request.header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, tag);
        }
        let sent = request.send().await.and_then(reqwest::Response::error_for_status);
        let response = sent.map_err(|e| io::Error::other(e.without_url()))?;
        if offset > 0 && response.status() != reqwest::StatusCode::PARTIAL_CONTENT {
            return Err(io::Error::other("it was replaced meanwhile: give the command again"));
        }
        (self.body, self.ahead, self.at) = (Some(response.bytes_stream().boxed()), Bytes::new(), offset);
        Ok(())
    }
}

/// An upload that was made of a source.
pub struct Sending {
    /// The upload.
    pub id: Uuid,
    note: PathBuf,
}

impl Sending {
    /// Sends a source whole, or what is missing of it.
    pub async fn send(config: &Config, client: &Client, mut source: Source, shows: bool) -> Result<Self, Problem> {
        let identity = hex(&Sha256::digest(format!("{} {}", client.config().base, source.identity)));
        let note = config.state.join("sending").join(identity);
        let name = printable(&source.name);
        let id = match earlier(client, &note).await {
            Some(id) => id,
            None => {
                let made = client.create_upload(source.bytes, &source.name).await;
                let id = made.map_err(|e| refused(&format!("{name}: cannot be uploaded"), &e))?;
                // Without the note the next command begins anew, no more.
                let folder = note.parent().unwrap_or(Path::new("."));
                let _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&note, id.to_string()));
                id
            }
        };
        let bytes = source.bytes;
        let bar = if shows && io::stderr().is_terminal() { ProgressBar::new(bytes) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(format!("sending {name}"));
        let sent = client
            .send_upload(
                id,
                bytes,
                async |offset, len| source.read(offset, len).await,
                |offset| bar.set_position(offset),
            )
            .await;
        bar.finish_and_clear();
        match sent {
            Ok(()) => Ok(Sending { id, note }),
            Err(SendError::Client(error)) => {
                Err(refused(&format!("{name}: not sent whole"), &error)
                    .line("the same command goes on where it stopped"))
            }
            Err(SendError::Source(error)) => Err(Problem::because(format!("{name}: cannot be read"), &error)),
        }
    }

    /// The upload has its job: nothing is to go on with.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(&self.note);
    }
}

/// The upload that an earlier command began, if the server still has it.
async fn earlier(client: &Client, note: &Path) -> Option<Uuid> {
    let id = Uuid::parse_str(std::fs::read_to_string(note).ok()?.trim()).ok()?;
    client.upload(id).await.ok().map(|upload| upload.id)
}
