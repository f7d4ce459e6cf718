//! Connects to the API of a server: this machine's, or that of a cluster.

use super::settings::{Upstream, required, secret};
use crate::exit::{Exit, Problem};
use splitreel_client::{Client, ClientConfig, Token};
use std::path::Path;

/// A server cannot be used: a matter of configuration, as far as anybody can tell at the start.
pub(super) fn unusable(what: &str, error: &dyn std::error::Error) -> Problem {
    Problem { exit: Exit::Usage, ..Problem::because(what, error) }
}

/// The API of the server on this machine, by the token in the environment or the one that it keeps in a file.
pub fn local_api(address: String, token_file: &Path) -> Result<Client, Problem> {
    let token = match secret("SPLITREEL_TOKEN")? {
        Some(token) => Some(token.expose().clone()),
        None => std::fs::read_to_string(token_file).ok(),
    };
    api_at(&address, token)
}

/// The coordinator's API, by an address and a token.
pub fn api(upstream: &Upstream) -> Result<Client, Problem> {
    let address = required(
        upstream.server.clone(),
        "the coordinator's address",
        "give --server, SPLITREEL_SERVER or server in [upstream] of the configuration file, or start splitreel serve",
    )?;
    let token = secret("SPLITREEL_TOKEN")?.map(|t| t.expose().clone());
    api_at(&address, token)
}

fn api_at(address: &str, token: Option<String>) -> Result<Client, Problem> {
    let base = url::Url::parse(address).map_err(|e| {
        Problem::usage(format!("{address}: no address of a server: {e}; use for example http://127.0.0.1:8400"))
    })?;
    let token = token.map(|t| Token(t.trim().to_owned()));
    Client::new(ClientConfig::new(base, token)).map_err(|e| unusable("the coordinator cannot be used", &e))
}
