//! Secrets of the API: read from the environment and judged.

use super::settings::{required_secret, secret};
use crate::exit::Problem;
use splitreel_coordinator::api::Secret;
use std::net::SocketAddr;

/// A token is as good as a password of this many bytes.
const TOKEN_BYTES: usize = 16;
const ADMIN: &str = "SPLITREEL_ADMIN_TOKEN";
const SIGNING: &str = "SPLITREEL_SIGNING_KEY";
const HOW: &str = "make one with: openssl rand -hex 32";

/// Secrets of the API.
pub struct Keys {
    /// A token that may do everything.
    pub admin: Option<Secret>,
    /// A token for workers and assemblers.
    pub work: Option<Secret>,
    /// Signs links.
    pub signing: Secret,
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
            signing: Secret::new(check(SIGNING, signing)?),
            ingest: optional("SPLITREEL_INGEST_SECRET")?,
        })
    }
}

fn found(name: &str) -> Result<Option<String>, Problem> {
    Ok(secret(name)?.map(|value| value.expose().clone()))
}
