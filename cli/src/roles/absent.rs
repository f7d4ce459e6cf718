//! The cluster's roles in a build without them: their commands are still known, and say how to get them.

use crate::config::Config;
use crate::exit::{Exit, Problem};
use crate::features;
use clap::Args;
use std::ffi::OsString;

/// Arguments of a command that is not in this build: whatever is given.
#[derive(Clone, Debug, Default, Args)]
pub struct AbsentArgs {
    #[arg(hide = true, allow_hyphen_values = true, trailing_var_arg = true)]
    _given: Vec<OsString>,
}

pub type CoordinatorArgs = AbsentArgs;
pub type WorkerArgs = AbsentArgs;
pub type AssemblerArgs = AbsentArgs;

/// `coordinator`.
pub async fn coordinator(_: &Config, _: AbsentArgs, _: bool) -> Result<Exit, Problem> {
    Err(features::needs_cluster("splitreel coordinator"))
}

/// `worker`.
pub async fn worker(_: &Config, _: AbsentArgs, _: bool) -> Result<Exit, Problem> {
    Err(features::needs_cluster("splitreel worker"))
}

/// `assembler`.
pub async fn assembler(_: &Config, _: AbsentArgs, _: bool) -> Result<Exit, Problem> {
    Err(features::needs_cluster("splitreel assembler"))
}
