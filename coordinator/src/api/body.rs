//! Bodies, query parameters and path parameters of requests: mistakes are answered as problems, all at once.

use super::problem::{ApiError, invalid};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use splitreel_client::problem::{Code, Mistake, pointer_of};

/// Maximum number of mistakes listed.
const MAX_MISTAKES: usize = 32;

/// A JSON body. Reading stops at the route's body limit; nesting deeper than 128 is refused by the parser.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        if !is_json && !bytes.is_empty() {
            return Err(ApiError::new(Code::UnsupportedMediaType, ""));
        }
        parse(&bytes).map(Body)
    }
}

/// A JSON body that may be missing, which is the same as `{}`.
pub(crate) struct MaybeBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        if bytes.is_empty() {
            return parse(b"{}").map(MaybeBody);
        }
        if !is_json {
            return Err(ApiError::new(Code::UnsupportedMediaType, ""));
        }
        parse(&bytes).map(MaybeBody)
    }
}

/// Query parameters.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(QueryParams(params)),
            Err(error) => Err(ApiError::new(Code::BadRequest, error.body_text())),
        }
    }
}

/// Path parameters: a text that cannot be one names nothing.
pub(crate) struct PathParams<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(PathParams(names)),
            Err(_) => Err(ApiError::new(Code::NotFound, "")),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return false };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unreadable(error: BytesRejection) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::new(Code::TooLarge, "")
    } else {
        ApiError::new(Code::BadRequest, error.body_text())
    }
}

/// Reads JSON into a type. Each mistake is noted and taken out of the document, until none is left to find.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let first = serde_json::Deserializer::from_slice(bytes);
    let mut first = first;
    match serde_path_to_error::deserialize::<_, T>(&mut first) {
        Ok(value) => {
            return first.end().map(|()| value).map_err(|e| ApiError::new(Code::BadJson, e.to_string()));
        }
        Err(error) if !error.inner().is_data() => return Err(ApiError::new(Code::BadJson, error.inner().to_string())),
        Err(_) => {}
    }
    let mut document: Value = serde_json::from_slice(bytes).map_err(|e| ApiError::new(Code::BadJson, e.to_string()))?;
    let mut mistakes = Vec::new();
    while mistakes.len() < MAX_MISTAKES {
        let Err(error) = serde_path_to_error::deserialize::<_, T>(&document) else { break };
        let message = error.inner().to_string();
        let mut pointer = pointer_of(&error.path().to_string());
        // An unknown field is reported at its parent.
        if let Some(field) = message.strip_prefix("unknown field `").and_then(|m| m.split('`').next())
            && !pointer.ends_with(&format!("/{field}"))
        {
            pointer = format!("{pointer}/{field}");
        }
        let is_removed = remove(&mut document, &pointer);
        mistakes.push(Mistake { pointer, message, hint: String::new() });
        if !is_removed {
            break;
        }
    }
    Err(invalid(mistakes))
}

/// The body as a document; the caller gets the message of the parser.
pub(crate) fn document<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    body.map(|Json(document)| document).map_err(|rejection| match rejection {
        JsonRejection::JsonDataError(error) => ApiError::invalid([(String::new(), error.body_text())]),
        JsonRejection::JsonSyntaxError(error) => ApiError::new(Code::BadJson, error.body_text()),
        JsonRejection::MissingJsonContentType(_) => ApiError::new(Code::UnsupportedMediaType, ""),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Code::TooLarge, ""),
        other => ApiError::new(Code::BadRequest, other.body_text()),
    })
}

fn remove(document: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&last.replace("~1", "/").replace("~0", "~")).is_some(),
        Some(Value::Array(items)) => match last.parse::<usize>() {
            Ok(at) if at < items.len() => {
                items.remove(at);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_client::types::JobCreate;

    fn pointers(json: &str) -> Vec<String> {
        let Err(ApiError(problem)) = parse::<JobCreate>(json.as_bytes()) else { panic!("{json} was taken") };
        assert_eq!(problem.code, "invalid");
        problem.errors.into_iter().map(|e| e.pointer).collect()
    }

    #[test]
    fn all_mistakes_are_told_with_their_places() {
        let json = r#"{"source": 7, "sorce": "x", "priority": "urgent",
                       "profile": {"name": "p", "video": {"codec": "h264", "rungs": [{"height": "tall"}], "x": 1}}}"#;
        let found = pointers(json);
        for expected in ["/source", "/sorce", "/priority", "/profile/video/x"] {
            assert!(found.iter().any(|p| p == expected), "{expected} is not among {found:?}");
        }
        assert!(found.iter().any(|p| p.starts_with("/profile/video/rungs/0")), "{found:?}");
    }

    #[test]
    fn what_is_not_json_is_no_list_of_mistakes() {
        for json in ["", "{", "{}{}", "\u{0}", &"[".repeat(100_000)] {
            let Err(ApiError(problem)) = parse::<JobCreate>(json.as_bytes()) else { panic!("{json} was taken") };
            assert!(["bad_json", "invalid"].contains(&problem.code.as_str()), "{problem}");
        }
        let deep = format!("{{\"profile\":{}{}}}", "{\"a\":".repeat(200), "}".repeat(200));
        let Err(ApiError(problem)) = parse::<JobCreate>(deep.as_bytes()) else { panic!("it was taken") };
        assert_eq!(problem.status / 100, 4);
    }
}
