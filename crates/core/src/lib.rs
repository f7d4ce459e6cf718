//! Pure domain of splitreel: words, media time, profiles, plans, task transitions, checks.
//!
//! Nothing here knows a clock, a socket, a file or a random number: time is an argument, facts come
//! in as values, decisions go out as values.

#![forbid(unsafe_code)]

pub mod assembly;
pub mod captions;
pub mod cicp;
pub mod clock;
pub mod content;
pub mod deadline;
pub mod digest;
pub mod event;
pub mod failure;
pub mod fair;
#[cfg(any(test, feature = "testing"))]
pub mod fixture;
pub mod id;
pub mod job;
pub mod key;
pub mod ladder;
pub mod levels;
pub mod measure;
pub mod names;
pub mod part;
pub mod plan;
pub mod planner;
pub mod profile;
pub mod ranges;
pub mod side_data;
pub mod source;
pub mod speculate;
pub mod stamping;
pub mod stated;
pub mod task;
pub mod time;
pub mod trace;

pub use cicp::{ColorCodes, VideoRange};
pub use failure::{Failure, FailureClass, FailureCode};
pub use id::{JobId, LeaseId, TaskId, WorkerId};
pub use plan::MediaKind;
pub use time::{MediaTime, Rational};
pub use trace::Trace;
