//! The HTTP client: base address, token, time-outs, retries. What is called with it is in `calls`.

use crate::problem::{PROBLEM_JSON, Problem};
use crate::retry::{Outcome, pause};
use crate::routes::segments;
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A secret that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the API is, for example `http://127.0.0.1:8080`; a path in it is kept.
    pub base: Url,
    /// The bearer token.
    pub token: Option<Token>,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time for one try, body included (not of streams).
    pub timeout: Duration,
    /// Tries of a call that may be repeated; at least 1.
    pub max_tries: u32,
}

impl ClientConfig {
    /// Defaults: 5 s to connect, 30 s for a try, 4 tries.
    pub fn new(base: Url, token: Option<Token>) -> Self {
        ClientConfig {
            base,
            token,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            max_tries: 4,
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service said no.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// No answer came, or not in time.
    #[error("{what} got no answer")]
    NoAnswer {
        /// The call.
        what: String,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer cannot be understood: something else than the service, or another version of it, is there.
    #[error("{what} got an answer that cannot be understood: {why}")]
    Unreadable {
        /// The call.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The client cannot be set up like this.
    #[error("the client cannot be used: {why}")]
    Config {
        /// Reason.
        why: String,
    },
}

impl ClientError {
    /// The problem, if the service said no.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            ClientError::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

/// A client of the API; cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.config.base.as_str()).finish_non_exhaustive()
    }
}

/// One call, as far as it is the same for each try.
pub(crate) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
    may_repeat: bool,
    timeout: Option<Duration>,
}

impl Call {
    /// Repeating it is harmless although its method does not say so.
    pub(crate) fn repeatable(mut self) -> Self {
        self.may_repeat = true;
        self
    }

    /// One try only: the caller repeats by itself.
    pub(crate) fn once(mut self) -> Self {
        self.may_repeat = false;
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| ClientError::Config { why: format!("{value:?} cannot be sent as {name}") })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(crate) fn query(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.url.query_pairs_mut().append_pair(name, &value.to_string());
        self
    }

    pub(crate) fn maybe(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        let bytes = serde_json::to_vec(body).map_err(|e| ClientError::Config { why: e.to_string() })?;
        self.body = Some(bytes.into());
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self)
    }

    pub(crate) fn bytes(mut self, body: Bytes, content_type: &'static str) -> Self {
        self.body = Some(body);
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.url.path())
    }
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// [`ClientError::Config`] when address or token cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        if !matches!(config.base.scheme(), "http" | "https") || config.base.cannot_be_a_base() {
            return Err(ClientError::Config { why: format!("{} is not an http address", config.base) });
        }
        // An error means that the same provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = &config.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0))
                .map_err(|_| ClientError::Config { why: "the token holds forbidden characters".into() })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/problem+json"));
        let http = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            // A token must not follow a redirect to somewhere else.
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            .build()
            .map_err(|e| ClientError::Config { why: e.to_string() })?;
        Ok(Client { http, config: Arc::new(config) })
    }

    /// Its settings.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Starts a call of a route below the base, with the values of its parameters, which are escaped.
    pub(crate) fn call(&self, method: Method, route: &str, values: &[&str]) -> Result<Call, ClientError> {
        let mut url = self.config.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Config { why: "the address has no path".into() })?
            .pop_if_empty()
            .extend(segments(route, values));
        let may_repeat = method.is_idempotent();
        let mut headers = HeaderMap::new();
        splitreel_telemetry::http::propagate(&mut headers);
        Ok(Call { method, url, headers, body: None, may_repeat, timeout: None })
    }

    /// Makes the call and reads its answer.
    pub(crate) async fn answer<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let what = call.name();
        let response = self.send(call).await?;
        let bytes = response.bytes().await.map_err(|e| no_answer(&what, e))?;
        serde_json::from_slice(&bytes).map_err(|e| ClientError::Unreadable { what, why: e.to_string() })
    }

    /// Makes the call; the answer has no body that matters.
    pub(crate) async fn done(&self, call: Call) -> Result<(), ClientError> {
        self.send(call).await.map(drop)
    }

    /// Makes the call, again where that is allowed and may help. Answers a successful (or 3xx) response.
    pub(crate) async fn send(&self, call: Call) -> Result<Response, ClientError> {
        let what = call.name();
        let max_tries = if call.may_repeat { self.config.max_tries.max(1) } else { 1 };
        let mut tried = 0;
        loop {
            tried += 1;
            let mut request = self.http.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
            request = request.timeout(call.timeout.unwrap_or(self.config.timeout));
            if let Some(body) = &call.body {
                request = request.body(body.clone());
            }
            let (error, outcome) = match request.send().await {
                Ok(response) if !is_failure(response.status()) => return Ok(response),
                Ok(response) => {
                    let wish = retry_after(response.headers());
                    let outcome = Outcome::Status(response.status().as_u16(), wish);
                    (self.refused(&what, response).await, outcome)
                }
                Err(error) => (no_answer(&what, error), Outcome::NoAnswer),
            };
            match pause(outcome, tried, max_tries, chance()) {
                Some(pause) => {
                    tracing::debug!(call = what, tried, %error, "call failed; retrying");
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error),
            }
        }
    }

    /// Opens a stream: one try, no time-out but that of connecting.
    pub(crate) async fn open(&self, call: Call) -> Result<Response, ClientError> {
        let what = call.name();
        let mut request = self.http.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
        if let Some(body) = call.body {
            request = request.body(body);
        }
        let sent = tokio::time::timeout(self.config.timeout, request.send()).await.map_err(|e| no_answer(&what, e))?;
        let response = sent.map_err(|e| no_answer(&what, e))?;
        if is_failure(response.status()) {
            return Err(self.refused(&what, response).await);
        }
        Ok(response)
    }

    async fn refused(&self, what: &str, response: Response) -> ClientError {
        let status = response.status();
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.starts_with(PROBLEM_JSON));
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if is_problem => ClientError::Problem(Box::new(problem)),
            _ => ClientError::Unreadable { what: what.to_owned(), why: format!("status {status} without a problem") },
        }
    }
}

fn is_failure(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Any number: spreads retries, decides nothing.
pub(crate) fn chance() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

fn no_answer(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::NoAnswer { what: what.to_owned(), source: Box::new(source) }
}
