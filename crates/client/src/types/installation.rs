//! Tenants, workers, and how busy the installation is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a tenant may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantSettings {
    /// Share of the places in relation to other tenants' weights, 1 to 1000.
    pub weight: u32,
    /// Maximum number of tasks in flight (notified or running) for workers, and the same number again for assemblers; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Jobs that have not ended; any number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_open_jobs: Option<u32>,
    /// Requests per second and token, 1 to 100000; the installation's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Where the tenant's sources may be: a source's place must start with one of these; anywhere when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_prefixes: Option<Vec<String>>,
}

impl Default for TenantSettings {
    fn default() -> Self {
        TenantSettings {
            weight: 1,
            max_in_flight: None,
            max_open_jobs: None,
            requests_per_second: None,
            source_prefixes: None,
        }
    }
}

/// A tenant that has settings of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Name: 1 to 64 letters, digits, `.`, `-`, `_`.
    pub tenant: String,
    /// Its settings.
    pub settings: TenantSettings,
    /// Version: what the ETag is made of.
    pub version: i64,
}

/// Tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantList {
    /// By name.
    pub tenants: Vec<Tenant>,
}

/// A worker or assembler, by its announcement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// Name of the process incarnation.
    pub worker: String,
    /// Version of its program.
    pub version: String,
    /// Attempts at the same time.
    pub slots: u32,
    /// Labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// What it can do: encoders and the like.
    pub capabilities: Vec<String>,
    /// Since when its control stream stands.
    pub connected_ms: i64,
    /// When the coordinator last knew that the stream stood.
    pub seen_ms: i64,
    /// Whether the stream stands, as far as that can be known.
    pub is_live: bool,
    /// It was asked to finish its work and exit.
    pub is_draining: bool,
}

/// Workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<WorkerView>,
}

/// How much work there is and who is there for it: for autoscalers that read a number out of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Autoscale {
    /// Tasks of open jobs that are not done, waiting or running; paused jobs are left out.
    pub open_tasks: u64,
    /// Open jobs that are not paused.
    pub open_jobs: u64,
    /// Slots of all live workers that are not draining.
    pub slots: u64,
    /// Live workers that are not draining.
    pub workers: u64,
    /// How many workers the open tasks are worth, by the given `slots_per_worker`.
    pub suggested_workers: u64,
}
