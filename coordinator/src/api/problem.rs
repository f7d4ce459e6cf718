//! Refusals of the routes beside the API's own, as problem documents (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use splitreel_backend::StoreError;
use splitreel_client::problem::{Code, Mistake, PROBLEM_JSON, Problem};

/// A request that is refused.
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

    /// Something behind the API did not answer.
    pub(crate) fn unavailable(detail: &str) -> Self {
        ApiError(Box::new(Problem::new(Code::Unavailable, detail).retry_after(5)))
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => {
                tracing::warn!(error = %source, "a request failed on the database");
                ApiError::unavailable("")
            }
            error @ StoreError::Corrupt { .. } => {
                tracing::error!(%error, "a request failed on what is stored");
                ApiError::new(Code::Internal, "")
            }
            StoreError::PlanVersion { version } => ApiError::new(
                Code::NotPlanned,
                format!("The plan has format version {version}, which is not read here."),
            ),
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
