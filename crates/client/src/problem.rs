//! Problem details (RFC 9457) and their stable codes: one table that the service answers from, clients compare
//! with and the documentation lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $word:literal $status:literal $title:literal;)*) => {
        /// What can go wrong, by a word that never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code, in the order of the status.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The word in a problem document.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $word,)* }
            }

            /// The HTTP status that it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// One sentence, the same each time.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" 400 "The request cannot be understood.";
    BadJson "bad_json" 400 "The body is not JSON.";
    Unauthenticated "unauthenticated" 401 "A valid token is needed.";
    Forbidden "forbidden" 403 "The token does not allow this.";
    GrantExpired "grant_expired" 403 "The link has expired.";
    NotFound "not_found" 404 "There is no such thing.";
    NotPlanned "not_planned" 404 "The job has no plan yet.";
    NotPublished "not_published" 404 "The job has published nothing yet.";
    MethodNotAllowed "method_not_allowed" 405 "This resource does not know the method.";
    Timeout "timeout" 408 "The request took too long.";
    Exists "exists" 409 "There is one already.";
    ReadOnly "read_only" 409 "This cannot be changed.";
    JobEnded "job_ended" 409 "The job has ended.";
    NothingToRetry "nothing_to_retry" 409 "Only a failed or cancelled job can be retried.";
    NotClaimable "not_claimable" 409 "There is nothing to claim: discard the wakeup.";
    LeaseLost "lease_lost" 409 "The lease is lost: drop everything.";
    Cancelled "cancelled" 409 "The job is cancelled or has ended: drop everything.";
    WorkerOutdated "worker_outdated" 409 "This worker is older than the coordinator accepts: start a newer one.";
    Changed "changed" 412 "It was changed by another in the meantime.";
    TooLarge "too_large" 413 "The body is too large.";
    UnsupportedMediaType "unsupported_media_type" 415 "The body must be application/json.";
    Range "range" 416 "The range lies outside of the file.";
    Invalid "invalid" 422 "Some fields are wrong.";
    KeyReused "key_reused" 422 "The Idempotency-Key was used before with another request.";
    SourceNotFound "source_not_found" 422 "The source does not exist.";
    SourceUnusable "source_unusable" 422 "The source cannot be used.";
    PreconditionRequired "precondition_required" 428 "Send `If-Match` with the ETag you are replacing.";
    RateLimited "rate_limited" 429 "Too many requests.";
    QuotaExceeded "quota_exceeded" 429 "The tenant has as many open jobs as it may.";
    Internal "internal" 500 "The service failed.";
    NoGrants "no_grants" 501 "This installation's storage cannot be reached from elsewhere.";
    Unavailable "unavailable" 503 "A service behind the API did not answer: try again.";
}

impl Code {
    /// Inverse of [`Code::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }
}

/// One mistake in a request: where, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mistake {
    /// JSON pointer (RFC 6901) into the body, or the name of a parameter or header.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Mistake {
    /// A mistake with its remedy.
    pub fn new(pointer: &str, message: impl Into<String>, hint: &str) -> Self {
        Mistake { pointer: pointer.to_owned(), message: message.into(), hint: hint.to_owned() }
    }
}

/// A path such as `video.rungs[1].crf` as a JSON pointer (RFC 6901).
pub fn pointer_of(path: &str) -> String {
    if path.is_empty() || path == "." {
        return String::new();
    }
    let mut pointer = String::new();
    for step in path.replace('[', ".").replace(']', "").split('.').filter(|s| !s.is_empty()) {
        pointer.push('/');
        pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{code}: {title}{}{detail}", if detail.is_empty() { "" } else { " " })]
pub struct Problem {
    /// Always `about:blank`: `code` identifies the problem.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// One sentence, the same for a code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable word; see the table in the documentation.
    pub code: String,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Every mistake that was found, where a request has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Mistake>,
    /// Seconds after which a repetition may succeed; the same as the header Retry-After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem of a code with what happened this time; the detail may be empty.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem {
            kind: "about:blank".to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.as_str().to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_seconds: None,
        }
    }

    /// The same with its mistakes.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<Mistake>) -> Self {
        self.errors = errors;
        self
    }

    /// The same with a time after which to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The code, if this version of the program knows it.
    pub fn known_code(&self) -> Option<Code> {
        Code::parse(&self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words_in_the_order_of_their_status() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].status() <= pair[1].status(), "{pair:?}");
        }
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!(code.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        }
    }

    #[test]
    fn a_problem_reads_well_and_survives_the_wire() {
        let p = Problem::new(Code::NotFound, "job 7").retry_after(3);
        assert_eq!(p.to_string(), "not_found: There is no such thing. job 7");
        let json = serde_json::to_string(&p).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), p);
        assert_eq!(Problem::new(Code::Timeout, "").to_string(), "timeout: The request took too long.");
    }

    #[test]
    fn pointers_follow_the_standard() {
        assert_eq!(pointer_of("video.rungs[1].crf"), "/video/rungs/1/crf");
        assert_eq!(pointer_of("."), "");
        assert_eq!(pointer_of("a/b"), "/a~1b");
    }
}
