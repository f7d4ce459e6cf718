//! Reading stored plans. A plan of another format version is an error of its own: it is never guessed at.

use super::{PLAN_VERSION, Plan};
use serde::Deserialize;

/// Why a stored plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Written by an older version: its job has to be planned again.
    #[error("the plan has format version {version}; this version reads {PLAN_VERSION}")]
    Outdated {
        /// Format version of the stored plan.
        version: u32,
    },
    /// Written by a newer version.
    #[error("the plan has format version {version}, which is newer than {PLAN_VERSION}")]
    Newer {
        /// Format version of the stored plan.
        version: u32,
    },
    /// Not a plan.
    #[error("the plan is not readable")]
    Unreadable(#[from] serde_json::Error),
}

impl Plan {
    /// Reads a stored plan.
    ///
    /// # Errors
    /// [`PlanError`]; the format version is looked at first.
    pub fn decode(json: &[u8]) -> Result<Plan, PlanError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        match serde_json::from_slice::<Head>(json)?.version {
            PLAN_VERSION => Ok(serde_json::from_slice(json)?),
            version if version < PLAN_VERSION => Err(PlanError::Outdated { version }),
            version => Err(PlanError::Newer { version }),
        }
    }
}
