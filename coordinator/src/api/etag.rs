//! Versions of records as entity tags (RFC 9110 §8.8.3), and the conditions of changes.

use super::problem::ApiError;
use axum::http::{HeaderMap, header};
use splitreel_backend::records::Expect;
use splitreel_client::problem::Code;

/// The tag of a version.
pub(crate) fn etag(version: i64) -> String {
    format!("\"v{version}\"")
}

fn version_of(tag: &str) -> Option<i64> {
    tag.strip_prefix("\"v")?.strip_suffix('"')?.parse().ok()
}

/// The version that a change expects by If-Match and If-None-Match; `None`: the request has no condition.
pub(crate) fn expected_version(headers: &HeaderMap) -> Result<Option<Expect>, ApiError> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or_default().trim().to_owned());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some(tag)) if tag == "*" => Ok(Some(Expect::Absent)),
        (Some(tag), None) => match version_of(&tag) {
            Some(version) => Ok(Some(Expect::Version(version))),
            // A tag that was never given out matches nothing.
            None => Err(ApiError::new(Code::Changed, "If-Match takes one ETag as it was given.")),
        },
        _ => Err(ApiError::new(Code::BadRequest, "Use If-Match with an ETag, or If-None-Match: *.")),
    }
}

/// Compares `If-Match`, if it was sent, with the version that is there.
pub(crate) fn match_version(headers: &HeaderMap, version: i64) -> Result<(), ApiError> {
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let tag = format!("\"{version}\"");
    let is_match = wanted.to_str().is_ok_and(|tags| tags.split(',').any(|t| t.trim() == tag || t.trim() == "*"));
    if is_match { Ok(()) } else { Err(ApiError::new(Code::Changed, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_expectations() {
        let of = |name, value: &str| expected_version(&HeaderMap::from_iter([(name, value.parse().unwrap())]));
        assert_eq!(of(header::IF_MATCH, &etag(7)).unwrap(), Some(Expect::Version(7)));
        assert_eq!(of(header::IF_NONE_MATCH, "*").unwrap(), Some(Expect::Absent));
        assert_eq!(of(header::IF_MATCH, "\"x\"").unwrap_err().0.status, 412);
        assert_eq!(of(header::IF_NONE_MATCH, "\"v1\"").unwrap_err().0.status, 400);
        assert_eq!(expected_version(&HeaderMap::new()).unwrap(), None);
    }
}
