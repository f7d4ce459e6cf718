//! Keys of stored objects. Objects of a job lie below [`job_prefix`], those of one attempt below its [`AttemptPrefix`];
//! this module alone writes and reads the form of both.

use crate::id::{JobId, LeaseId, TaskId};
use std::fmt;
use std::str::FromStr;

/// Prefix of all objects of all jobs.
pub const JOBS_PREFIX: &str = "jobs/";

/// Prefix of all objects of a job: `jobs/JOB/`.
pub fn job_prefix(job: JobId) -> String {
    format!("{JOBS_PREFIX}{job}/")
}

/// Prefix of the objects that one attempt stores: `jobs/JOB/TASK/ATTEMPT-LEASE/`. No two attempts share one, so that a
/// superseded attempt overwrites nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptPrefix {
    /// The task, with its job.
    pub task: TaskId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Lease of the attempt.
    pub lease: LeaseId,
}

/// A text is not the prefix of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not jobs/JOB/TASK/ATTEMPT-LEASE/")]
pub struct AttemptPrefixError;

impl fmt::Display for AttemptPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskId { job, number } = self.task;
        write!(f, "{JOBS_PREFIX}{job}/{number}/{}-{}/", self.attempt, self.lease)
    }
}

impl FromStr for AttemptPrefix {
    type Err = AttemptPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (job, rest) = text.strip_prefix(JOBS_PREFIX)?.split_once('/')?;
            let (number, rest) = rest.split_once('/')?;
            let (attempt, lease) = rest.strip_suffix('/')?.split_once('-')?;
            let task = TaskId { job: job.parse().ok()?, number: number.parse().ok()? };
            Some(AttemptPrefix { task, attempt: attempt.parse().ok()?, lease: lease.parse().ok()? })
        };
        // Numbers and UUIDs have other spellings, too; keys have one.
        read().filter(|prefix| prefix.to_string() == text).ok_or(AttemptPrefixError)
    }
}

impl AttemptPrefix {
    /// Splits an object key into the prefix of its attempt and the name below it; `None` for keys of another form.
    pub fn split(key: &str) -> Option<(Self, &str)> {
        let (end, _) = key.match_indices('/').nth(3)?;
        let (prefix, name) = key.split_at_checked(end + 1)?;
        Some((prefix.parse().ok()?, name)).filter(|_| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const JOB: &str = "00000000-0000-0000-0000-00000000000a";
    const LEASE: &str = "00000000-0000-0000-0000-00000000000b";

    fn prefix(job: u128, number: u32, attempt: u32, lease: u128) -> AttemptPrefix {
        let task = TaskId { job: JobId(Uuid::from_u128(job)), number };
        AttemptPrefix { task, attempt, lease: LeaseId(Uuid::from_u128(lease)) }
    }

    /// Stored objects have these keys: the form may not change.
    #[test]
    fn a_prefix_is_written_in_its_stored_form() {
        let written = prefix(10, 3, 2, 11).to_string();
        assert_eq!(written, format!("jobs/{JOB}/3/2-{LEASE}/"));
        assert!(written.starts_with(&job_prefix(JobId(Uuid::from_u128(10)))));
    }

    #[test]
    fn other_spellings_are_no_prefix() {
        for bad in [
            String::new(),
            format!("jobs/{JOB}/3/2-{LEASE}"),
            format!("jobs/{JOB}/3/2-{LEASE}/x"),
            format!("jobs/{JOB}/3/2-{LEASE}//"),
            format!("/jobs/{JOB}/3/2-{LEASE}/"),
            format!("jobs/{JOB}/03/2-{LEASE}/"),
            format!("jobs/{JOB}/3/+2-{LEASE}/"),
            format!("jobs/{JOB}/3/-{LEASE}/"),
            format!("jobs/{JOB}/4294967296/2-{LEASE}/"),
            format!("jobs/{JOB}/3/2-{}/", LEASE.to_uppercase()),
            format!("jobs/{}/3/2-{LEASE}/", JOB.replace('-', "")),
        ] {
            assert_eq!(bad.parse::<AttemptPrefix>(), Err(AttemptPrefixError), "{bad}");
        }
    }

    #[test]
    fn a_key_without_a_name_or_a_prefix_is_not_split() {
        let of = prefix(10, 3, 2, 11);
        assert_eq!(AttemptPrefix::split(&format!("{of}v/720p/init.mp4")), Some((of, "v/720p/init.mp4")));
        for bad in [of.to_string(), format!("jobs/{JOB}/3/x"), "ä/ö/ü/é/x".to_owned(), "x".to_owned()] {
            assert_eq!(AttemptPrefix::split(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(job: u128, number: u32, attempt: u32, lease: u128, name in "[a-z/.]{1,20}") {
            let written = prefix(job, number, attempt, lease);
            prop_assert_eq!(written.to_string().parse(), Ok(written));
            let key = format!("{written}{name}");
            prop_assert_eq!(AttemptPrefix::split(&key), Some((written, name.as_str())));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            if let Some((prefix, name)) = AttemptPrefix::split(&text) {
                prop_assert_eq!(format!("{prefix}{name}"), text);
            }
        }
    }
}
