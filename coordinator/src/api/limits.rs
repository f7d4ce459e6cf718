//! What a token and a tenant may ask for: rates by token, settings by tenant, both looked up seldom.

use super::problem::ApiError;
use super::tenants::tenant_settings;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use splitreel_backend::{Records, StoreError, World};
use splitreel_client::problem::{Code, Problem};
use splitreel_client::types::TenantSettings;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Settings of a tenant are looked up again after this time.
const SETTINGS_KEPT_MS: i64 = 5_000;
/// Tokens and tenants that are remembered.
const REMEMBERED: usize = 10_000;

/// The service's clock as the limiter reads it.
#[derive(Clone)]
struct WorldClock(World);

impl GovernorClock for WorldClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.clock.now_ms()).unwrap_or(0))
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, WorldClock, NoOpMiddleware<Duration>>;

/// Limits of all tokens and tenants.
pub(crate) struct Limits {
    world: World,
    records: Arc<dyn Records>,
    default_rate: u32,
    limiters: Mutex<HashMap<String, (u32, Arc<Limiter>)>>,
    settings: Mutex<HashMap<String, (i64, TenantSettings)>>,
}

impl Limits {
    pub(crate) fn new(world: World, records: Arc<dyn Records>, default_rate: u32) -> Self {
        Limits { world, records, default_rate, limiters: Mutex::default(), settings: Mutex::default() }
    }

    /// A tenant's settings, at most a few seconds old.
    pub(crate) async fn settings(&self, tenant: &str) -> Result<TenantSettings, StoreError> {
        let now = self.world.clock.now_ms();
        let kept = self.settings.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        if let Some((at, settings)) = kept
            && now.saturating_sub(at) < SETTINGS_KEPT_MS
        {
            return Ok(settings);
        }
        let settings = tenant_settings(self.records.as_ref(), tenant).await?;
        let mut all = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(tenant.to_owned(), (now, settings.clone()));
        Ok(settings)
    }

    /// Forgets what was looked up: it was changed here.
    pub(crate) fn forget(&self, tenant: &str) {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }

    /// Counts a request of a token.
    pub(crate) async fn admit(&self, token: &str, tenant: &str) -> Result<(), ApiError> {
        let rate = self.settings(tenant).await?.requests_per_second.unwrap_or(self.default_rate);
        let limiter = self.limiter(token, rate);
        match limiter.check() {
            Ok(()) => Ok(()),
            Err(not_until) => {
                let wait = not_until.wait_time_from(WorldClock(self.world.clone()).now());
                let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
                let problem = Problem::new(Code::RateLimited, format!("At most {rate} requests per second."));
                Err(ApiError(Box::new(problem.retry_after(seconds))))
            }
        }
    }

    fn limiter(&self, token: &str, rate: u32) -> Arc<Limiter> {
        let mut all = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept, limiter)) = all.get(token)
            && *kept == rate
        {
            return Arc::clone(limiter);
        }
        if all.len() >= REMEMBERED {
            all.clear();
        }
        let per_second = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
        // Twice the rate at once: pages of the console load several things together.
        let quota =
            Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
        let limiter = Arc::new(RateLimiter::direct_with_clock(quota, WorldClock(self.world.clone())));
        all.insert(token.to_owned(), (rate, Arc::clone(&limiter)));
        limiter
    }
}
