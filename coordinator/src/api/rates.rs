//! Request rates by token.

use super::problem::ApiError;
use crate::directory::Tenants;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use splitreel_backend::World;
use splitreel_backend::cache::Cache;
use splitreel_client::problem::{Code, Problem};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Number of tokens whose rate is counted; the least recently used makes room.
const MAX_TOKENS: usize = 10_000;

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

/// Request rates of all tokens.
pub(super) struct Rates {
    world: World,
    tenants: Tenants,
    default_rate: u32,
    /// By token, with the rate that the limiter was made for.
    limiters: Cache<String, (u32, Arc<Limiter>)>,
}

impl Rates {
    pub(super) fn new(world: World, tenants: Tenants, default_rate: u32) -> Self {
        Rates { world, tenants, default_rate, limiters: Cache::new(MAX_TOKENS) }
    }

    /// Counts a request of a token; 429 beyond the tenant's rate.
    pub(super) async fn admit(&self, token: &str, tenant: &str) -> Result<(), ApiError> {
        let rate = self.tenants.recent(tenant).await?.requests_per_second.unwrap_or(self.default_rate);
        let Err(not_until) = self.limiter(token, rate).check() else { return Ok(()) };
        let wait = not_until.wait_time_from(WorldClock(self.world.clone()).now());
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
        let problem = Problem::new(Code::RateLimited, format!("At most {rate} requests per second."));
        Err(ApiError(Box::new(problem.retry_after(seconds))))
    }

    fn limiter(&self, token: &str, rate: u32) -> Arc<Limiter> {
        let now = self.world.clock.now_ms();
        if let Some((_, limiter)) = self.limiters.get(token, now).filter(|(made_for, _)| *made_for == rate) {
            return limiter;
        }
        let per_second = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
        // Twice the rate at once: a page of the console sends several requests together.
        let quota =
            Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
        let limiter = Arc::new(RateLimiter::direct_with_clock(quota, WorldClock(self.world.clone())));
        self.limiters.put(token.to_owned(), (rate, Arc::clone(&limiter)), now);
        limiter
    }
}
