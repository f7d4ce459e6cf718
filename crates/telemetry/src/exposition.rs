//! The recorder of this process and its text for Prometheus. Does not say who may read it.

use crate::catalogue::CATALOGUE;
use crate::grammar::Kind;
use crate::labels::Role;
use crate::record;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Why metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExpositionError {
    /// The recorder does not accept the buckets of a metric.
    #[error("the recorder refuses the buckets of {metric}")]
    Buckets {
        /// Which metric.
        metric: &'static str,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// This process has a recorder already.
    #[error("metrics are set up already")]
    Installed,
}

/// What has been recorded, as text.
#[derive(Clone)]
pub struct Exposition {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Exposition {
    /// Makes this process record, once, and sets the counters of its roles to zero.
    pub fn install(roles: &[Role], version: &str) -> Result<Self, ExpositionError> {
        let (recorder, exposition) = recorder()?;
        metrics::set_global_recorder(recorder).map_err(|_| ExpositionError::Installed)?;
        prime(roles, version);
        Ok(exposition)
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves observations into their buckets. To be called every few seconds, or a process that is never scraped
    /// keeps every observation.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// A recorder with the buckets of the catalogue, and what it will have recorded: for use without
/// [`Exposition::install`], by `metrics::with_local_recorder`.
pub fn recorder() -> Result<(PrometheusRecorder, Exposition), ExpositionError> {
    let mut builder = PrometheusBuilder::new();
    for metric in CATALOGUE.iter().filter(|metric| metric.kind == Kind::Histogram) {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
            .map_err(|source| ExpositionError::Buckets { metric: metric.name, source })?;
    }
    let recorder = builder.build_recorder();
    let exposition = Exposition { handle: recorder.handle() };
    Ok((recorder, exposition))
}

/// Describes every metric that one of the roles records, and creates its counters at zero.
pub fn prime(roles: &[Role], version: &str) {
    for metric in CATALOGUE.iter().filter(|metric| metric.recorded_by.iter().any(|role| roles.contains(role))) {
        match metric.kind {
            Kind::Counter => {
                metrics::describe_counter!(metric.name, metric.help);
                record::zero(metric);
            }
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    record::build_info(version);
}
