//! Triggers: jobs that start by themselves when something is uploaded. Every source of hints (events by HTTP or by
//! queue, the bucket poller, the watch folder) leads to the one [`Intake`], which lets storage and the job store decide.

mod event;
mod folder;
mod inbox;
mod intake;
mod key;
mod poller;
mod rule;
mod watch;

pub use event::{ConfirmNeeded, MAX_DOCUMENT_BYTES, ParseError, Parsed, UploadEvent, parse};
pub use folder::{Looks, SeenFile, is_ignored_name};
pub use inbox::{DocumentError, listen};
pub use intake::{Intake, IntakeError, Outcome, RULE_KIND};
pub use poller::{PollConfig, PollState, Poller};
pub use rule::{NamedRule, Place, RuleError, RuleSet, Verdict, validate};
pub use splitreel_client::types::{Rule, RuleList, StoredRule};
pub use watch::{FolderWatch, WatchConfig, WatchError};

pub(crate) use intake::counted;
