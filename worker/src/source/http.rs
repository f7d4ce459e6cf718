//! Sources that are read over HTTP by a grant: only the bytes that a task needs, into scratch files. No tool ever sees
//! a URL.

use super::cache::{Pieces, Wholes};
use super::options::HttpOptions;
use super::range::{Object, RangeError, Sink};
use super::scratch::{Scratch, ScratchFile, blocking};
use super::tables::fetch_tables;
use super::{LocalSource, LocalSources, SourceAccess, Sources, Traffic};
use crate::progress::{FETCHING, Transfer};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::Client;
use sha2::{Digest, Sha256};
use splitreel_backend::lease::SourceGrant;
use splitreel_core::plan::hex;
use splitreel_core::ranges::{Fetch, Need, Piece};
use splitreel_core::source::ByteRange;
use splitreel_core::{Failure, FailureCode};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};

/// Sources below this size are probed whole: fewer requests.
const TABLES_FROM_BYTES: u64 = 1 << 20;

/// Why [`HttpSources`] could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpSourcesError {
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

/// Sources behind grants; those without one are files of this machine.
pub struct HttpSources {
    client: Client,
    options: HttpOptions,
    scratch: Scratch,
    pieces: Pieces,
    wholes: Wholes,
}

impl HttpSources {
    /// Sets up a client of its own.
    ///
    /// # Errors
    /// [`HttpSourcesError`] when the system offers no TLS.
    pub fn new(options: HttpOptions) -> Result<Self, HttpSourcesError> {
        // An installed provider stays; this one is for processes that chose none.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect)
            .http1_only()
            .build()?;
        Ok(HttpSources {
            client,
            scratch: Scratch::new(options.scratch.clone(), options.scratch_bytes),
            pieces: Pieces::new(options.shared_bytes),
            wholes: Wholes::default(),
            options,
        })
    }

    async fn ranges(
        &self,
        access: &SourceAccess<'_>,
        grant: &SourceGrant,
        fetch: &Fetch,
        traffic: &Traffic,
    ) -> Result<LocalSource, RangeError> {
        let transfer = Transfer::new(access.progress, FETCHING, fetch.bytes());
        let object = self.object(access, grant, traffic, &transfer);
        let file = self.scratch.file(access.lease, fetch.file_bytes(), fetch.bytes()).await?;
        let pieces = fetch.placed().map(|(piece, at)| self.piece(&object, &file, piece, at));
        let done: Result<(), RangeError> =
            futures::stream::iter(pieces).buffer_unordered(self.options.parallel.max(1)).try_collect().await;
        done?;
        Ok(LocalSource::scratch(file.path().to_owned(), false, traffic, Box::new(file)))
    }

    async fn piece(&self, object: &Object<'_>, file: &ScratchFile, piece: Piece, at: u64) -> Result<(), RangeError> {
        let slot = if piece.is_shared { self.pieces.slot(object.source, piece.range) } else { None };
        let Some(slot) = slot else {
            return object.fetch(piece.range, &mut Sink::File(file, at)).await;
        };
        let mut held = slot.lock().await;
        let data = match held.as_ref() {
            Some(data) => data.clone(),
            None => {
                let mut sink = Sink::Memory(Vec::new());
                object.fetch(piece.range, &mut sink).await?;
                let data = match sink {
                    Sink::Memory(data) => Bytes::from(data),
                    Sink::File(..) => Bytes::new(),
                };
                held.insert(data).clone()
            }
        };
        drop(held);
        Ok(file.write(at, data.into()).await?)
    }

    async fn tables(
        &self,
        access: &SourceAccess<'_>,
        grant: &SourceGrant,
        traffic: &Traffic,
    ) -> Result<Option<LocalSource>, RangeError> {
        if access.source.bytes < TABLES_FROM_BYTES {
            return Ok(None);
        }
        let transfer = Transfer::new(access.progress, FETCHING, access.source.bytes);
        let object = self.object(access, grant, traffic, &transfer);
        let file = self.scratch.file(access.lease, access.source.bytes, 1).await?;
        let filled = fetch_tables(&object, &self.scratch, file).await?;
        Ok(filled.map(|file| LocalSource::scratch(file.path().to_owned(), false, traffic, Box::new(file))))
    }

    /// The whole source; attempts that want it at the same time share one file.
    async fn whole(
        &self,
        access: &SourceAccess<'_>,
        grant: &SourceGrant,
        traffic: &Traffic,
    ) -> Result<LocalSource, Failure> {
        let slot = self.wholes.slot(access.source);
        let mut done = slot.done.subscribe();
        let transfer = Transfer::new(access.progress, FETCHING, access.source.bytes);
        let mut held = loop {
            tokio::select! {
                biased;
                held = slot.file.lock() => break held,
                Ok(()) = done.changed() => transfer.raise_to(*done.borrow_and_update()),
            }
        };
        let file = match Weak::upgrade(&held) {
            Some(file) => file,
            None => {
                let object = self.object(access, grant, traffic, &transfer);
                let file = Arc::new(self.download(&object, access, &slot.done).await?);
                *held = Arc::downgrade(&file);
                file
            }
        };
        drop(held);
        Ok(LocalSource::scratch(file.path().to_owned(), true, traffic, Box::new(file)))
    }

    async fn download(
        &self,
        object: &Object<'_>,
        access: &SourceAccess<'_>,
        done: &tokio::sync::watch::Sender<u16>,
    ) -> Result<ScratchFile, Failure> {
        let bytes = access.source.bytes;
        let file = self.scratch.file(access.lease, bytes, bytes).await?;
        let mut own = access.progress.subscribe();
        let telling = async {
            while own.changed().await.is_ok() {
                done.send_replace(own.borrow_and_update().done_per_mille);
            }
            std::future::pending().await
        };
        let mut sink = Sink::File(&file, 0);
        let fetched = tokio::select! {
            fetched = object.fetch(ByteRange { start: 0, end: bytes }, &mut sink) => fetched,
            () = telling => Ok(()),
        };
        fetched.map_err(|error| match error {
            RangeError::Failed(failure) => failure,
            RangeError::Ignored => Failure::of(
                FailureCode::RangeUnsupported,
                format!("storage does not send {} in parts, and a transfer of it was cut", access.source.locator),
            ),
        })?;
        if let Some(expected) = &object.grant.sha256 {
            self.verify(&file, expected, access).await?;
        }
        Ok(file)
    }

    async fn verify(&self, file: &ScratchFile, expected: &str, access: &SourceAccess<'_>) -> Result<(), Failure> {
        const STEP_BYTES: usize = 1 << 20;
        let handle = file.handle();
        let hashed = blocking(move || {
            let (mut hash, mut at, mut buffer) = (Sha256::new(), 0u64, vec![0; STEP_BYTES]);
            loop {
                let count = handle.read_at(&mut buffer, at)?;
                if count == 0 {
                    return Ok(hex(&hash.finalize()));
                }
                hash.update(buffer.get(..count).unwrap_or_default());
                at = at.saturating_add(count as u64);
            }
        });
        let found = hashed.await.map_err(|error| Failure::of(FailureCode::Scratch, error.to_string()))?;
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        let message = format!("{} arrived with another checksum than storage has of it", access.source.locator);
        Err(Failure::of(FailureCode::SourceDamaged, message))
    }

    fn object<'a>(
        &'a self,
        access: &'a SourceAccess<'_>,
        grant: &'a SourceGrant,
        traffic: &'a Traffic,
        transfer: &'a Transfer<'a>,
    ) -> Object<'a> {
        let salt = access.lease.0.as_u64_pair().1;
        let (client, options) = (&self.client, &self.options);
        Object { client, options, source: access.source, grant, traffic, transfer, salt }
    }
}

#[async_trait]
impl Sources for HttpSources {
    async fn local(&self, access: &SourceAccess<'_>) -> Result<LocalSource, Failure> {
        let Some(grant) = access.grant else { return LocalSources.local(access).await };
        if grant.bytes != access.source.bytes {
            let message = format!(
                "{} has {} bytes, {} are pinned: submit it again",
                access.source.locator, grant.bytes, access.source.bytes
            );
            return Err(Failure::of(FailureCode::SourceChanged, message));
        }
        let traffic = Traffic::default();
        let fetched = match access.need {
            Need::Whole => Ok(None),
            Need::Tables => self.tables(access, grant, &traffic).await,
            Need::Ranges(fetch) if fetch.source_bytes == grant.bytes => {
                self.ranges(access, grant, fetch, &traffic).await.map(Some)
            }
            Need::Ranges(_) => Ok(None),
        };
        match fetched {
            Ok(Some(local)) => Ok(local),
            Ok(None) | Err(RangeError::Ignored) => self.whole(access, grant, &traffic).await,
            Err(RangeError::Failed(failure)) => Err(failure),
        }
    }
}
