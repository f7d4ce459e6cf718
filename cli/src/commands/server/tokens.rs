//! `splitreel tokens`.

use super::{client, print_json, refused};
use crate::config::Config;
use crate::exit::{Exit, Problem, printable};
use crate::roles::settings::Upstream;
use clap::Subcommand;
use splitreel_client::types::{Scope, TokenCreate};

/// What `tokens` does.
#[derive(Clone, Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token; its secret is shown this once.
    Create {
        /// What it is for.
        name: String,
        /// Whose jobs it sees [default: the caller's].
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// What it may do, separated by commas: jobs.read, jobs.write, profiles.write, uploads.write, tokens.write,
        /// work, ingest, admin.
        #[arg(long, value_name = "SCOPE,…", value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        #[command(flatten)]
        upstream: Upstream,
    },
    /// List tokens.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        upstream: Upstream,
    },
    /// Revoke a token.
    Revoke {
        /// Its id.
        id: String,
        #[command(flatten)]
        upstream: Upstream,
    },
}

/// `tokens`.
pub async fn tokens(config: &Config, command: TokensCommand) -> Result<Exit, Problem> {
    match command {
        TokensCommand::Create { name, tenant, scopes, upstream } => {
            let client = client(config, upstream)?;
            let mut wanted = Vec::new();
            for word in &scopes {
                wanted.push(Scope::parse(word).ok_or_else(|| Problem::usage(format!("{word}: no scope")))?);
            }
            let scopes = wanted.into_iter().collect();
            let token = TokenCreate { name, tenant, scopes, expires_in_seconds: None };
            let made = client.create_token(&token).await.map_err(|e| refused("no token was made", &e))?;
            print_json(&made);
        }
        TokensCommand::List { json, upstream } => {
            let client = client(config, upstream)?;
            let tokens = client.tokens(None).await.map_err(|e| refused("the tokens cannot be listed", &e))?.tokens;
            if json {
                print_json(&tokens);
                return Ok(Exit::Done);
            }
            say!("{:<32}  {:<20}  {:<16}  scopes", "token", "name", "tenant");
            for t in tokens {
                let scopes: Vec<&str> = t.scopes.iter().map(|scope| scope.as_str()).collect();
                say!("{:<32}  {:<20}  {:<16}  {}", t.id, printable(&t.name), t.tenant, scopes.join(","));
            }
        }
        TokensCommand::Revoke { id, upstream } => {
            let client = client(config, upstream)?;
            client.revoke_token(&id).await.map_err(|e| refused("the token was not revoked", &e))?;
        }
    }
    Ok(Exit::Done)
}
