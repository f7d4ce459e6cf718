//! Sources that are files of this machine: used where they are.

use super::{LocalSource, SourceAccess, Sources};
use async_trait::async_trait;
use splitreel_backend::grants::{local_path, pin_file};
use splitreel_core::ranges::Need;
use splitreel_core::{Failure, FailureCode};

/// Sources that are files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalSources;

#[async_trait]
impl Sources for LocalSources {
    async fn local(&self, access: &SourceAccess<'_>) -> Result<LocalSource, Failure> {
        let source = access.source;
        let path = local_path(&source.locator).ok_or_else(|| {
            Failure::of(FailureCode::SourceUnreadable, format!("{} is no path of this machine", source.locator))
        })?;
        let pinned = path.clone();
        let now = tokio::task::spawn_blocking(move || pin_file(&pinned))
            .await
            .map_err(|e| Failure::of(FailureCode::SourceCheck, e.to_string()))?;
        match now {
            Ok(now) if now == *source => {
                let bytes = match access.need {
                    Need::Ranges(fetch) => fetch.bytes(),
                    Need::Whole | Need::Tables => source.bytes,
                };
                Ok(LocalSource::file(path, bytes))
            }
            Ok(_) => Err(Failure::of(
                FailureCode::SourceChanged,
                format!("{} was changed after the job was submitted: run it again", source.locator),
            )),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::of(FailureCode::NotFound, format!("{} is gone: put it back and retry", source.locator)))
            }
            Err(e) => {
                Err(Failure::of(FailureCode::SourceUnreadable, format!("{} cannot be read: {e}", source.locator)))
            }
        }
    }
}
