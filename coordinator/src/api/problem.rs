//! Errors of the API as problem documents (RFC 9457), and how errors of the services become such.

use crate::accept::AcceptError;
use crate::directory::DirectoryError;
use crate::presentations::PresentationError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use splitreel_backend::StoreError;
use splitreel_backend::grants::GrantError;
use splitreel_backend::whole::ReadError;
use splitreel_client::problem::{Code, Mistake, PROBLEM_JSON, Problem};

/// The error of a request: a problem document with its status.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Box<Problem>);

impl ApiError {
    /// By a code of the common table.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        ApiError(Box::new(Problem::new(code, detail)))
    }

    /// By a code of the caller's own.
    pub(crate) fn other(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        let mut problem = Problem::new(Code::BadRequest, detail);
        problem.status = status.as_u16();
        problem.code = code.to_owned();
        problem.title = title.to_owned();
        ApiError(Box::new(problem))
    }

    pub(crate) fn unauthenticated() -> Self {
        ApiError::new(Code::Unauthenticated, "")
    }

    pub(crate) fn scope_missing(scope: &str) -> Self {
        ApiError::new(Code::Forbidden, format!("It needs the scope `{scope}`."))
    }

    /// No such thing, or none that this caller sees.
    pub(crate) fn not_found(what: &str) -> Self {
        ApiError::new(Code::NotFound, format!("This {what} is not known."))
    }

    /// All mistakes of a document: pointer and message.
    pub(crate) fn invalid(mistakes: impl IntoIterator<Item = (String, String)>) -> Self {
        let mistake = |(pointer, message)| Mistake { pointer, message, hint: String::new() };
        ApiError(Box::new(Problem::new(Code::Invalid, "").with_errors(mistakes.into_iter().map(mistake).collect())))
    }

    /// A service behind the API did not answer.
    pub(crate) fn unavailable(detail: &str) -> Self {
        ApiError(Box::new(Problem::new(Code::Unavailable, detail).retry_after(5)))
    }

    /// A source cannot be pinned.
    pub(crate) fn of_source(error: GrantError) -> Self {
        match error {
            GrantError::NotFound { .. } => ApiError::new(Code::SourceNotFound, ""),
            GrantError::Unusable { why, .. } => ApiError::new(Code::SourceUnusable, why),
            GrantError::Unavailable { source, .. } => {
                tracing::warn!(error = %source, "request failed: source could not be pinned");
                ApiError::unavailable("Storage did not answer.")
            }
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The error of a request with mistakes.
pub(crate) fn invalid(mistakes: Vec<Mistake>) -> ApiError {
    ApiError(Box::new(Problem::new(Code::Invalid, "").with_errors(mistakes)))
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => {
                tracing::warn!(error = %source, "request failed: store unavailable");
                ApiError::unavailable("")
            }
            error @ StoreError::Corrupt { .. } => {
                tracing::error!(%error, "request failed: stored data is corrupt");
                ApiError::new(Code::Internal, "")
            }
            StoreError::PlanVersion { version } => ApiError::new(
                Code::NotPlanned,
                format!("The plan has format version {version}, which is not read here."),
            ),
        }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Invalid(mistakes) => invalid(mistakes),
            DirectoryError::NotFound { what } => ApiError::not_found(what),
            DirectoryError::Changed => ApiError::new(Code::Changed, ""),
            DirectoryError::Exists => ApiError::new(Code::Exists, ""),
            DirectoryError::VersionMissing => ApiError::new(Code::PreconditionRequired, ""),
            DirectoryError::ReadOnly { detail } => ApiError::new(Code::ReadOnly, detail),
            DirectoryError::Forbidden { detail } => ApiError::new(Code::Forbidden, detail),
            DirectoryError::NoRandomness => {
                tracing::error!("request failed: random number generator unavailable");
                ApiError::unavailable("Random number generator unavailable.")
            }
            DirectoryError::Store(error) => error.into(),
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::QuotaExceeded { max } => {
                let problem = Problem::new(Code::QuotaExceeded, format!("At most {max} open jobs."));
                ApiError(Box::new(problem.retry_after(30)))
            }
            AcceptError::KeyReused { .. } => ApiError::new(Code::KeyReused, ""),
            AcceptError::Source(error) => ApiError::of_source(error),
            AcceptError::Store(error) => error.into(),
        }
    }
}

impl From<PresentationError> for ApiError {
    fn from(error: PresentationError) -> Self {
        match error {
            PresentationError::NotPublished { state } => {
                ApiError::new(Code::NotPublished, format!("It is {}.", state.as_str()))
            }
            PresentationError::Object(error @ ReadError::Damaged { .. }) => {
                tracing::error!(%error, "request failed: stored object is damaged");
                ApiError::new(Code::Internal, "")
            }
            PresentationError::Object(ReadError::Blob(error)) => {
                tracing::warn!(%error, "request failed: stored object cannot be read");
                ApiError::unavailable("Storage did not answer.")
            }
            PresentationError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
