//! What goes over the wire, by resource. Times are milliseconds since the Unix epoch unless a name says otherwise.

mod access;
mod installation;
mod job;
mod playback;
mod profile;
mod quote;
mod rule;
mod task;
mod upload;
mod work;

pub use access::{Scope, TokenCreate, TokenCreated, TokenList, TokenView, WhoAmI};
pub use installation::{Autoscale, Tenant, TenantList, TenantSettings, WorkerList, WorkerView};
pub use job::{
    EventList, FailureView, JobCreate, JobList, JobProgress, JobView, OutputView, ProfileChoice, TaskCounts, Waiting,
};
pub use playback::{FileList, FileView, PlaybackCreate, PlaybackGrant};
pub use profile::{ProfileList, ProfileView};
pub use quote::{Quote, QuoteBasis, QuoteRequest, Span};
pub use rule::{Rule, RuleFit, RuleList, RuleSaying, RuleTest, RuleVerdict, StoredRule};
pub use task::{AttemptOutcome, AttemptView, LeaseView, TaskList, TaskView};
pub use upload::{UploadAnswer, UploadState};
pub use work::{
    Claim, Claimed, Complete, Control, FILTER_WORD, Fail, ObjectGrants, ObjectToStore, ObjectsToRead, ObjectsToStore,
    PROTOCOL, Presence, Renew, Renewed,
};
