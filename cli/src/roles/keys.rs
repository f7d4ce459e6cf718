//! Secrets of the API: read from the environment, judged, and where only this machine can reach the API, made and kept.

use super::settings::{required_secret, secret};
use crate::exit::Problem;
use splitreel_backend::Secrets;
use splitreel_backend::world::Machine;
use splitreel_core::plan::hex;
use splitreel_telemetry::redact::Secret;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A token is as good as a password of this many bytes.
const TOKEN_BYTES: usize = 16;
const ADMIN: &str = "SPLITREEL_ADMIN_TOKEN";
const SIGNING: &str = "SPLITREEL_SIGNING_KEY";
const HOW: &str = "make one with: openssl rand -hex 32";

/// Secrets of the API.
pub struct Keys {
    /// A token that may do everything.
    pub admin: Option<Secret<String>>,
    /// A token for workers and assemblers.
    pub work: Option<Secret<String>>,
    /// Signs links.
    pub signing: Secret<Vec<u8>>,
    /// Stands for the token of senders of upload events.
    pub ingest: Option<String>,
}

impl Keys {
    /// Those of the environment; the signing key must be there.
    pub fn read(address: SocketAddr) -> Result<Self, Problem> {
        let signing = required_secret(SIGNING, "the key that signs playback links")
            .map_err(|p| p.line(format!("all coordinators need the same; {HOW}")))?;
        Self::judged(address, signing.expose().clone(), found(ADMIN)?)
    }

    /// Those of the environment. Behind a loopback address, what is missing is made once and kept in `folder`, readable
    /// by its owner only; else the administrator's token must be there too.
    pub fn read_or_make(address: SocketAddr, folder: &Path) -> Result<Self, Problem> {
        if !address.ip().is_loopback() {
            required_secret(ADMIN, &format!("{address} can be reached from elsewhere, and the administrator's token"))
                .map_err(|p| p.line(HOW))?;
            return Self::read(address);
        }
        let of = |name, path: PathBuf| match found(name)? {
            Some(value) => Ok(value),
            None => kept(&path),
        };
        Self::judged(address, of(SIGNING, folder.join("signing-key"))?, Some(of(ADMIN, token_file(folder))?))
    }

    fn judged(address: SocketAddr, signing: String, admin: Option<String>) -> Result<Self, Problem> {
        let check = |name: &str, value: String| {
            let value = value.trim().to_owned();
            if value.len() < TOKEN_BYTES {
                return Err(Problem::usage(format!("{name} has {} bytes, too few for a secret", value.len())).line(HOW));
            }
            // What example files say is known to everybody.
            if !address.ip().is_loopback() && value.to_ascii_lowercase().contains("change") {
                return Err(Problem::usage(format!(
                    "{name} is still that of the example, and {address} can be reached from elsewhere"
                ))
                .line(HOW));
            }
            Ok(value)
        };
        let optional = |name: &str| found(name)?.map(|value| check(name, value)).transpose();
        Ok(Keys {
            admin: admin.map(|value| check(ADMIN, value)).transpose()?.map(Secret::new),
            work: optional("SPLITREEL_WORK_TOKEN")?.map(Secret::new),
            signing: Secret::new(check(SIGNING, signing)?.into_bytes()),
            ingest: optional("SPLITREEL_INGEST_SECRET")?,
        })
    }
}

/// Where the administrator's token is kept that was made.
pub fn token_file(folder: &Path) -> PathBuf {
    folder.join("token")
}

fn found(name: &str) -> Result<Option<String>, Problem> {
    Ok(secret(name)?.map(|value| value.expose().clone()))
}

/// The secret in a file; one is made where there is none.
fn kept(path: &Path) -> Result<String, Problem> {
    let at = |e: std::io::Error| Problem::usage(format!("{}: the secret cannot be kept: {e}", path.display()));
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        read => return read.map_err(at),
    }
    let mut bytes = [0; 32];
    Machine.fill(&mut bytes).map_err(|_| Problem::usage("the system gives no random bytes for a secret"))?;
    let value = hex(&bytes);
    let draft = path.with_extension("new");
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(at)?;
    writeln!(file, "{value}").and_then(|()| file.sync_all()).map_err(at)?;
    std::fs::rename(&draft, path).map_err(at)?;
    Ok(value)
}
