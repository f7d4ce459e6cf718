//! What this build of the program can do. Without the feature `cluster`, commands that need it name what to use instead.

#[cfg(not(feature = "cluster"))]
use crate::exit::Problem;

/// Version, and what is missing of the full program.
pub const VERSION: &str = if cfg!(feature = "cluster") {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (without cluster)")
};

/// What `--help` and `doctor` say of a build without the roles of a cluster.
#[cfg(not(feature = "cluster"))]
pub const WITHOUT_CLUSTER: &str = "This build runs on one machine: coordinator, worker and assembler are not in it.";

/// How to get the full program.
#[cfg(not(feature = "cluster"))]
const HOW: &str = "use a packaged binary or image, or build one: cargo build --release --locked --package splitreel";

/// The problem of a command that is not in this build.
#[cfg(not(feature = "cluster"))]
pub fn needs_cluster(what: &str) -> Problem {
    Problem::usage(format!("{what} is not in this build, which has no support for a cluster")).line(HOW)
}
