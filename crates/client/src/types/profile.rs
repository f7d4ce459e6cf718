//! Profiles as the service keeps them.

use serde::{Deserialize, Serialize};
use splitreel_core::profile::Profile;
use utoipa::ToSchema;

/// A version of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProfileView {
    /// Name.
    pub name: String,
    /// Version, from 1; 0 for the built-in ones, which cannot be changed.
    pub version: u32,
    /// It came with the program.
    pub is_built_in: bool,
    /// When this version was saved; absent for the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_ms: Option<i64>,
    /// The settings.
    pub profile: Profile,
}

/// Profiles: the newest version of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProfileList {
    /// Built-in ones first, then by name.
    pub profiles: Vec<ProfileView>,
}
